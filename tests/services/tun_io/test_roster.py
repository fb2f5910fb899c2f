"""Workers and flows: sticky, even, and honest about who is gone."""

from hypothesis import given
from hypothesis import strategies as st

from services.tun_io.roster import ADOPTION, SILENT_AFTER, Roster

STAGE = "tcp_fwd"


def roster(*workers: bytes, max_flows: int = 1000) -> Roster:
    made = Roster(max_flows, now=0.0)
    for number, worker in enumerate(workers):
        made.hello(worker, STAGE, number, [], 0.0)
    return made


def owner(of: Roster, key: bytes) -> bytes | None:
    worker = of.owner(STAGE, key)
    return worker.identity if worker else None


def test_a_flow_stays_where_it_was_put_when_workers_come():
    spread = roster(b"w0")
    spread.assign(STAGE, b"flow")
    spread.hello(b"w1", STAGE, 1, [], 1.0)
    assert owner(spread, b"flow") == b"w0"


def test_flows_are_spread_evenly():
    spread = roster(b"w0", b"w1", b"w2")
    for number in range(99):
        spread.assign(STAGE, bytes([number]))
    assert sorted(len(worker.flows) for worker in spread.workers) == [33, 33, 33]


def test_nobody_there_or_no_room_gives_nobody():
    assert roster().assign(STAGE, b"flow") is None
    full = roster(b"w0", max_flows=1)
    full.assign(STAGE, b"a")
    assert full.assign(STAGE, b"b") is None


def test_a_closed_flow_makes_room_and_only_its_owner_can_close_it():
    spread = roster(b"w0", b"w1", max_flows=1)
    kept = spread.assign(STAGE, b"flow")
    other = next(worker.identity for worker in spread.workers if worker is not kept)
    spread.closed(other, [b"flow"])
    assert spread.flows(STAGE) == 1
    spread.closed(kept.identity, [b"flow", b"never heard of"])
    assert spread.flows(STAGE) == 0


def test_a_flow_that_a_worker_took_by_itself_is_its_own_whoever_had_it_before():
    spread = roster(b"w0", b"w1")
    before = spread.assign(STAGE, b"taken").identity
    taker = next(worker.identity for worker in spread.workers if worker.identity != before)
    spread.opened(taker, [b"taken", b"new"])
    assert (owner(spread, b"taken"), owner(spread, b"new")) == (taker, taker)
    spread.closed(before, [b"taken"])
    assert spread.flows(STAGE) == 2
    assert spread.assign(STAGE, b"next").identity == before, "it has the fewest"


def test_after_a_change_of_queues_flows_may_be_claimed_for_a_while_and_never_shorter_than_before():
    spread = Roster(10, now=0.0)
    spread.hesitate(ADOPTION / 2)
    assert spread.adopting(ADOPTION * 0.9)
    assert not spread.adopting(ADOPTION)
    spread.hesitate(10.0)
    assert spread.adopting(9.9)
    assert not spread.adopting(10.0)


def test_a_draining_worker_keeps_its_flows_and_gets_no_new_ones():
    spread = roster(b"w0", b"w1")
    spread.assign(STAGE, b"a")
    first = owner(spread, b"a")
    spread.drain(first)
    for number in range(10):
        assert spread.assign(STAGE, bytes([number])).identity != first
    assert owner(spread, b"a") == first
    assert spread.anybody(STAGE).identity != first


def test_a_lost_worker_gives_its_flows_back():
    spread = roster(b"w0", b"w1")
    for number in range(10):
        spread.assign(STAGE, bytes([number]))
    lost = spread.remove(b"w0")
    assert len(lost) == 5
    assert all(owner(spread, key) is None for key in lost)
    assert spread.flows(STAGE) == 5


def test_a_worker_restarted_under_its_name_has_lost_its_flows():
    spread = roster(b"w0")
    spread.assign(STAGE, b"flow")
    assert spread.hello(b"w0", STAGE, 999, [], 1.0) == [b"flow"]
    assert owner(spread, b"flow") is None


def test_the_same_process_saying_hello_again_has_not():
    spread = roster(b"w0")
    spread.assign(STAGE, b"flow")
    assert spread.hello(b"w0", STAGE, 0, [b"flow"], 1.0) == []
    assert owner(spread, b"flow") == b"w0"


def test_flows_are_adopted_after_a_restart_of_ours():
    spread = Roster(10, now=100.0)
    assert spread.adopting(100.0 + ADOPTION / 2)
    spread.hello(b"w0", STAGE, 1, [b"old"], 100.1)
    assert owner(spread, b"old") == b"w0"
    assert not spread.adopting(100.0 + ADOPTION)


def test_a_worker_is_gone_when_it_was_silent_for_too_long():
    spread = roster(b"w0", b"w1")
    spread.heard(b"w0", 1.0)
    assert [worker.identity for worker in spread.silent(SILENT_AFTER + 0.5)] == [b"w1"]


def test_anybody_takes_turns():
    spread = roster(b"w0", b"w1")
    assert {spread.anybody(STAGE).identity for _ in range(2)} == {b"w0", b"w1"}
    assert spread.anybody("udp_fwd") is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["hello", "restart", "assign", "opened", "closed", "remove", "drain"]), st.integers(0, 2),
              st.integers(0, 9)), max_size=60,
)  # fmt: skip


@given(STEPS)
def test_every_flow_has_at_most_one_owner_who_knows_it(steps):
    spread = Roster(8, now=0.0)
    pids = [0, 0, 0]
    for step, number, flow in steps:
        name, key = b"w%d" % number, bytes([flow])
        if step == "restart":
            pids[number] += 1
        if step in {"hello", "restart"}:
            spread.hello(name, STAGE, pids[number], [key], 0.0)
        elif step == "assign":
            if spread.owner(STAGE, key) is None:
                spread.assign(STAGE, key)
        elif name in spread:
            {
                "opened": lambda n, k: spread.opened(n, [k]),
                "closed": lambda n, k: spread.closed(n, [k]),
                "remove": lambda n, _: spread.remove(n),
                "drain": lambda n, _: spread.drain(n),
            }[step](name, key)
        claimed = [(key, worker.identity) for worker in spread.workers for key in worker.flows]
        assert len({key for key, _ in claimed}) == len(claimed) == spread.flows(STAGE)
        assert all(owner(spread, key) == identity for key, identity in claimed)
