"""A client of tests/internet/orders.py to run in a captured network: does one thing, says what came of it as JSON.

python -m tests.e2e.transfers ACTION HOST PORT JSON

Where there are many connections, HOST may be several with commas between: they take turns.
"""

import errno
import hashlib
import itertools
import json
import resource
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.internet.orders import Order, octets, receipt

Report = dict[str, Any]
TIMEOUT: Final = 60.0  # seconds without progress
_RECEIPT: Final = 40  # octets


@dataclass(frozen=True)
class Plan:
    """What the client does beside what it orders."""

    send: int = 0
    """Octets."""
    seed: int = 2
    write_size: int = 1 << 18
    write_pause: float = 0.0
    no_delay: bool = False
    """Whether each piece is a segment of its own (TCP_NODELAY)."""
    read_size: int = 1 << 18
    read_pause: float = 0.0
    """Seconds; the receive buffer is small then."""
    timeout: float = TIMEOUT


def transfer(host: str, port: int, *, order: Report, **mine: Any) -> Report:
    """Send and receive at once; was all of it whole, both ways? Without `closes_first` we close first."""
    plan, wanted = Plan(**mine), Order(**order)
    began = time.monotonic()
    with _connected(host, port, plan) as endpoint:
        endpoint.sendall(wanted.line())
        failures: list[BaseException] = []
        sender = threading.Thread(target=_guarded, args=(failures, _send, endpoint, plan, wanted))
        sender.start()
        got, error = _receive(endpoint, plan)
        sender.join()
    down = got if wanted.closes_first else got[:-_RECEIPT]
    expected = receipt(plan.send, hashlib.sha256(octets(plan.send, plan.seed)).digest())
    return {
        "down_is_whole": down == octets(wanted.send, wanted.seed),
        "up_is_whole": wanted.closes_first or got[-_RECEIPT:] == expected,
        "octets": len(down),
        "error": error or (_name(failures[0]) if failures else None),
        "seconds": round(time.monotonic() - began, 3),
    }


def transfers(host: str, port: int, *, each: list[dict[str, Any]]) -> Report:
    """One after the other."""
    return {"each": [transfer(host, port, **one) for one in each]}


def hold(host: str, port: int, *, count: int) -> Report:
    """Open that many connections to an echo server, then hold them idle until standard input ends.

    Each has to give back a line of its own when it is opened and, unless it was lost meanwhile, again at the end. Says
    "held N" once all are open. `lost_at` are the times (Unix) of the first and the last loss.
    """
    _raise_limit(count + 100)
    endpoints: list[socket.socket] = []
    errors: dict[str, int] = {}
    hosts = itertools.cycle(host.split(","))
    began = time.monotonic()
    # In groups, so that no queue of unaccepted connections is what is tested.
    for start in range(0, count, 100):
        group = []
        for _ in range(min(100, count - start)):
            one = next(hosts)
            endpoint = socket.socket(socket.AF_INET6 if ":" in one else socket.AF_INET)
            endpoint.setblocking(False)
            endpoint.connect_ex((one, port))
            group.append(endpoint)
        endpoints += group
        _echo_all(group, start, errors)
    _say(f"held {count - sum(errors.values())} after {time.monotonic() - began:.2f} s")
    lost_at = _wait_for_losses(endpoints, errors)
    _echo_all(endpoints, 0, errors)
    for endpoint in endpoints:
        endpoint.close()
    return {"errors": errors, "lost_at": lost_at}


