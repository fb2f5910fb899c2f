"""What is done about the server that a client names: when its octets wait, and which name is refused. No I/O, no clock.

A name is right where it was answered with the address that the flow goes to; the names on a chain of aliases are not,
unless they were asked for too. An address that is named must be that very address. Where no name leads to an address
(`allow.networks`), none can be wrong.
"""

from collections.abc import Collection, Sequence
from ipaddress import ip_address
from typing import Final

from netstack.packet import tcp
from netstack.packet.flow import Flow
from netstack.packet.reason import Reason
from netstack.runtime.values import AllowedNetwork
from services.tcp_fwd.first_octets import NOTHING, FirstOctets, Seen

HOLD: Final = 1.0
"""Seconds for which a client's octets wait for the rest of its ClientHello or request."""


class Naming:
    """One flow until its name is decided."""

    __slots__ = ("_first", "asked", "held", "may_hold", "seen", "trace_id")

    def __init__(self, trace_id: int, *, may_hold: bool) -> None:
        self._first = FirstOctets()
        self.trace_id = trace_id
        self.may_hold = may_hold
        self.held = False
        """The client's octets wait."""
        self.seen: Seen | None = None
        """What they are, once that is known."""
        self.asked = False
        """The tracker has been asked about the name."""

    @property
    def begun(self) -> bool:
        """Whether the client has said anything."""
        return len(self._first) > 0

    def client_spoke(self, data: bytes | memoryview) -> None:
        """The next octets of the client."""
        if self.seen is None:
            self.seen = self._first.receive(data)

    def server_spoke(self) -> None:
        """The server has sent something. Neither TLS nor HTTP begins with that: SSH, SMTP and others do."""
        if not self.begun:
            self.seen = NOTHING

    def client_ended(self) -> None:
        """Nothing more will come."""
        if self.seen is None:
            self.seen = NOTHING

    def should_hold(self) -> bool:
        """Whether the octets are to wait from now on; they do so once."""
        if not self.may_hold or not self.begun:
            return False
        self.may_hold = False
        self.held = True
        return True


def is_address(name: str, server: bytes) -> bool:
    """Whether the name is the server's address, as a client that was given no name writes it."""
    if not name or not (":" in name or name[-1].isdigit()):
        return False  # as nearly all are: the last label of a name is not numeric (RFC 3696 section 2)
    if len(server) == 4 and name == f"{server[0]}.{server[1]}.{server[2]}.{server[3]}":
        return True
    try:
        return ip_address(name).packed == server
    except ValueError:
        return False


def is_exempt(flow: Flow, networks: Sequence[AllowedNetwork]) -> bool:
    """Whether the flow goes where no name is needed (`allow.networks`)."""
    address = ip_address(flow.server)
    return any(
        one.port in {None, flow.server_port} and one.protocol in {None, tcp.PROTOCOL} and address in one.network
        for one in networks
    )


def refusal(name: str, *, allowed: bool, reason: str, names: Collection[str]) -> Reason | None:
    """Why a flow with this name is to be refused, where the tracker says this of its endpoint; None where it is right.

    A tracker that allows an endpoint without any name has another reason to: then no name can be wrong. One that does
    not allow it any more knows of no name either.
    """
    if allowed and (not names or name in names):
        return None
    return Reason.TRACKER_DOWN if reason == Reason.TRACKER_DOWN else Reason.SNI_MISMATCH
