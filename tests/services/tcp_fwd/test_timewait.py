"""TIME-WAIT: records of a few numbers, bounded and forgotten, that give way to a new SYN (RFC 6191)."""

import pytest

from netstack.packet import tcp
from services.tcp_fwd.segment import Emitter, parse
from services.tcp_fwd.timewait import LASTS, Record, TimeWait
from tests.services.tcp_fwd.builders import FLOW, MSS, segment

RECORD = Record(snd_nxt=77, rcv_nxt=1000, window=500, ts_recent=None, ts_offset=0)
STAMPED = RECORD._replace(ts_recent=300, ts_offset=5)


def of(key: bytes, **changes):
    return segment(key=key, **changes)


def test_a_record_answers_until_it_has_lasted_long_enough():
    waits = TimeWait(10)
    waits.add(b"a", RECORD, now=0.0)
    assert waits.get(of(b"a"), LASTS - 1) == RECORD
    assert waits.get(of(b"a"), LASTS) is None
    waits.expire(LASTS)
    assert len(waits) == 0


def test_a_fin_sent_again_makes_it_last_as_long_again():
    waits = TimeWait(10)
    waits.add(b"a", RECORD, now=0.0)
    waits.get(of(b"a", flags=tcp.FIN | tcp.ACK), LASTS - 1)
    assert waits.get(of(b"a"), LASTS + 1) == RECORD


def test_the_oldest_goes_when_there_are_too_many():
    waits = TimeWait(2)
    for number, key in enumerate((b"a", b"b", b"c")):
        waits.add(key, RECORD, now=float(number))
    assert [waits.get(of(key), 3.0) is not None for key in (b"a", b"b", b"c")] == [False, True, True]


@pytest.mark.parametrize(
    ("record", "seq", "tsval", "admitted"),
    [
        (RECORD, 1001, -1, True),
        (RECORD, 1000, -1, False),
        (RECORD, 999, -1, False),
        (STAMPED, 10, 301, True),
        (STAMPED, 10, 300, False),
        (STAMPED, 1001, 300, True),
        (STAMPED, 10, -1, False),
        (RECORD, 10, 301, False),
    ],
    ids=[
        "a sequence number beyond the old ones",
        "the next of the old connection could be an old duplicate",
        "so could one before",
        "a later timestamp makes any sequence number new",
        "the same timestamp does not",
        "but a sequence number beyond still does",
        "no timestamp where there were some",
        "a timestamp where there were none",
    ],
)
def test_which_syn_opens_anew(record, seq, tsval, admitted):
    waits = TimeWait(10)
    waits.add(b"a", record, now=0.0)
    options = tcp.emit_options(tcp.Options(mss=1460, timestamps=(tsval, 0))) if tsval >= 0 else b""
    assert waits.admits(of(b"a", seq=seq, flags=tcp.SYN, options=options), 1.0) is admitted
    assert len(waits) == (0 if admitted else 1)


def test_a_syn_of_no_record_is_admitted():
    assert TimeWait(2).admits(of(b"a", flags=tcp.SYN), 0.0)


@pytest.mark.parametrize(("record", "stamps"), [(RECORD, (-1, -1)), (STAMPED, (2005, 300))], ids=["plain", "stamped"])
def test_the_answer_says_where_both_ends_are(record, stamps):
    answer = parse(record.acknowledgement(Emitter(FLOW, MSS), 2.0))
    assert (answer.flags, answer.seq, answer.ack, answer.window) == (tcp.ACK, 77, 1000, 500)
    assert (answer.tsval, answer.tsecr) == stamps
