"""A client to run in a captured network: does one thing, says on standard output what came of it, a JSON object a line.

Errors are given by their name in errno(3), so that a test sees exactly what a program would.
"""

import errno
import hashlib
import json
import random
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

Report = dict[str, Any]
IP_RECVERR = (socket.IPPROTO_IP, 11)  # <linux/in.h>
IPV6_RECVERR = (socket.IPPROTO_IPV6, 25)  # <linux/in6.h>
IP_TTL = (socket.IPPROTO_IP, socket.IP_TTL)
IPV6_HOPS = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
ETH_P = {4: 0x0800, 6: 0x86DD}  # <linux/if_ether.h>


def _name(error: OSError) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "timeout"
    if isinstance(error, socket.gaierror):
        return str(error)
    return errno.errorcode.get(error.errno or 0, str(error))


def _timed(action: Callable[[], Report]) -> Report:
    start = time.monotonic()
    try:
        report = {"error": None, **action()}
    except OSError as error:
        report = {"error": _name(error)}
    return {**report, "seconds": round(time.monotonic() - start, 4)}


def _endpoint(host: str, port: str, kind: socket.SocketKind) -> tuple[socket.socket, Any]:
    family, _, _, _, address = socket.getaddrinfo(host, int(port), type=kind)[0]
    return socket.socket(family, kind), address


def _told_to_end() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def connect(host: str, port: str, timeout: str = "3") -> Report:
    """Open a TCP connection and close it."""
    endpoint, address = _endpoint(host, port, socket.SOCK_STREAM)
    with endpoint:
        endpoint.settimeout(float(timeout))

        def ask() -> Report:
            endpoint.connect(address)
            return {}

        return _timed(ask)


def told(host: str, port: str, ttl: str = "64") -> Report:
    """Open a TCP connection with that TTL, and close it; what ICMP said of the SYN: type, code, by whom."""
    endpoint, address = _endpoint(host, port, socket.SOCK_STREAM)
    four = endpoint.family == socket.AF_INET
    with endpoint:
        endpoint.settimeout(3)
        endpoint.setsockopt(*(IP_RECVERR if four else IPV6_RECVERR), 1)
        endpoint.setsockopt(*(IP_TTL if four else IPV6_HOPS), int(ttl))

        def ask() -> Report:
            endpoint.connect(address)
            return {}

        report = _timed(ask)
        try:
            _, ancillary, _, _ = endpoint.recvmsg(0, 128, socket.MSG_ERRQUEUE)
        except OSError:
            return {**report, "icmp": None}
    data = ancillary[0][2]  # struct sock_extended_err, and struct sockaddr_in or sockaddr_in6
    by = socket.inet_ntop(endpoint.family, data[20:24] if four else data[24:40])
    return {**report, "icmp": [data[5], data[6]], "by": by}


def datagram(host: str, port: str, timeout: str = "3") -> Report:
    """Send a datagram on a socket that reports every ICMP error, and wait for an answer."""
    endpoint, address = _endpoint(host, port, socket.SOCK_DGRAM)
    with endpoint:
        endpoint.settimeout(float(timeout))
        endpoint.setsockopt(*(IPV6_RECVERR if endpoint.family == socket.AF_INET6 else IP_RECVERR), 1)
        endpoint.connect(address)

        def ask() -> Report:
            endpoint.send(b"is anybody there?")
            return {"octets": len(endpoint.recv(65535))}

        return _timed(ask)


def echo(host: str, port: str, *sizes: str) -> Report:
    """Send datagrams of these sizes, each answered by the same octets before the next is sent."""
    endpoint, address = _endpoint(host, port, socket.SOCK_DGRAM)
    with endpoint:
        endpoint.settimeout(3)
        endpoint.connect(address)
        same = []
        for size in map(int, sizes):
            sent = random.Random(size).randbytes(size)
            endpoint.send(sent)
            same.append(endpoint.recv(65535) == sent)
        return {"same": same}


def half_close(host: str, port: str, octets: str) -> Report:
    """Send that many octets, close our half, then read a SHA-256 and all that follows."""
    sent = random.Random(7).randbytes(int(octets))
    with socket.create_connection((host, int(port)), 5) as endpoint:
        endpoint.sendall(sent)
        endpoint.shutdown(socket.SHUT_WR)
        answer = b""
        while data := endpoint.recv(1 << 18):
            answer += data
    return {
        "upload_is_whole": answer[:32] == hashlib.sha256(sent).digest(),
        "octets": len(answer) - 32,
        "sha256": hashlib.sha256(answer[32:]).hexdigest(),
    }


