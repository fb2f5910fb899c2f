"""What was seen on a link: tcpdump writes it, these few lines read it."""

import ipaddress
import signal
from dataclasses import dataclass
from pathlib import Path

from scapy.data import ETHER_TYPES  # noqa: F401 - scapy's own order of imports
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import RawPcapReader

from tests.internet.machine import Running, wait_until


@dataclass(frozen=True)
class Packet:
    """One IP packet; ports are 0 where it has none. `time` is Unix time."""

    time: float
    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    length: int
    opens: bool
    """Whether it opens a TCP connection: a SYN without ACK."""


class Capture:
    """A running tcpdump; read with `packets()` after `stop()`."""

    def __init__(self, running: Running, path: Path) -> None:
        self._running = running
        self.path = path

    def wait_ready(self) -> None:
        """Return once it sees packets (tcpdump writes the file's header then)."""
        wait_until(lambda: self.path.exists() and self.path.stat().st_size >= 24, 10, "tcpdump listens")

    def stop(self) -> "list[Packet]":
        """End it and give what it saw."""
        self._running.send(signal.SIGINT)
        self._running.wait(10)
        return self.packets()

    def packets(self) -> list[Packet]:
        """All IP packets so far, in order."""
        with RawPcapReader(str(self.path)) as reader:
            return [packet for data, meta in reader if (packet := _packet(data, meta.sec + meta.usec / 1e6))]


def _packet(data: bytes, time: float) -> Packet | None:
    frame = Ether(data)
    ip = frame.getlayer(IP) or frame.getlayer(IPv6)
    if ip is None:
        return None
    transport = ip.getlayer(TCP) or ip.getlayer(UDP)
    source_port, destination_port = (transport.sport, transport.dport) if transport else (0, 0)
    protocol = ip.proto if isinstance(ip, IP) else ip.nh
    source, destination = (str(ipaddress.ip_address(address)) for address in (ip.src, ip.dst))
    opens = isinstance(transport, TCP) and transport.flags & "SA" == "S"
    return Packet(time, source, destination, protocol, source_port, destination_port, len(data), opens)
