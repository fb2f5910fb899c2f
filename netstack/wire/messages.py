"""Everything one process may say to another. Bump VERSION when a kind or one of its fields changes.

A frame is one msgpack array, `[kind, ...fields]`. Each kind is defined once, below, with a line that says who says it
to whom. `pack` and `unpack` are the only codec: what does not decode, or has another shape, is a MalformedFrameError,
which the bus counts and drops. Times are CLOCK_MONOTONIC in seconds, shared by all processes of one host; what a
process elsewhere says is put on the clock of tun_io's host (netstack.runtime.farclock). Addresses are packed, 4 or 16
octets.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_args

import msgpack

VERSION: Final = 7

Traced = list[list[int]]
"""Which packets of a batch are being traced: pairs of index and trace id."""

Packets = list[bytes | list[int]]
"""Packets, each with its virtio_net_hdr in front: the octets, or `[position, octets]` in the sender's arena."""


class MalformedFrameError(ValueError):
    """Octets on a link that are no message of the catalogue."""


# --- the packets link: tun_io binds ROUTER; dns_filter, tcp_fwd and udp_fwd connect DEALER ----------------------------


class Hello(NamedTuple):
    """Worker -> tun_io: I am here, and these flows are mine (keys as in netstack.packet.flow).

    arena is the name of the file in the run directory that my packets refer to from now on; empty for none.
    """

    version: int
    stage: str
    worker: str
    pid: int
    flows: list[bytes]
    arena: str = ""


class Welcome(NamedTuple):
    """tun_io -> a worker: you are in the roster; packets may follow, and refer to this arena from now on.

    Empty where one of the two has no arena, or tun_io cannot map the worker's: then all packets travel in messages.
    """

    version: int
    worker: str
    mtu: int
    arena: str = ""


class WhoAreYou(NamedTuple):
    """tun_io -> a worker it does not know (it has just restarted): say Hello, with your flows."""

    version: int


class Heartbeat(NamedTuple):
    """Worker -> tun_io, each half second: a worker silent for two seconds is gone."""

    worker: str


class Drain(NamedTuple):
    """Worker -> tun_io: give me no new flows. tun_io -> the worker: from here on you get none."""

    worker: str


class Bye(NamedTuple):
    """Worker -> tun_io: I leave now."""

    worker: str


class FromTun(NamedTuple):
    """tun_io -> a worker: the client sent these packets. The counts are those of netstack.wire.lending."""

    sent_at: float
    packets: Packets
    traced: Traced
    lent: int = 0
    returned: int = 0


class ToTun(NamedTuple):
    """Worker -> tun_io: write these packets to the client. The counts are those of netstack.wire.lending."""

    sent_at: float
    packets: Packets
    traced: Traced
    lent: int = 0
    returned: int = 0


class Closed(NamedTuple):
    """Worker -> tun_io: these flows are over; forget who has them."""

    flows: list[bytes]


class Opened(NamedTuple):
    """Worker -> tun_io: I took these flows from my own queue of the TUN; they are mine."""

    flows: list[bytes]


class Astray(NamedTuple):
    """Worker -> tun_io: these packets of the client came to my own queue of the TUN, and are not mine to deal with."""

    frames: list[bytes]


class Fence(NamedTuple):
    """Worker -> tun_io: send me what you have for me, and what is in your queue of the TUN; then say this back.

    What the worker finds in a queue of its own after it has asked comes behind all of that.
    """

    number: int


# --- the whitelist link: tracker binds ROUTER; dns_filter and the forwarders connect DEALER ---------------------------


class Join(NamedTuple):
    """dns_filter or a forwarder or a command -> tracker: I am here. epoch is of the last ending it heard of."""

    version: int
    stage: str
    worker: str
    epoch: int


class Joined(NamedTuple):
    """tracker -> who joined. Another instance than before means that the tracker restarted.

    epoch is that of the last LeaseChange that ended leases. To a forwarder that missed one it is said again, directly.
    """

    version: int
    instance: str
    epoch: int


