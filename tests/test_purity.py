"""A module decides or does, never both: what decides imports nothing that could do anything, and no clock."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent

SHELLS: Final = {
    "services.dns_filter.leases": "the link to the tracker",
    "services.dns_filter.lists.fetch": "fetches lists",
    "services.dns_filter.lists.files": "compiled lists on disk",
    "services.dns_filter.lists.hosts": "asks the upstreams for a list's host",
    "services.dns_filter.lists.watch": "looks at files, and starts what compiles them",
    "services.dns_filter.listener": "the sockets of dns.listen",
    "services.dns_filter.resolver": "ties the link to tun_io, the upstreams and the tracker together",
    "services.dns_filter.stream": "accepts DNS over TCP",
    "services.dns_filter.upstreams.certificates": "reads the system's certificates",
    "services.dns_filter.upstreams.deferred": "imports an upstream when it is first used",
    "services.dns_filter.upstreams.h3": "an upstream's connection",
    "services.dns_filter.upstreams.https": "an upstream's connection",
    "services.dns_filter.upstreams.pool": "asks the upstreams in turn",
    "services.dns_filter.upstreams.quic": "an upstream's connection",
    "services.dns_filter.upstreams.quic_connection": "an upstream's connection",
    "services.dns_filter.upstreams.tcp": "an upstream's connection",
    "services.dns_filter.upstreams.tls": "an upstream's connection",
    "services.dns_filter.upstreams.udp": "an upstream's socket",
    "services.dns_filter.upstreams.upstream": "what the upstreams' connections have in common",
    "services.tcp_fwd.host": "the sockets towards the world",
    "services.tcp_fwd.namer": "asks the tracker about names",
    "services.tcp_fwd.poller": "waits for the sockets towards the world",
    "services.tcp_fwd.session": "carries out what a connection decides",
    "services.tcp_fwd.timing": "sets alarms, and calls sessions",
    "services.tracker.learning": "answers dns_filter, and waits for the store",
    "services.tracker.journal": "a file of leases for the next process",
    "services.tracker.memory": "leases in this process, and their journal",
    "services.tracker.announce": "speaks on the links",
    "services.tracker.commands": "carries out what commands ask",
    "services.tracker.redis_changes": "a subscription in Redis",
    "services.tracker.redis_link": "the connection to Redis",
    "services.tracker.redis_rules": "rules in Redis",
    "services.tracker.redis_server": "gets into Redis",
    "services.tracker.redis_store": "leases in Redis",
    "services.tracker.rules_file": "a file of rules for the next process",
    "services.tun_io.device": "the TUN",
    "services.tun_io.link": "holds shared memory",
    "services.tun_io.queues": "lends the queues of the TUN",
    "services.udp_fwd.forwarder": "carries out what the flow table decides",
    "services.udp_fwd.kinds": "asks the kernel which ping sockets there may be",
    "services.udp_fwd.sockets": "the sockets towards the world",
}
"""Modules of services that do. So do `service` and `__main__` of each; all others decide."""

PURE_KERNEL: Final = {
    "netstack.wire.messages",
    "netstack.wire.reports",
    "netstack.wire.topology",
    "netstack.runtime.config",
    "netstack.runtime.counters",
    "netstack.runtime.farclock",
    "netstack.runtime.leased_names",
    "netstack.runtime.namerulings",
    "netstack.runtime.refusals",
    "netstack.runtime.replica",
    "netstack.runtime.values",
}
"""Modules of the kernel, beside all of netstack.packet, that decide and may be used where decisions are made."""

FORBIDDEN: Final = {
    "asyncio", "concurrent", "datetime", "dns.asyncquery", "dns.query", "dns.resolver", "fcntl", "httpx2",
    "multiprocessing", "os", "pyroute2", "redis", "select", "selectors", "signal", "socket", "ssl", "subprocess",
    "threading", "time", "zmq",
}  # fmt: skip
"""What could do something, or knows what time it is."""

PURE_OF_SOCKET: Final = re.compile(r"[A-Z][A-Z0-9_]*|inet_ntop|inet_pton")
"""Of the module socket, constants and the reading and writing of addresses do nothing."""


def modules(folder: str) -> list[str]:
    """Every module below a folder of the tree."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def is_shell(name: str) -> bool:
    return name in SHELLS or name.rpartition(".")[2] in {"service", "__main__"}


def deciding() -> list[str]:
    """Every module that must not do anything."""
    services = [name for name in modules("services") if not is_shell(name)]
    return [*modules("netstack/packet"), *sorted(PURE_KERNEL), *services]


def source(name: str) -> str:
    path = ROOT.joinpath(*name.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported, wherever the import stands; `from a import b` may mean a or a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def impure(text: str) -> list[str]:
    """What a module uses that one that decides must not."""
    tree = ast.parse(text)
    found = {name for name in imports(tree) if _does_something(name)}
    if "socket" in found:
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "socket"
        }
        used |= {name.removeprefix("socket.") for name in found if name.startswith("socket.")}
        found = {name for name in found if name.partition(".")[0] != "socket"}
        found |= {f"socket.{name}" for name in used if not PURE_OF_SOCKET.fullmatch(name)}
    return sorted(found)


def _does_something(name: str) -> bool:
    if any(name == bad or name.startswith(f"{bad}.") for bad in FORBIDDEN):
        return True
    if name.startswith("services."):
        return is_shell(name) and (ROOT / Path(*name.split("."))).with_suffix(".py").exists()
    if name.startswith(("netstack.wire.", "netstack.runtime.", "netstack.cli")):
        return not any(name == pure or name.startswith(f"{pure}.") for pure in PURE_KERNEL)
    return False


@pytest.mark.parametrize("name", deciding())
def test_what_decides_imports_nothing_that_does(name: str) -> None:
    assert impure(source(name)) == [], f"{name} decides; what does belongs in a shell (SHELLS in {Path(__file__).name})"


def test_every_shell_that_is_listed_exists_and_does_something() -> None:
    assert [name for name in SHELLS if name not in modules("services")] == []
    assert [name for name in SHELLS if not impure(source(name))] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import time", ["time"]),
        ("import asyncio.events", ["asyncio.events"]),
        ("def f():\n    from os import path", ["os", "os.path"]),
        ("from netstack.wire.bus import Bus", ["netstack.wire.bus", "netstack.wire.bus.Bus"]),
        ("from netstack.wire import bus", ["netstack.wire.bus"]),
        ("import netstack.runtime.service", ["netstack.runtime.service"]),
        ("from services.tun_io import device", ["services.tun_io.device"]),
        ("import socket\nsocket.socket()", ["socket.socket"]),
        ("from socket import create_connection", ["socket.create_connection"]),
        ("import socket\nsocket.inet_ntop(socket.AF_INET, b'')", []),
        ("from netstack.wire.messages import pack", []),
        ("from netstack.packet import ipv4\nimport struct, secrets", []),
    ],
    ids=[
        "a clock",
        "a loop",
        "an import within a function",
        "the bus",
        "the bus by another way",
        "the process it runs in",
        "a shell of its own service",
        "a socket",
        "a socket by another way",
        "an address written as text is no I/O",
        "the catalogue of messages is no I/O",
        "nor are codecs",
    ],
)  # fmt: skip
def test_the_check_itself(text: str, expected: list[str]) -> None:
    assert impure(text) == expected