def reset(host: str, port: str) -> Report:
    """Talk to a server that resets."""
    with socket.create_connection((host, int(port)), 5) as endpoint:

        def talk() -> Report:
            endpoint.sendall(b"x")
            return {"octets": len(endpoint.recv(1))}

        return _timed(talk)


def slow_reader(host: str, port: str, octets: str) -> Report:
    """Write to an echo server until it is full, wait, then read it all back."""
    sent = random.Random(9).randbytes(int(octets))
    with socket.create_connection((host, int(port)), 5) as endpoint:
        endpoint.setblocking(False)
        done = 0
        stalled = time.monotonic() + 1
        while done < len(sent) and time.monotonic() < stalled:
            try:
                done += endpoint.send(sent[done : done + 65536])
                stalled = time.monotonic() + 1
            except BlockingIOError:
                time.sleep(0.01)  # noqa: TID251 - a client of the network, not of our loop
        endpoint.settimeout(10)
        endpoint.shutdown(socket.SHUT_WR)
        answer = b""
        while data := endpoint.recv(1 << 18):
            answer += data
    return {"sent": done, "same": answer == sent[:done]}


def flow(host: str, port: str, kind: str = "tcp") -> Report:
    """Keep a conversation with an echo server going, a line each 50 ms, until it fails or standard input ends.

    Says when each line came back, in Unix time. A datagram that is lost is no failure; five in a row are.
    """
    endpoint, address = _endpoint(host, port, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    rounds = lost = 0
    with endpoint:
        endpoint.settimeout(5 if kind == "tcp" else 0.5)
        endpoint.connect(address)
        while not _told_to_end():
            line = b"%07d\n" % rounds
            try:
                endpoint.send(line)
                answer = endpoint.recv(8)
            except OSError as error:
                lost += 1
                if kind == "tcp" or lost == 5:
                    return {"error": _name(error), "rounds": rounds, "ended": time.time()}
                continue
            if kind == "tcp" and answer != line:
                return {"error": f"sent {line!r}, got {answer!r}", "rounds": rounds}
            lost = 0
            rounds += 1
            sys.stdout.write(f"{time.time()}\n")
            sys.stdout.flush()
            time.sleep(0.05)  # noqa: TID251 - a client of the network, not of our loop
    return {"error": None, "rounds": rounds}


def restless(names: str, *forbidden: str) -> Report:
    """Try every way out, again and again, until standard input ends: names, and addresses that no name leads to.

    The names have commas between them; `fetched` is by name.
    """
    fetched = dict.fromkeys(names.split(","), 0)
    counts = {"tried": 0, "reached": 0}
    while not _told_to_end():
        for name in fetched:
            try:
                with socket.create_connection((name, 80), 1) as endpoint:
                    endpoint.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
                    fetched[name] += bool(endpoint.recv(100))
            except OSError:
                pass
        for address in forbidden:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for port, kind in ((80, socket.SOCK_STREAM), (7, socket.SOCK_DGRAM), (443, socket.SOCK_DGRAM)):
                with socket.socket(family, kind) as endpoint:
                    endpoint.settimeout(0.05)
                    counts["tried"] += 1
                    try:
                        endpoint.connect((address, port))
                        endpoint.send(b"let me out")
                        counts["reached"] += bool(endpoint.recv(100))
                    except OSError:
                        pass
    return {**counts, "fetched": fetched}


def garbage(device: str, count: str) -> Report:
    """Put packets into a device that are none, past the kernel's own stack."""
    source = random.Random(3)
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as raw:
        for index in range(int(count)):
            version = (4, 6)[index % 2]
            octets = bytearray(source.randbytes(source.randrange(1, 1400)))
            if index % 3:  # the right version, so that more of it is looked at
                octets[0] = 0x45 if version == 4 else 0x60
            try:
                raw.sendto(octets, (device, ETH_P[version]))
                sent += 1
            except OSError:  # the kernel would not have it, or the queue is full
                continue
    return {"sent": sent}


def refuse_many(host: str, port: str, count: str) -> Report:
    """Connect again and again; how often it was refused, how often there was silence."""
    errors = [connect(host, port, "0.3")["error"] for _ in range(int(count))]
    return {error or "connected": errors.count(error) for error in set(errors)}


ACTIONS: dict[str, Callable[..., Report]] = {
    call.__name__: call
    for call in (
        connect, told, datagram, echo, half_close, reset, slow_reader, flow, restless, garbage, refuse_many
    )
}  # fmt: skip


def main() -> None:
    """ACTION ARGUMENT... [-- ACTION ARGUMENT...]..."""
    words = sys.argv[1:]
    while words:
        end = words.index("--") if "--" in words else len(words)
        action, *arguments = words[:end]
        words = words[end + 1 :]
        try:
            report = ACTIONS[action](*arguments)
        except OSError as error:
            report = {"error": _name(error)}
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
