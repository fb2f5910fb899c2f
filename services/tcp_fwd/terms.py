"""What a client's SYN offers, and what the connection makes of it. No I/O, no clock.

ECN (RFC 3168) is not among it: a SYN that asks for it gets a SYN-ACK without ECE, which refuses it, and nothing of ours
is marked as capable of it.
"""

import struct
from typing import Final, NamedTuple

from netstack.packet import tcp
from services.tcp_fwd.receiving import WINDOW_SCALE
from services.tcp_fwd.segment import Segment

_ALL: Final = struct.Struct("!IIIII").pack
"""Maximum segment size; SACK permitted, and the head of timestamps; these; window scale and a NOP."""

_USUAL: Final = struct.Struct("!HHIIII").unpack
"""What Linux offers: the same, with the NOP before the window scale."""
_USUAL_LEN: Final = 20  # octets

_terms: Final = tuple.__new__  # a NamedTuple without the call of a Python function that its own __new__ is

MIN_MSS: Final = 88  # octets; Linux's TCP_MIN_SND_MSS less the header: room for all options and 48 of data


class Terms(NamedTuple):
    """What both ends use."""

    mss: int
    """Octets of options and data in a segment to the client (RFC 6691)."""
    window_scale: int | None
    """The client's shift; None where neither end scales (RFC 7323 section 2.2)."""
    sack: bool
    tsval: int | None
    """The timestamp of the SYN; None where neither end sends any."""


def accept(syn: Segment, mss: int, *, is_v6: bool) -> Terms:
    """The terms for a client that sent this SYN, over a link that leaves `mss` octets for options and data."""
    if len(syn.options) == _USUAL_LEN:
        mss_head, theirs, heads, tsval, _, tail = _USUAL(syn.options)
        if mss_head == 0x0204 and heads == 0x0402080A and tail >> 8 == 0x010303 and theirs:
            scale = min(tail & 0xFF, tcp.MAX_WINDOW_SCALE)
            return _terms(Terms, (max(min(mss, theirs), MIN_MSS), scale, True, tsval))
    options = tcp.parse_options(syn.options)
    tsval = options.timestamps[0] if options.timestamps else syn.tsval if syn.tsval >= 0 else None
    theirs = options.mss or (tcp.DEFAULT_MSS_V6 if is_v6 else tcp.DEFAULT_MSS_V4)
    return Terms(max(min(mss, theirs), MIN_MSS), options.window_scale, options.sack_permitted, tsval)


def answer(terms: Terms, mss: int, tsval: int) -> bytes:
    """The options of the SYN-ACK: what the client offered and we take, and our own MSS."""
    if terms.sack and terms.tsval is not None and terms.window_scale is not None:  # as all but old ones do
        return _ALL(0x02040000 | mss, 0x0402080A, tsval, terms.tsval, 0x03030001 | WINDOW_SCALE << 8)
    return tcp.emit_options(
        tcp.Options(
            mss=mss,
            sack_permitted=terms.sack,
            timestamps=None if terms.tsval is None else (tsval, terms.tsval),
            window_scale=None if terms.window_scale is None else WINDOW_SCALE,
        )
    )
