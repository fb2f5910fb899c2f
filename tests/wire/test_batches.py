"""Batches of large packets: the same octets on the wire as the library's, read without it."""

from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.wire import batches
from netstack.wire.messages import FromTun, MalformedFrameError, ToTun, pack, unpack

LARGE = bytes(range(256)) * 16
KIND = 6

PACKETS = st.lists(st.binary(max_size=3000), max_size=5)
TRACED = st.lists(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2), max_size=3)


@given(st.floats(allow_nan=False), PACKETS, TRACED)
def test_the_library_reads_what_we_write(sent_at, packets, traced):
    frame = batches.pack_batch(KIND, sent_at, packets, traced)
    assert msgpack.unpackb(frame) == [KIND, sent_at, packets, traced]
    fields: Any = batches.unpack_batch(frame)
    assert fields is not None
    assert [fields[0], fields[1], [bytes(view) for view in fields[2]], fields[3]] == [KIND, sent_at, packets, traced]


@pytest.mark.parametrize("kind", [FromTun, ToTun])
@pytest.mark.parametrize("packets", [[LARGE], [LARGE, b"small"], [b"small", LARGE], []], ids=len)
def test_a_message_is_the_same_with_and_without_views(kind, packets):
    message = kind(1.5, packets, [[0, 7]] if packets else [])
    frame = pack(message)
    assert unpack(frame) == message
    seen: Any = unpack(frame, views=True)
    assert [bytes(packet) for packet in seen.packets] == packets
    assert seen._replace(packets=[]) == message._replace(packets=[])


def test_a_view_is_not_a_copy():
    frame = batches.pack_batch(KIND, 0.0, [LARGE], [])
    fields: Any = batches.unpack_batch(frame)
    (view,) = fields[2]
    assert view.obj is frame


@pytest.mark.parametrize("cut", [0, 1, 11, 14, 16, 20, 2000, -1])
def test_a_frame_cut_short_is_not_read(cut):
    frame = batches.pack_batch(KIND, 0.0, [LARGE], [])
    assert batches.unpack_batch(frame[:cut]) is None
    with pytest.raises(MalformedFrameError):
        unpack(frame[:cut], views=True)


def test_octets_behind_the_end_are_malformed():
    with pytest.raises(MalformedFrameError):
        unpack(batches.pack_batch(KIND, 0.0, [LARGE], []) + b"\x00", views=True)


@given(st.binary(max_size=100), st.integers(0, 40), st.integers(0, 255))
def test_any_octets_are_a_batch_or_none(octets, at, value):
    batches.unpack_batch(octets)
    frame = bytearray(batches.pack_batch(KIND, 0.0, [LARGE], [[0, 1]]))
    frame[at] = value
    batches.unpack_batch(bytes(frame))
    with suppress(MalformedFrameError):
        unpack(bytes(frame), views=True)


@given(st.binary(max_size=300))
def test_any_octets_after_a_true_head_are_a_message_or_malformed(octets):
    frame = batches.pack_batch(KIND, 0.0, [LARGE], [])[:15] + octets * 20
    with suppress(MalformedFrameError):
        unpack(frame, views=True)
