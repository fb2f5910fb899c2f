"""Why something was refused or dropped: one enum, used by counters, traces, logs, answers and tests alike."""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """The slug of a refusal or a drop. Nothing is dropped without one."""

    # Policy: what a blocked thing gets.
    NOT_WHITELISTED = "not-whitelisted"
    QUIC_BLOCKED = "quic-blocked"
    NAME_DENIED = "name-denied"
    LISTS_LOADING = "lists-loading"
    ENCRYPTED_DNS = "encrypted-dns"
    REBIND = "rebind"
    SNI_MISMATCH = "sni-mismatch"
    TRACKER_DOWN = "tracker-down"
    REFUSED_TOO_OFTEN = "refused-too-often"
    MULTICAST = "multicast"

    # Octets from the TUN that are no packet we can forward.
    MALFORMED_VNET = "malformed-vnet"
    MALFORMED_IP = "malformed-ip"
    MALFORMED_TCP = "malformed-tcp"
    MALFORMED_UDP = "malformed-udp"
    MALFORMED_ICMP = "malformed-icmp"
    MALFORMED_DNS = "malformed-dns"
    UNSUPPORTED_DNS = "unsupported-dns"
    MALFORMED_EXTENSION = "malformed-extension"
    ROUTING_HEADER = "routing-header"
    UNKNOWN_OPTION = "unknown-option"
    BAD_CHECKSUM = "bad-checksum"
    FRAGMENT = "fragment"
    FRAGMENT_OVERLAP = "fragment-overlap"
    FRAGMENT_TIMEOUT = "fragment-timeout"
    UNKNOWN_PROTOCOL = "unknown-protocol"
    PROTOCOL_ICMP = "protocol-icmp"
    PROTOCOL_IGMP = "protocol-igmp"
    PROTOCOL_GRE = "protocol-gre"
    PROTOCOL_ESP = "protocol-esp"
    PROTOCOL_AH = "protocol-ah"
    PROTOCOL_SCTP = "protocol-sctp"
    TTL_EXCEEDED = "ttl-exceeded"

    # Octets on a link between processes.
    MALFORMED_FRAME = "malformed-frame"
    WRONG_VERSION = "wrong-version"

    # Queues, workers and limits.
    QUEUE_FULL = "queue-full"
    NO_WORKER = "no-worker"
    FLOW_UNKNOWN = "flow-unknown"
    FLOW_TABLE_FULL = "flow-table-full"
    CLIENT_LIMIT = "client-limit"
    HALF_OPEN_LIMIT = "half-open-limit"
    BUFFER_FULL = "buffer-full"
    OUT_OF_ORDER_LIMIT = "out-of-order-limit"
    FRAGMENT_LIMIT = "fragment-limit"
    WORKER_LOST = "worker-lost"
    TUN_FULL = "tun-full"
    WHITELIST_FULL = "whitelist-full"

    # The far side.
    CONNECTION_REFUSED = "connection-refused"
    HOST_UNREACHABLE = "host-unreachable"
    NET_UNREACHABLE = "net-unreachable"
    ADMIN_PROHIBITED = "admin-prohibited"
    CONNECTION_RESET = "connection-reset"
    CONNECTION_TIMEOUT = "connection-timeout"
    CONNECT_TIMEOUT = "connect-timeout"
    IDLE_TIMEOUT = "idle-timeout"
    NO_PING_SOCKET = "no-ping-socket"
    SOCKET_ERROR = "socket-error"
    UPSTREAM_DOWN = "upstream-down"
    UPSTREAM_TIMEOUT = "upstream-timeout"
    UPSTREAM_MISMATCH = "upstream-mismatch"
    REVOKED = "revoked"

    @classmethod
    def of_refusal(cls, slug: str) -> "Reason":
        """The reason another process refused for; one that is not known here is a refusal all the same."""
        try:
            return cls(slug)
        except ValueError:
            return cls.NOT_WHITELISTED


class Problem(NamedTuple):
    """What an ICMPv6 parameter problem says (RFC 4443 section 3.4)."""

    code: int
    pointer: int
    """Of the octet that is at fault, counted from the first of the IPv6 header."""


class MalformedPacketError(ValueError):
    """Octets that are no packet of the kind that was parsed; the reason says which."""

    def __init__(self, reason: Reason, detail: str, problem: Problem | None = None) -> None:
        """problem: what the sender of an IPv6 packet is to be told, where it is to be told anything."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.problem = problem
