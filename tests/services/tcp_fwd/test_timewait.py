"""TIME-WAIT: records of a few numbers, bounded and forgotten."""

from services.tcp_fwd.timewait import LASTS, TimeWait


def test_a_record_answers_until_it_has_lasted_long_enough():
    waits = TimeWait(10)
    waits.add(b"a", 1, 2, 3, now=0.0)
    record = waits.get(b"a", LASTS - 1)
    assert record is not None
    assert (record.snd_nxt, record.rcv_nxt, record.window) == (1, 2, 3)
    assert waits.get(b"a", LASTS) is None
    waits.expire(LASTS)
    assert len(waits) == 0


def test_the_oldest_goes_when_there_are_too_many():
    waits = TimeWait(2)
    for number, key in enumerate((b"a", b"b", b"c")):
        waits.add(key, 0, 0, 0, now=float(number))
    assert [waits.get(key, 3.0) is not None for key in (b"a", b"b", b"c")] == [False, True, True]


def test_a_new_connection_takes_its_place():
    waits = TimeWait(2)
    waits.add(b"a", 0, 0, 0, now=0.0)
    waits.remove(b"a")
    assert waits.get(b"a", 1.0) is None
