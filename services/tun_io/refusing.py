"""What is said of a packet that no worker takes, and under which reason it is counted. No I/O, no clock.

  an IPv4 protocol that is not carried (SCTP, GRE, ESP, ...)   ICMP protocol unreachable
  an IPv6 next header that is not known                         ICMPv6 parameter problem, code 1 (RFC 8200 section 4)
  an IPv6 option or routing header that may not be ignored      ICMPv6 parameter problem, codes 2 and 0
  IGMP, other ICMP than a forwarder takes, "no next header"      silence
  anything malformed                                            silence
The errors come from the gateway, as those of any router that refuses, and end after some (netstack.runtime.refusals).
"""

from typing import Final, NamedTuple

from netstack.packet import extension, icmp, ipv6
from netstack.packet.frame import IP
from netstack.packet.reason import MalformedPacketError, Problem, Reason
from netstack.packet.vnet import NO_OFFLOAD
from netstack.runtime.refusals import Refusals
from services.tun_io import answers

_IGMP: Final = 2  # IANA's registry of protocol numbers
_SCTP: Final = 132

_REASONS: Final = {
    icmp.PROTOCOL: Reason.PROTOCOL_ICMP,
    icmp.PROTOCOL_V6: Reason.PROTOCOL_ICMP,
    _IGMP: Reason.PROTOCOL_IGMP,
    47: Reason.PROTOCOL_GRE,
    50: Reason.PROTOCOL_ESP,
    51: Reason.PROTOCOL_AH,
    _SCTP: Reason.PROTOCOL_SCTP,
}
_SILENT: Final = frozenset({icmp.PROTOCOL, icmp.PROTOCOL_V6, _IGMP, ipv6.NO_NEXT_HEADER})


class Refused(NamedTuple):
    """What came of it: the reason to count, and the frame to write, if any."""

    reason: Reason
    answer: bytes | None


class Refuser:
    """Answers packets that are not carried."""

    def __init__(self, gateways: dict[int, bytes]) -> None:
        """gateways: by IP version, as whom this side speaks (services.tun_io.answers.gateways)."""
        self._gateways = gateways
        self._refusals = Refusals()

    def refuse(self, octets: bytes, error: MalformedPacketError, now: float) -> Refused:
        """octets is the frame that raised the error when it was classified."""
        if error.problem is None and error.reason is not Reason.UNKNOWN_PROTOCOL:
            return Refused(error.reason, None)
        packet = octets[IP:]
        protocol, upper, link = answers.transport(packet)
        reason, problem = error.reason, error.problem
        if problem is None:
            reason = _REASONS.get(protocol, reason)
            if protocol in _SILENT:
                return Refused(reason, None)
            problem = Problem(extension.UNRECOGNIZED_NEXT_HEADER, link)
        if not icmp.may_answer(packet, protocol, upper):
            return Refused(reason, None)
        if not self._refusals.should_answer(packet[16:20] if packet[0] >> 4 == 4 else packet[24:40], now):
            return Refused(Reason.REFUSED_TOO_OFTEN, None)
        return Refused(reason, NO_OFFLOAD + self._error(packet, problem))

    def _error(self, packet: bytes, problem: Problem) -> bytes:
        version = packet[0] >> 4
        gateway = self._gateways.get(version)
        if version == 4:
            return icmp.error(packet, icmp.UNREACHABLE, icmp.PROTOCOL_UNREACHABLE, source=gateway)
        return icmp.error(packet, icmp.V6_PARAMETER_PROBLEM, problem.code, rest=problem.pointer, source=gateway)
