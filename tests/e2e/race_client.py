"""Resolve a name that nobody has asked for and connect to its address at once, again and again, many at a time.

Run as a program: RESOLVER TIMES WORKERS; says in one JSON object how often what came of it.
"""

import errno
import json
import socket
import struct
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

_PORT = 80
_FAMILY = {1: socket.AF_INET, 28: socket.AF_INET6}  # by the type of the record that leads there: A, AAAA
_TIMEOUT = 5.0  # seconds


def _query(number: int, kind: int) -> bytes:
    labels = (f"n{number}".encode(), b"fresh", b"test")
    qname = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + qname + struct.pack(">HH", kind, 1)


def _connect(resolver: str, number: int) -> str:
    """What came of one: "connected", or what went wrong."""
    kind = 28 if number % 2 else 1
    query = _query(number, kind)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, socket.socket(_FAMILY[kind]) as connecting:
        asking.settimeout(_TIMEOUT)
        connecting.settimeout(_TIMEOUT)
        asking.connect((resolver, 53))
        asking.send(query)
        try:
            answer = asking.recv(4096)
        except TimeoutError:
            return "no answer"
        octets = 16 if kind == 28 else 4
        # No name compression matters: with one record and no EDNS, the address is what the message ends with.
        if answer[3] & 0x0F or struct.unpack_from(">HH", answer, 6) != (1, 0) or answer[:2] != query[:2]:
            return f"rcode {answer[3] & 0x0F}"
        address = socket.inet_ntop(_FAMILY[kind], answer[-octets:])
        try:
            connecting.connect((address, _PORT))
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return "connected"


def main(resolver: str, times: str, workers: str) -> None:
    """As many times, so many at once."""
    with ThreadPoolExecutor(int(workers)) as pool:
        came = Counter(pool.map(lambda number: _connect(resolver, number), range(int(times))))
    print(json.dumps(came))


if __name__ == "__main__":
    main(*sys.argv[1:4])
