"""The catalogue: its numbers, its codec, and what is no message."""

import math
import struct
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire import messages
from netstack.wire.messages import (
    Astray,
    Bye,
    Check,
    Closed,
    Confirm,
    Confirmed,
    Drain,
    Explain,
    Fence,
    Forbid,
    FromTun,
    Heartbeat,
    Hello,
    Join,
    Joined,
    Learn,
    Learned,
    LeaseChange,
    ListLeases,
    MalformedFrameError,
    Message,
    NameRefused,
    NameRules,
    Opened,
    Pause,
    Permit,
    Revoke,
    Revoked,
    Sample,
    Several,
    Told,
    ToTun,
    Touch,
    TraceHop,
    Verdict,
    Welcome,
    WhoAreYou,
    pack,
    unpack,
)

FOUR = bytes([192, 0, 2, 1])
SIX = bytes.fromhex("20010db8000000000000000000000001")

EXAMPLES: dict[int, Message] = {
    0: Hello(1, "tcp_fwd", "tcp_fwd-1", 4711, [bytes(12), bytes(36)]),
    1: Welcome(1, "tcp_fwd-1", 1500),
    2: WhoAreYou(1),
    3: Heartbeat("tcp_fwd-1"),
    4: Drain("tcp_fwd-1"),
    5: Bye("tcp_fwd-1"),
    6: FromTun(12.5, [b"\x00packet", b""], [[1, 1 << 63]]),
    7: ToTun(12.5, [b"\xff" * 70000], []),
    8: Closed([bytes(12)]),
    9: Join(1, "udp_fwd", "udp_fwd-1", 4),
    10: Joined(1, "3f9a", 5),
    11: Learn(7, "www.example.com", [FOUR, SIX], 60, FOUR, 0, ["cdn.example.net"], 30),
    12: Learned(7, ok=True, reason="", max_ttl=240, lease=330.0),
    13: Check(8, FOUR, SIX, 65535, 255, 1),
    14: Verdict(8, allowed=False, reason="not-whitelisted", names=[], expires_in=0.0, epoch=5),
    15: Touch([FOUR, SIX]),
    16: Revoke(9, "www.example.com"),
    17: Revoked(9, 2),
    18: LeaseChange([FOUR, SIX], ["www.example.com", "bücher.example"], 300.0, 5),
    19: TraceHop(3, "tun_io", "tun_io-1", "read", 1.0, 0.0, 0.00001, ""),
    20: Sample("tracker", "tracker", 1, 1.7e9, 1, 2, 3, 4, 5, {"queue-full": 1}, {"leases": 2}, ["Redis is away"]),
    21: ListLeases(10, ""),
    22: Explain(11, "192.0.2.1:443/tcp"),
    23: Permit(12, "www.example.com", 3600.0),
    24: Forbid(13, "ads.example.com", 0.0),
    25: Pause(14, 300.0),
    26: Told(10, ok=True, more=False, report="{}"),
    27: NameRules(["www.example.com"], ["ads.example.com"], lenient=False),
    28: NameRefused("ads.example.com", FOUR, "name-denied", "deny.names"),
    29: Opened([bytes(12), bytes(36)]),
    30: Astray([b"\x00packet", b""]),
    31: Confirm(12.5),
    32: Confirmed(12.5, "3f9a", 5),
    33: Fence(7),
    34: Several([Revoke(9, "www.example.com"), Touch([FOUR]), Touch([SIX])]),
}
"""By the number on the wire."""


def test_each_kind_of_the_catalogue_has_its_example() -> None:
    assert tuple(type(message) for message in EXAMPLES.values()) == get_args(Message)


@pytest.mark.parametrize(("number", "message"), EXAMPLES.items(), ids=[type(m).__name__ for m in EXAMPLES.values()])
def test_each_kind_comes_back_as_it_went(number: int, message: Message) -> None:
    frame = pack(message)
    again = unpack(frame)
    assert again == message
    assert type(again) is type(message)
    assert msgpack.unpackb(frame)[0] == number, "numbers must not change without a new VERSION"


def test_a_frame_is_an_array_of_kind_and_fields() -> None:
    assert pack(Revoked(7, 2)) == bytes.fromhex("93 11 07 02")  # array of 3: kind 17, 7, 2


def test_a_float_may_have_been_packed_as_an_int() -> None:
    assert unpack(msgpack.packb([6, 12, [], [], 0, 0])) == FromTun(12.0, [], [])


def test_after_a_message_that_cannot_be_packed_the_next_one_is_whole() -> None:
    with pytest.raises(OverflowError):
        pack(Revoked(1, 1 << 64))
    with pytest.raises(TypeError):
        pack(Closed([object()]))  # type: ignore[list-item]
    assert unpack(pack(Revoked(1, 2))) == Revoked(1, 2)