class Learn(NamedTuple):
    """dns_filter -> tracker: this name was answered with these addresses; lease them, then tell me.

    ttl is the smallest TTL of the records along the chain, in seconds; client is the address that asked; chain are the
    names that this one is an alias of, in order (CNAME). The leases are to last for spare seconds more than the answer
    needs, so that the same answer given once more within that time has its leases already.
    """

    request: int
    name: str
    addresses: list[bytes]
    ttl: int
    client: bytes
    trace_id: int
    chain: list[str]
    spare: int = 0


class Learned(NamedTuple):
    """tracker -> dns_filter: the leases are stored (or not, with the reason); hand out no TTL above max_ttl seconds.

    lease is for how many seconds they were stored, which holds for as long as Confirmed says; 0.0 where nothing is to
    be built on it.
    """

    request: int
    ok: bool
    reason: str
    max_ttl: int
    lease: float = 0.0


class Check(NamedTuple):
    """Forwarder -> tracker: may this client reach that endpoint?"""

    request: int
    client: bytes
    address: bytes
    port: int
    protocol: int
    trace_id: int


class Verdict(NamedTuple):
    """tracker -> forwarder: the answer to a Check, valid for expires_in seconds. A reason slug where it is no.

    epoch is that of the last revocation that was known when it was decided: one whose LeaseChange has a greater epoch,
    and overtook it on the other socket, has made it void.
    """

    request: int
    allowed: bool
    reason: str
    names: list[str]
    expires_in: float
    epoch: int


class Touch(NamedTuple):
    """Forwarder -> tracker, in batches: flows use these addresses, keep their leases and those of their siblings."""

    addresses: list[bytes]


class Revoke(NamedTuple):
    """Command -> tracker: end the leases of this name or address."""

    request: int
    target: str


class Revoked(NamedTuple):
    """tracker -> command: how many addresses lost their lease."""

    request: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls


class LeaseChange(NamedTuple):
    """tracker -> all (PUB): these addresses are leased for expires_in seconds from now.

    names has the newest name of each address, in the same order. What became of several answers is said at once.

    Of expires_in, 0 means revoked: cut flows. Less than 0 means over: what is established goes on. epoch numbers such
    endings.
    """

    addresses: list[bytes]
    names: list[str]
    expires_in: float
    epoch: int


class ListLeases(NamedTuple):
    """Command -> tracker: report the leases; all, or with a target those of this name or address."""

    request: int
    target: str


class Explain(NamedTuple):
    """Command -> tracker: why is this name or endpoint (ADDRESS[:PORT[/PROTOCOL]]) open or closed?"""

    request: int
    target: str


class Permit(NamedTuple):
    """Command -> tracker: allow this name or endpoint for so many seconds; 0 is until the instance ends."""

    request: int
    target: str
    seconds: float


class Forbid(NamedTuple):
    """Command -> tracker: deny this name and those below it for so many seconds; 0 is until the instance ends."""

    request: int
    target: str
    seconds: float


class Pause(NamedTuple):
    """Command -> tracker: refuse nothing for so many seconds; 0 ends a pause."""

    request: int
    seconds: float


class Told(NamedTuple):
    """tracker -> command: JSON of a struct in netstack.wire.reports; where it is not ok, why not.

    Where there is more, further ones with the same request follow.
    """

    request: int
    ok: bool
    more: bool
    report: str


class NameRules(NamedTuple):
    """tracker -> dns_filter, on Join and at each change: names that commands allowed and denied, instead of the last.

    While lenient, nothing is refused or removed, only counted.
    """

    allowed: list[str]
    denied: list[str]
    lenient: bool


class Confirm(NamedTuple):
    """dns_filter -> tracker, several times a second: do the leases that you told me of still stand?

    asked is its time, which comes back.
    """

    asked: float


class Confirmed(NamedTuple):
    """tracker -> dns_filter, to a Confirm, with its `asked`, and with 0.0 at each ending of leases.

    Where instance and epoch are the same as in the last one, no lease was ended before its time since the Learned.
    """

    asked: float
    instance: str
    epoch: int


