"""A UDP client to run in a captured network, as client.py is: one thing each, a JSON object on standard output.

Run as `python -m tests.e2e.udp_client ACTION ARGUMENT... [-- ACTION ARGUMENT...]...`
"""

import errno
import itertools
import json
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.internet.datagrams import account

Report = dict[str, Any]
SECONDS = 3.0
# linux/in.h and linux/in6.h, by address family: what Python does not name.
LEVEL = {socket.AF_INET: socket.IPPROTO_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
MTU_DISCOVER = {socket.AF_INET: 10, socket.AF_INET6: 23}
RECVERR = {socket.AF_INET: 11, socket.AF_INET6: 25}
MTU = {socket.AF_INET: 14, socket.AF_INET6: 24}
PMTUDISC_DO = 2
RCVBUFFORCE = 33
FLOWINFO, FLOWINFO_SEND = 11, 33


def _endpoint(host: str, port: str) -> tuple[socket.socket, Any]:
    family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    endpoint = socket.socket(family, socket.SOCK_DGRAM)
    endpoint.settimeout(SECONDS)
    return endpoint, address


def mirror(host: str, port: str, ttl: str, tos: str, label: str) -> Report:
    """Send a datagram with these in its IP header; what the server saw of it, and what came back with its answer."""
    endpoint, address = _endpoint(host, port)
    with endpoint:
        if endpoint.family == socket.AF_INET:
            options, wanted = ((socket.IP_TTL, ttl), (socket.IP_TOS, tos)), (12, 13)
        else:
            endpoint.setsockopt(socket.IPPROTO_IPV6, FLOWINFO_SEND, 1)
            options = ((socket.IPV6_UNICAST_HOPS, ttl), (socket.IPV6_TCLASS, tos))
            wanted = (51, 66, FLOWINFO)
            address = (*address[:2], int(label), 0)
        level = LEVEL[endpoint.family]
        for option, value in options:
            endpoint.setsockopt(level, option, int(value))
        for each in wanted:
            endpoint.setsockopt(level, each, 1)
        endpoint.sendto(f"{ttl} {tos} {label}".encode(), address)
        data, ancillary, _, _ = endpoint.recvmsg(2048, 256)
        seen = json.loads(data)
        seen["port"] = seen["port"] == endpoint.getsockname()[1]
        came = {kind: int.from_bytes(value, "big" if kind == FLOWINFO else "little") for _, kind, value in ancillary}
        if FLOWINFO in came:
            came[FLOWINFO] &= 0xFFFFF
        return {"there": seen, "here": [came[kind] for kind in sorted(came)]}


def path_mtu(host: str, port: str, size: str) -> Report:
    """Send a datagram that may not be fragmented; the error, and the path MTU that this machine has learned."""
    endpoint, address = _endpoint(host, port)
    with endpoint:
        level = LEVEL[endpoint.family]
        endpoint.setsockopt(level, MTU_DISCOVER[endpoint.family], PMTUDISC_DO)
        endpoint.connect(address)
        try:
            endpoint.send(bytes(int(size)))
            endpoint.recv(1)
            error = None
        except OSError as said:
            error = errno.errorcode.get(said.errno or 0, str(said))
        return {"error": error, "mtu": endpoint.getsockopt(level, MTU[endpoint.family])}


def upload(host: str, port: str, count: str, rate: str, size: str) -> Report:
    """Send numbered datagrams at that rate; the server's account of them."""
    endpoint, address = _endpoint(host, port)
    with endpoint:
        endpoint.connect(address)
        endpoint.send(b"count")  # the verdict is there before the stream is
        endpoint.recv(2048)
        began = time.monotonic()
        for number in range(int(count)):
            while number > (time.monotonic() - began) * int(rate):
                time.sleep(0.001)  # noqa: TID251 - a client of the network, not of our loop
            endpoint.send(number.to_bytes(8, "big").ljust(int(size), b"."))
        time.sleep(0.3)  # noqa: TID251 - so that "count" does not overtake anything
        endpoint.send(b"count")
        return json.loads(endpoint.recv(2048))  # type: ignore[no-any-return]


def download(host: str, port: str, count: str, rate: str, size: str) -> Report:
    """Have the server send numbered datagrams at that rate; an account of them."""
    endpoint, address = _endpoint(host, port)
    with endpoint:
        endpoint.setsockopt(socket.SOL_SOCKET, RCVBUFFORCE, 16 << 20)
        endpoint.connect(address)
        endpoint.send(f"send {count} {rate} {size}".encode())
        endpoint.settimeout(1)
        numbers = []
        try:
            while len(numbers) < int(count):
                numbers.append(int.from_bytes(endpoint.recv(2048)[:8], "big"))
        except TimeoutError:
            pass
        return account(numbers)


def steady(host: str, port: str, rate: str, seconds: str) -> Report:
    """A flow both ways, as a game has it: `rate` datagrams a second, each echoed; the gaps between the echoes."""
    endpoint, address = _endpoint(host, port)
    with endpoint:
        endpoint.connect(address)
        endpoint.send(b"first")
        endpoint.recv(64)
        endpoint.setblocking(False)
        period = 1 / int(rate)
        total = int(int(rate) * float(seconds))
        began = time.monotonic()
        numbers, times = [], []
        sent = 0
        while sent < total or (len(numbers) < total and time.monotonic() < began + float(seconds) + 1):
            due = began + sent * period if sent < total else time.monotonic() + 0.05
            if select.select([endpoint], [], [], max(0.0, due - time.monotonic()))[0]:
                numbers.append(int(endpoint.recv(64)))
                times.append(time.monotonic())
            elif sent < total:
                endpoint.send(b"%d" % sent)
                sent += 1
        gaps = sorted(after - before for before, after in itertools.pairwise(times))
        gap = round(gaps[-1], 4) if gaps else None
        return {**account(numbers), "sent": sent, "longest_gap": gap, "over_50_ms": sum(each > 0.05 for each in gaps)}


def groups(*addresses: str) -> Report:
    """Send a datagram to each group or broadcast address, as mDNS, SSDP and NetBIOS do; the errors, by address."""
    errors = {}
    for address in addresses:
        host, _, port = address.rpartition(":")
        endpoint, to = _endpoint(host, port)
        with endpoint:
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if endpoint.family == socket.AF_INET:
                endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
            else:
                endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
            try:
                endpoint.sendto(b"is anybody there?", to)
            except OSError as error:
                errors[address] = str(error)
    return {"errors": errors}


def raw(host: str, protocol: str, option: str = "", header: str = "") -> Report:
    """Send 32 octets of a protocol, perhaps behind an IPv6 extension header; the error that is told, if any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, int(protocol)) as endpoint:
        endpoint.settimeout(0.5)
        endpoint.setsockopt(LEVEL[family], RECVERR[family], 1)
        if option:
            endpoint.setsockopt(LEVEL[family], int(option), bytes.fromhex(header))
        try:
            endpoint.connect((host, 0))
            endpoint.send(bytes([13, 0]) + bytes(30))  # of ICMP: a request for a timestamp
            endpoint.recv(1)
            return {"error": None}
        except TimeoutError:
            return {"error": "timeout"}
        except OSError as error:
            return {"error": errno.errorcode.get(error.errno or 0, str(error))}


def frame(device: str, packet: str) -> Report:
    """Put an IPv6 packet, in hexadecimal, into a device, past the kernel's own stack."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as endpoint:
        return {"sent": endpoint.sendto(bytes.fromhex(packet), (device, 0x86DD))}


ACTIONS: dict[str, Callable[..., Report]] = {
    call.__name__: call for call in (mirror, path_mtu, upload, download, steady, groups, raw, frame)
}


def main() -> None:
    """Do one after the other."""
    words = sys.argv[1:]
    while words:
        end = words.index("--") if "--" in words else len(words)
        action, *arguments = words[:end]
        words = words[end + 1 :]
        try:
            report = ACTIONS[action](*arguments)
        except OSError as error:
            report = {"error": str(error)}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