def replaced(message: Message, field: str, value: object) -> list[Any]:
    """The frame's array with one field changed."""
    number = get_args(Message).index(type(message))
    fields = {**message._asdict(), field: value}
    return [number, *fields.values()]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "not an array"),
        (3, "not an array"),
        ({}, "not an array"),
        ([], "not an array"),
        ([["Hello"]], "known kind"),
        ([True, 1], "known kind"),
        ([-1], "known kind"),
        ([len(EXAMPLES)], "known kind"),
        ([3], "1 fields, not 0"),
        ([3, "a", "b"], "1 fields, not 2"),
        ([3, b"a"], "cannot be"),
        ([3, None], "cannot be"),
        (replaced(Revoked(1, 2), "count", True), "cannot be"),
        (replaced(Revoked(1, 2), "count", 2.0), "cannot be"),
        (replaced(EXAMPLES[12], "ok", 1), "cannot be"),
        (replaced(EXAMPLES[6], "sent_at", "now"), "cannot be"),
        (replaced(EXAMPLES[6], "sent_at", True), "cannot be"),
        (replaced(EXAMPLES[6], "packets", [b"", "text"]), "cannot be"),
        (replaced(EXAMPLES[6], "packets", b"octets"), "cannot be"),
        (replaced(EXAMPLES[6], "traced", [[1]]), "cannot be"),
        (replaced(EXAMPLES[6], "traced", [[1, 2, 3]]), "cannot be"),
        (replaced(EXAMPLES[6], "traced", [[1, True]]), "cannot be"),
        (replaced(EXAMPLES[6], "traced", [3]), "cannot be"),
        (replaced(EXAMPLES[14], "names", [b"octets"]), "cannot be"),
        (replaced(EXAMPLES[20], "drops", {"a": "b"}), "cannot be"),
        (replaced(EXAMPLES[20], "drops", []), "cannot be"),
        (replaced(EXAMPLES[13], "address", b""), "cannot be"),
        (replaced(EXAMPLES[13], "client", b"12345"), "cannot be"),
        (replaced(EXAMPLES[13], "port", 65536), "cannot be"),
        (replaced(EXAMPLES[13], "port", -1), "cannot be"),
        (replaced(EXAMPLES[13], "protocol", 256), "cannot be"),
        (replaced(EXAMPLES[15], "addresses", [FOUR, bytes(15)]), "cannot be"),
        (replaced(EXAMPLES[18], "addresses", FOUR), "cannot be"),
        ([34, [3]], "not an array"),
        ([34, [[3]]], "1 fields, not 0"),
        ([34, [[3, "a"], [34, []]]], "Several within Several"),
        (msgpack.Timestamp(1), "not an array"),
        (msgpack.ExtType(1, b""), "not an array"),
    ],
)
def test_what_is_no_message_is_refused(content: object, why: str) -> None:
    with pytest.raises(MalformedFrameError, match=why):
        unpack(msgpack.packb(content))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        pack(WhoAreYou(1)) + b"\x00",
        pack(WhoAreYou(1))[:-1],
        b"\x92\x03\xa2\xff\xfe",
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x03\xc6\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\x82\x91\x00\x00\x91\x00\x00",
    ],
    ids=[
        "nothing",
        "an octet that msgpack never uses",
        "octets after the message",
        "a message cut off",
        "text that is not UTF-8",
        "an array of four thousand million that are not there",
        "octets of four thousand million that are not there",
        "arrays within arrays",
        "a map with a key that cannot be one",
    ],
)
def test_what_is_no_msgpack_is_refused(frame: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        unpack(frame)


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_malformed(octets: bytes) -> None:
    only_known_or_malformed(octets)


LEAF = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=20)
    | st.sampled_from([FOUR, SIX])
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


@given(st.integers(-1, len(EXAMPLES)), st.lists(VALUE, max_size=12))
def test_any_values_are_a_message_or_malformed(kind: int, values: list[object]) -> None:
    only_known_or_malformed(msgpack.packb([kind, *values]))


@given(st.sampled_from(list(EXAMPLES.values())), st.data())
def test_a_message_with_any_field_changed_is_a_message_or_malformed(message: Message, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(type(message)._fields))
    only_known_or_malformed(msgpack.packb(replaced(message, field, data.draw(VALUE))))


@given(st.sampled_from(list(EXAMPLES.values())), st.data())
def test_a_frame_with_any_octet_changed_is_a_message_or_malformed(message: Message, data: st.DataObject) -> None:
    frame = bytearray(pack(message)[:300])
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    only_known_or_malformed(bytes(frame))


def only_known_or_malformed(frame: bytes) -> None:
    """What is accepted is of the catalogue and, said again, means the same."""
    try:
        message = unpack(frame)
    except MalformedFrameError:
        return
    assert type(message) in get_args(Message)
    assert same(unpack(pack(message)), message)


def same(a: object, b: object) -> bool:
    """Equality under which a NaN, which any peer may send as a float, equals itself."""
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, tuple) and isinstance(b, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_every_field_has_a_check() -> None:
    for kind in get_args(Message):
        assert len(messages._CHECKS[get_args(Message).index(kind)]) == len(kind._fields)
