"""Who binds and who connects: every link of the system, in one place.

    packets    tun_io  ROUTER  <-  DEALER  dns_filter, tcp_fwd, udp_fwd
    whitelist  tracker ROUTER  <-  DEALER  dns_filter, tcp_fwd, udp_fwd, commands
    changes    tracker PUB     ->  SUB     tcp_fwd, udp_fwd
    events-in  tracker XSUB    <-  XPUB    every process
    events-out tracker XPUB    ->  SUB     commands
    dns        dns_filter, one listening stream socket per worker  <-  tcp_fwd (TCP to port 53)
    queues     tun_io, a listening socket that hands out queues of the TUN  <-  tcp_fwd, udp_fwd

The links are Unix sockets in the instance's directory, which only its owner may enter (mode 0700). Where the instance
goes over several hosts, tun_io and tracker are on the same one; their sockets are bound at ports of that host as well,
and the processes of the others connect to those. The last two lines stay within each host.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

STAGES: Final = ("tracker", "tun_io", "dns_filter", "tcp_fwd", "udp_fwd")
"""In the order in which they are started."""

DNS_STAGES: Final = ("tracker", "dns_filter")
"""What runs in `mode = "dns"`, without a TUN."""

WORKER_STAGES: Final = ("dns_filter", "tcp_fwd", "udp_fwd")
"""Those that connect to tun_io and can be scaled."""

LINKS: Final = ("packets", "whitelist", "changes", "events-in", "events-out")
"""Those that may go between hosts, in the order of their ports, of which `links.listen` names the first."""

_MAX_PATH: Final = 107  # octets; sockaddr_un.sun_path less its final zero (unix(7))
_LONGEST: Final = "/dns/" + "x" * 32


class RunDirError(ValueError):
    """The run directory cannot hold our sockets."""


def stages_of(mode: str) -> tuple[str, ...]:
    """The stages of an instance in a mode of the configuration."""
    return DNS_STAGES if mode == "dns" else STAGES


@dataclass(frozen=True)
class Topology:
    """The endpoints of one instance, whose sockets live in `directory`.

    With `listen` (tcp://ADDRESS:PORT) other hosts reach those that are bound here; with `connect` what would be bound
    is on another host.
    """

    directory: Path
    listen: str = ""
    connect: str = ""

    def __post_init__(self) -> None:
        length = len(str(self.directory).encode()) + len(_LONGEST)
        if length > _MAX_PATH:
            raise RunDirError(
                f"run directory {self.directory} is too long: its sockets' paths would have {length} octets, at most "
                f"{_MAX_PATH} are allowed; choose a shorter one with --run-dir"
            )

    @property
    def packets(self) -> str:
        """Where tun_io meets the workers."""
        return self._reached("packets")

    @property
    def whitelist(self) -> str:
        """Where the tracker is asked and told."""
        return self._reached("whitelist")

    @property
    def changes(self) -> str:
        """Where the tracker publishes changes of leases."""
        return self._reached("changes")

    @property
    def events_in(self) -> str:
        """Where every process publishes events."""
        return self._reached("events-in")

    @property
    def events_out(self) -> str:
        """Where commands subscribe to events."""
        return self._reached("events-out")

    @property
    def dns(self) -> Path:
        """The folder in which each dns_filter worker listens on a stream socket of its own name."""
        return self.directory / "dns"

    @property
    def queues(self) -> Path:
        """Where tun_io hands out queues of the TUN (netstack.runtime.queue)."""
        return self.directory / "queues"

    @property
    def notify(self) -> Path:
        """The supervisor's datagram socket for readiness (sd_notify(3))."""
        return self.directory / "notify"

    def bound(self, endpoint: str) -> tuple[str, ...]:
        """Where the process that binds this endpoint, one of the above, is reached: here, and from other hosts."""
        if not self.listen:
            return (endpoint,)
        return endpoint, _at_port(self.listen, endpoint.rpartition("/")[2])

    def _reached(self, link: str) -> str:
        return _at_port(self.connect, link) if self.connect else f"ipc://{self.directory}/{link}"


def _at_port(first: str, link: str) -> str:
    host, _, port = first.rpartition(":")
    return f"{host}:{int(port) + LINKS.index(link)}"
