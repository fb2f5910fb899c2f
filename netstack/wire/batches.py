"""Batches of large packets, with as few copies as can be: the same msgpack array, written and read without the library.

msgpack copies each packet twice on the way out and once on the way in; at 64 KiB a packet these copies were the largest
part of the CPU time of an octet. Here a batch is joined once, and read as views of the frame it came in. A view keeps
its whole frame alive: who keeps one for longer than it takes to pass it on makes a copy of its own.
"""

import struct
from typing import Final

import msgpack

LARGE: Final = 2048  # octets of the first packet from which on this is faster than the library (measured)

_HEAD: Final = struct.Struct(">BBBd")  # array of four, kind, float64
_ARRAY16: Final = struct.Struct(">BH")
_BIN32: Final = struct.Struct(">BI")
_FIXARRAY_OF_4: Final = 0x94
_FLOAT64: Final = 0xCB
_ARRAY16_MARK: Final = 0xDC
_BIN32_MARK: Final = 0xC6


def pack_batch(kind: int, sent_at: float, packets: list[bytes], traced: list[list[int]]) -> bytes:
    """The frame `[kind, sent_at, packets, traced]`."""
    parts = [_HEAD.pack(_FIXARRAY_OF_4, kind, _FLOAT64, sent_at), _ARRAY16.pack(_ARRAY16_MARK, len(packets))]
    for packet in packets:
        parts.append(_BIN32.pack(_BIN32_MARK, len(packet)))
        parts.append(packet)
    parts.append(msgpack.packb(traced))
    return b"".join(parts)


def unpack_batch(frame: bytes) -> list[object] | None:
    """The fields of a frame that pack_batch made, the packets as views; None for any other frame whatever."""
    end = len(frame)
    if end < _HEAD.size + _ARRAY16.size or frame[0] != _FIXARRAY_OF_4 or frame[2] != _FLOAT64:
        return None
    _, kind, _, sent_at = _HEAD.unpack_from(frame)
    mark, count = _ARRAY16.unpack_from(frame, _HEAD.size)
    if mark != _ARRAY16_MARK:
        return None
    view = memoryview(frame)
    at = _HEAD.size + _ARRAY16.size
    packets: list[memoryview] = []
    for _ in range(count):
        if at + _BIN32.size > end:
            return None
        mark, length = _BIN32.unpack_from(frame, at)
        at += _BIN32.size
        if mark != _BIN32_MARK or at + length > end:
            return None
        packets.append(view[at : at + length])
        at += length
    try:
        traced = msgpack.unpackb(view[at:], raw=False)
    except Exception:  # noqa: BLE001  (msgpack raises many kinds; the library then says what is wrong with the frame)
        return None
    return [kind, sent_at, packets, traced]
