"""Who binds and who connects: every link of the system, in one place.

    packets    tun_io  ROUTER  <-  DEALER  dns_filter, tcp_fwd, udp_fwd
    whitelist  tracker ROUTER  <-  DEALER  dns_filter, tcp_fwd, udp_fwd, commands
    changes    tracker PUB     ->  SUB     tcp_fwd, udp_fwd
    events-in  tracker XSUB    <-  XPUB    every process
    events-out tracker XPUB    ->  SUB     commands
    dns        dns_filter, one listening stream socket per worker  <-  tcp_fwd (TCP to port 53)

The links are Unix sockets in the instance's directory, which only its owner may enter (mode 0700).
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

_MAX_PATH: Final = 107  # octets; sockaddr_un.sun_path less its final zero (unix(7))
_LONGEST: Final = "/dns/" + "x" * 32


class RunDirError(ValueError):
    """The run directory cannot hold our sockets."""


def stages_of(mode: str) -> tuple[str, ...]:
    """The stages of an instance in a mode of the configuration."""
    return DNS_STAGES if mode == "dns" else STAGES


@dataclass(frozen=True)
class Topology:
    """The endpoints of one instance, whose sockets live in `directory`."""

    directory: Path

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
        return f"ipc://{self.directory}/packets"

    @property
    def whitelist(self) -> str:
        """Where the tracker is asked and told."""
        return f"ipc://{self.directory}/whitelist"

    @property
    def changes(self) -> str:
        """Where the tracker publishes changes of leases."""
        return f"ipc://{self.directory}/changes"

    @property
    def events_in(self) -> str:
        """Where every process publishes events."""
        return f"ipc://{self.directory}/events-in"

    @property
    def events_out(self) -> str:
        """Where commands subscribe to events."""
        return f"ipc://{self.directory}/events-out"

    @property
    def dns(self) -> Path:
        """The folder in which each dns_filter worker listens on a stream socket of its own name."""
        return self.directory / "dns"

    @property
    def notify(self) -> Path:
        """The supervisor's datagram socket for readiness (sd_notify(3))."""
        return self.directory / "notify"