class NameRefused(NamedTuple):
    """dns_filter -> tracker: this client was refused this name, for `netstack why`: the reason's slug, and details."""

    name: str
    client: bytes
    reason: str
    detail: str


# --- the events link: every process publishes; tracker runs the XSUB/XPUB proxy ---------------------------------------


class TraceHop(NamedTuple):
    """Any process -> `netstack trace`: what was done with a traced packet, or because of it.

    at is when the work began; queue_wait (the batch was sent -> received) and service time are in seconds.
    """

    trace_id: int
    stage: str
    worker: str
    event: str
    at: float
    queue_wait: float
    service: float
    detail: str


class Sample(NamedTuple):
    """Any process -> `netstack status`: the counters of one process. ready_since is Unix time, 0.0 while not ready."""

    stage: str
    worker: str
    pid: int
    ready_since: float
    packets_in: int
    packets_out: int
    octets_in: int
    octets_out: int
    queue: int
    drops: dict[str, int]
    gauges: dict[str, int]
    notes: list[str]


class Several(NamedTuple):
    """dns_filter -> tracker, and back: these messages, in this order; none of them is a Several.

    What one turn of the loop has to say to somebody costs one frame: most of what a small message costs is the frame.
    """

    messages: list["Message"]


# The order gives the numbers on the wire. Append; never reorder without bumping VERSION.
Message = (
    Hello
    | Welcome
    | WhoAreYou
    | Heartbeat
    | Drain
    | Bye
    | FromTun
    | ToTun
    | Closed
    | Join
    | Joined
    | Learn
    | Learned
    | Check
    | Verdict
    | Touch
    | Revoke
    | Revoked
    | LeaseChange
    | TraceHop
    | Sample
    | ListLeases
    | Explain
    | Permit
    | Forbid
    | Pause
    | Told
    | NameRules
    | NameRefused
    | Opened
    | Astray
    | Confirm
    | Confirmed
    | Fence
    | Several
)
_KINDS: Final[tuple[type[Any], ...]] = get_args(Message)
_NUMBER: Final = {kind: number for number, kind in enumerate(_KINDS)}

_BATCHES: Final[dict[int, type[FromTun] | type[ToTun]]] = {_NUMBER[FromTun]: FromTun, _NUMBER[ToTun]: ToTun}
_BATCH_FIELDS: Final = 1 + len(FromTun._fields)
_PACKET_TYPES: Final = frozenset({bytes, list})
_packer = msgpack.Packer(autoreset=True, use_bin_type=True)


def pack(message: Message) -> bytes:
    """The frame of a message."""
    if type(message) is Several:
        packed = [(_NUMBER[type(each)], *each) for each in message.messages]
        return _packer.pack((_NUMBER[Several], packed))  # type: ignore[no-any-return]
    return _packer.pack((_NUMBER[type(message)], *message))  # type: ignore[no-any-return]


def unpack(frame: bytes) -> Message:
    """The message of a frame; raises MalformedFrameError for anything else whatever."""
    fields = _decode(frame)
    if type(fields) is list and len(fields) == _BATCH_FIELDS and (batch := _unpack_batch(fields)) is not None:
        return batch
    message = _message(fields)
    if type(message) is not Several:
        return message
    messages = list(map(_message, message.messages))
    if Several in map(type, messages):
        raise MalformedFrameError("Several within Several")
    return Several(messages)


def _message(fields: Any) -> Message:  # noqa: ANN401  (what a frame holds may be anything)
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int or not 0 <= fields[0] < len(_KINDS):
        raise MalformedFrameError("not an array that begins with a known kind")
    number = fields[0]
    kind = _KINDS[number]
    del fields[0]
    if tuple(map(type, fields)) == _TYPES[number] and all(check(fields[index]) for index, check in _CLOSER[number]):
        return kind._make(fields)  # type: ignore[no-any-return]
    checks = _CHECKS[number]
    if len(fields) != len(checks):
        raise MalformedFrameError(f"{kind.__name__} has {len(checks)} fields, not {len(fields)}")
    for value, check in zip(fields, checks, strict=True):
        if not check(value):
            raise MalformedFrameError(f"{kind.__name__}: a field that cannot be")
    return kind._make(fields)  # type: ignore[no-any-return]


