"""Trains of datagrams by UDP_SEGMENT (udp(7)), which no iperf3 of Debian 12 sends: their sender, and who counts them.

Run as `serve ADDRESS PORT`, which says "up" on standard output, or as `send ADDRESS PORT SECONDS KPPS SIZE`, which
sends so many thousand datagrams a second of SIZE octets, asks how many came, and prints that as JSON.
"""

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from typing import Final

_UDP_SEGMENT: Final = 103  # linux/udp.h
_UDP_GRO: Final = 104
_RCVBUFFORCE: Final = 33  # asm-generic/socket.h
_BUFFER: Final = 8 << 20  # octets
_TRAIN_OCTETS: Final = 60_000
_TRAIN: Final = 40  # datagrams, at most
_QUESTION: Final = b"count"
_ASKED: Final = 20  # times, since a question or its answer may be lost
_ANSWER_WITHIN: Final = 0.25  # seconds


def main() -> None:
    """What the arguments say."""
    what, address, port, *rest = sys.argv[1:]
    if what == "serve":
        _serve(address, int(port))
    else:
        seconds, kpps, size = float(rest[0]), float(rest[1]), int(rest[2])
        print(json.dumps(_send((address, int(port)), seconds, kpps * 1000, size)))


def _serve(address: str, port: int) -> None:
    """Count the octets of each sender, and tell one that asks."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        endpoint.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        endpoint.bind((address, port))
        print("up", flush=True)
        octets: dict[tuple[str, int], int] = {}
        buffer = bytearray(65535)
        while True:
            length, sender = endpoint.recvfrom_into(buffer)
            if buffer[:length] == _QUESTION:
                endpoint.sendto(str(octets.get(sender, 0)).encode(), sender)
            else:
                octets[sender] = octets.get(sender, 0) + length


def _send(to: tuple[str, int], seconds: float, rate: float, size: int) -> dict[str, float]:
    train = max(1, min(_TRAIN, _TRAIN_OCTETS // size))
    payload = [bytes(train * size)]
    ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.connect(to)
        _ask(endpoint)  # whoever asks for a verdict before anything passes has it from here on
        pause = threading.Event()
        began = time.monotonic()
        sent = 0
        while (passed := time.monotonic() - began) < seconds:
            if sent > passed * rate:
                pause.wait((sent - passed * rate) / rate)
            with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
                endpoint.sendmsg(payload, ancillary)
            sent += train
        return {"seconds": passed, "sent": sent, "received": _ask(endpoint) / size}


def _ask(endpoint: socket.socket) -> int:
    """How many octets have come from here; raises TimeoutError where nobody answers."""
    endpoint.settimeout(_ANSWER_WITHIN)
    for _ in range(_ASKED):
        endpoint.send(_QUESTION)
        with contextlib.suppress(TimeoutError, ConnectionRefusedError):
            answer = int(endpoint.recv(64))
            endpoint.settimeout(None)
            return answer
    raise TimeoutError("nobody answers")


if __name__ == "__main__":
    main()