def _wait_for_losses(endpoints: list[socket.socket], errors: dict[str, int]) -> list[float]:
    """Take out what is lost until standard input ends; the times of the first and the last loss."""
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for endpoint in endpoints:
            selector.register(endpoint, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return [times[0], times[-1]] if times else []
                endpoint = key.fileobj  # type: ignore[assignment]
                try:
                    name = "data" if endpoint.recv(100) else "closed"
                except OSError as error:
                    name = _name(error)
                errors[name] = errors.get(name, 0) + 1
                times.append(time.time())
                selector.unregister(endpoint)
                endpoints.remove(endpoint)
                endpoint.close()


def churn(host: str, port: int, *, rate: float, seconds: float, until_told: bool = False) -> Report:
    """For so many seconds open, use and close that many connections a second, or as many as the machine can.

    The server closes every second one first. With until_told the end of standard input ends it before its time.
    """
    threads, lock, over, hosts = 8, threading.Lock(), threading.Event(), host.split(",")
    counts = {"done": 0}
    errors: dict[str, int] = {}
    began = time.monotonic()
    numbers = itertools.count()

    def work() -> None:
        while True:
            with lock:
                index = next(numbers)
            due = began + index / rate
            if over.wait(max(due - time.monotonic(), 0)) or time.monotonic() > began + seconds:
                return
            try:
                _once(hosts[index // 2 % len(hosts)], port, index)
            except OSError as error:
                with lock:
                    errors[_name(error)] = errors.get(_name(error), 0) + 1
            else:
                with lock:
                    counts["done"] += 1

    def end() -> None:
        sys.stdin.read()
        over.set()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    if until_told:
        threading.Thread(target=end, daemon=True).start()
    for worker in workers:
        worker.join()
    return {**counts, "errors": errors, "rate": round(counts["done"] / (time.monotonic() - began), 1)}


def _once(host: str, port: int, index: int) -> None:
    with socket.create_connection((host, port), 10) as endpoint:
        server_first = bool(index % 2)
        endpoint.sendall(Order(send=100, seed=3, closes_first=server_first).line())
        if not server_first:
            endpoint.shutdown(socket.SHUT_WR)
        got = b""
        while data := endpoint.recv(4096):
            got += data
        if got != octets(100, 3) + (b"" if server_first else receipt(0, hashlib.sha256().digest())):
            raise OSError(errno.EBADMSG, "not what was ordered")


def _echo_all(endpoints: list[socket.socket], first: int, errors: dict[str, int]) -> None:
    """Each sends a line and gets it back."""
    with selectors.DefaultSelector() as selector:
        lines = {endpoint: b"%07d %d\n" % (index, id(endpoint)) for index, endpoint in enumerate(endpoints, first)}
        got = dict.fromkeys(endpoints, b"")
        for endpoint in endpoints:
            selector.register(endpoint, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(TIMEOUT)
            if not ready:
                errors["timeout"] = errors.get("timeout", 0) + len(selector.get_map())
                return
            for key, events in ready:
                endpoint = key.fileobj  # type: ignore[assignment]
                try:
                    if events & selectors.EVENT_WRITE:
                        endpoint.send(lines[endpoint])
                        selector.modify(endpoint, selectors.EVENT_READ)
                        continue
                    data = endpoint.recv(100)
                    if not data:
                        raise OSError(errno.EPIPE, "closed")
                except OSError as error:
                    errors[_name(error)] = errors.get(_name(error), 0) + 1
                    selector.unregister(endpoint)
                    continue
                got[endpoint] += data
                if got[endpoint] == lines[endpoint]:
                    selector.unregister(endpoint)


def _connected(host: str, port: int, plan: Plan) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    endpoint = socket.socket(family, kind)
    if plan.read_pause:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, plan.no_delay)
    endpoint.settimeout(plan.timeout)
    endpoint.connect(address)
    return endpoint


def _send(endpoint: socket.socket, plan: Plan, wanted: Order) -> None:
    data = memoryview(octets(plan.send, plan.seed))
    for start in range(0, len(data), plan.write_size):
        endpoint.sendall(data[start : start + plan.write_size])
        if plan.write_pause:
            time.sleep(plan.write_pause)  # noqa: TID251 - a program that is slow
    if not wanted.closes_first:
        endpoint.shutdown(socket.SHUT_WR)


def _receive(endpoint: socket.socket, plan: Plan) -> tuple[bytes, str | None]:
    pieces = []
    try:
        while True:
            if plan.read_pause:
                time.sleep(plan.read_pause)  # noqa: TID251 - a program that is slow
            data = endpoint.recv(plan.read_size)
            if not data:
                return b"".join(pieces), None
            pieces.append(data)
    except OSError as error:
        return b"".join(pieces), _name(error)


def _guarded(failures: list[BaseException], call: Callable[..., None], *arguments: Any) -> None:
    try:
        call(*arguments)
    except OSError as error:
        failures.append(error)


def _raise_limit(descriptors: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, max(hard, descriptors)))


def _name(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and error.errno is None:
        return "timeout"
    return errno.errorcode.get(getattr(error, "errno", 0) or 0, repr(error))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


ACTIONS: Final[dict[str, Callable[..., Report]]] = {call.__name__: call for call in (transfer, transfers, hold, churn)}


def main() -> None:
    """ACTION HOST PORT JSON."""
    action, host, port, arguments = sys.argv[1:]
    try:
        report = ACTIONS[action](host, int(port), **json.loads(arguments))
    except OSError as error:
        report = {"error": _name(error)}
    _say(json.dumps(report))


if __name__ == "__main__":
    main()