def _unpack_batch(fields: list[Any]) -> FromTun | ToTun | None:
    """Nearly all messages are batches, in which nearly nothing is traced; None where this is not such a one.

    The general way costs 4 us, this one a quarter of it.
    """
    number, sent_at, packets, traced, lent, returned = fields
    kind = _BATCHES.get(number) if type(number) is int else None
    if (
        kind is None or traced or type(traced) is not list or type(sent_at) is not float
        or type(lent) is not int or type(returned) is not int or type(packets) is not list
        or not _PACKET_TYPES.issuperset(map(type, packets))
    ):  # fmt: skip
        return None
    return kind(sent_at, packets, traced, lent, returned)


def _decode(frame: bytes) -> object:
    try:
        return msgpack.unpackb(frame, raw=False)
    except Exception as error:  # noqa: BLE001  (msgpack raises many kinds, ValueError and its own among them)
        raise MalformedFrameError(f"not msgpack: {error}") from None


def _is_int(value: object) -> bool:
    return type(value) is int  # and not bool, which is an int to isinstance


def _is_float(value: object) -> bool:
    return type(value) is float or type(value) is int


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and set(map(type, value)) <= {kind}


def _is_traced(value: object) -> bool:
    return type(value) is list and all(type(pair) is list and list(map(type, pair)) == [int, int] for pair in value)


def _is_counts(value: object) -> bool:
    return type(value) is dict and all(type(key) is str and type(count) is int for key, count in value.items())


def _is_address(value: object) -> bool:
    return type(value) is bytes and len(value) in {4, 16}


_CHECK_OF_TYPE: Final[dict[str, Callable[[Any], bool]]] = {
    "int": _is_int,
    "bool": lambda value: type(value) is bool,
    "str": lambda value: type(value) is str,
    "float": _is_float,
    "list[bytes]": _is_list_of(bytes),
    "list[str]": _is_list_of(str),
    "list[list[int]]": _is_traced,
    "dict[str, int]": _is_counts,
}
_CHECK_OF_FIELD: Final[dict[str, Callable[[Any], bool]]] = {
    "client": _is_address,
    "address": _is_address,
    "packets": lambda value: type(value) is list and _PACKET_TYPES.issuperset(map(type, value)),
    "addresses": lambda value: type(value) is list and all(map(_is_address, value)),
    "messages": lambda value: type(value) is list,
    "port": lambda value: type(value) is int and 0 <= value <= 0xFFFF,
    "protocol": lambda value: type(value) is int and 0 <= value <= 0xFF,
}
"""Fields of which the name says more than the type."""


def _check(field: str, annotation: object) -> Callable[[Any], bool]:
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return _CHECK_OF_FIELD.get(field) or _CHECK_OF_TYPE[name]


_CHECKS: Final = tuple(tuple(_check(*field) for field in kind.__annotations__.items()) for kind in _KINDS)
_PLAIN: Final[dict[Callable[[Any], bool], type]] = {
    _CHECK_OF_TYPE[name]: kind for name, kind in {"int": int, "bool": bool, "str": str, "float": float}.items()
}
_TYPE: Final = {"client": bytes, "address": bytes, "port": int, "protocol": int, "drops": dict, "gauges": dict}
_TYPES: Final = tuple(
    tuple(_PLAIN.get(check) or _TYPE.get(field, list) for field, check in zip(kind._fields, checks, strict=True))
    for kind, checks in zip(_KINDS, _CHECKS, strict=True)
)
"""The types that the fields of a kind have nearly always: one comparison says it of all of them."""
_CLOSER: Final = tuple(
    tuple((index, check) for index, check in enumerate(checks) if check not in _PLAIN) for checks in _CHECKS
)
"""What has to be looked at besides: the index of a field, and its check."""
