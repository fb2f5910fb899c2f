"""The scoreboard, beside a plain model with a state for each octet."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.seqnum import MASK
from services.tcp_fwd.scoreboard import IN_FLIGHT, LOST, MAX_RUNS, RESENT, SACKED, Run, Scoreboard

BASE = 0xFFFFFFC0  # the circle is crossed


def at(position: int) -> int:
    return (BASE + position) & MASK


def sent(*lengths: int) -> Scoreboard:
    board = Scoreboard()
    position = 0
    for number, length in enumerate(lengths):
        data = bytes((position + n) % 256 for n in range(length))
        board.runs.append(Run(at(position), at(position + length), float(number), IN_FLIGHT, data, at(position)))
        position += length
    return board


def shape(board: Scoreboard) -> list[tuple[int, int, int]]:
    return [((run.seq - BASE) & MASK, (run.end - BASE) & MASK, run.state) for run in board.runs]


def test_a_sack_divides_a_run():
    board = sent(100)
    assert [run.octets for run in board.sack(at(40), at(60))] == [bytes(range(40, 60))]
    assert shape(board) == [(0, 40, IN_FLIGHT), (40, 60, SACKED), (60, 100, IN_FLIGHT)]
    assert (board.absent, board.sacked) == (20, 20)


def test_one_that_grows_stays_one_run():
    board = sent(100)
    board.sack(at(40), at(60))
    assert [(run.seq, run.end) for run in board.sack(at(40), at(70))] == [(at(60), at(70))]
    board.sack(at(30), at(40))
    assert shape(board) == [(0, 30, IN_FLIGHT), (30, 70, SACKED), (70, 100, IN_FLIGHT)]


def test_what_was_sent_at_another_time_is_another_run():
    board = sent(50, 50)
    board.sack(at(0), at(100))
    assert shape(board) == [(0, 50, SACKED), (50, 100, SACKED)]


def test_an_acknowledgement_gives_what_was_not_sacked():
    board = sent(50, 50)
    board.sack(at(50), at(70))
    assert [(run.seq, run.end) for run in board.acknowledge(at(80))] == [(at(0), at(50)), (at(70), at(80))]
    assert shape(board) == [(80, 100, IN_FLIGHT)]
    assert board.absent == 0


def test_a_lost_run_is_sent_again_in_parts():
    board = sent(100)
    board.lose(0)
    assert board.next_lost() == 0
    run = board.resend(0, 30, 9.0)
    assert (bytes(run.octets), run.sent_at, run.state) == (bytes(range(30)), 9.0, RESENT)
    assert board.absent == 70
    assert board.next_lost() == 1


def test_when_all_is_lost_what_is_sacked_is_not():
    board = sent(30, 30, 30)
    board.sack(at(30), at(60))
    board.lose_all()
    assert shape(board) == [(0, 30, LOST), (30, 60, SACKED), (60, 90, LOST)]
    board.find_again()
    assert shape(board) == [(0, 30, IN_FLIGHT), (30, 60, SACKED), (60, 90, IN_FLIGHT)]


def test_but_for_a_client_that_took_it_back():
    board = sent(30, 30)
    board.sack(at(0), at(30))
    board.lose_all()
    assert shape(board) == [(0, 30, LOST), (30, 60, LOST)]
    assert board.sacked == 0


def test_the_last_octets_become_a_run_of_their_own():
    board = sent(100)
    assert board.last(30) == 1
    assert shape(board) == [(0, 70, IN_FLIGHT), (70, 100, IN_FLIGHT)]
    assert board.last(50) == 1


def test_no_octet_is_copied():
    data = bytearray(b"abcdef")
    board = Scoreboard()
    board.runs.append(Run(0, 6, 0.0, IN_FLIGHT, memoryview(data), 0))
    board.sack(2, 4)
    data[5] = ord("X")
    assert bytes(board.runs[-1].octets) == b"eX"


def test_sacks_of_single_octets_divide_it_no_further_than_there_may_be_runs():
    board = sent(4 * MAX_RUNS, 100)
    noted = [bool(board.sack(at(octet), at(octet + 1))) for octet in range(1, 4 * MAX_RUNS, 2)]
    assert len(board.runs) == MAX_RUNS
    assert noted == [True] * board.sacked + [False] * (len(noted) - board.sacked)
    assert board.sack(at(4 * MAX_RUNS), at(4 * MAX_RUNS + 50)) == []
    board.sack(at(0), at(4 * MAX_RUNS + 100))
    assert board.sacked == 4 * MAX_RUNS + 100, "what a block has whole is noted"


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("sack"), st.integers(0, 200), st.integers(1, 60)),
        st.tuples(st.just("ack"), st.integers(0, 200), st.just(0)),
        st.tuples(st.sampled_from(["lose", "resend", "first", "all", "found", "last"]), st.integers(0, 9),
                  st.integers(1, 40)),
    ), max_size=40,
)  # fmt: skip


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), OPERATIONS)
def test_it_counts_like_a_model_with_a_state_for_each_octet(lengths, operations):
    board, end = sent(*lengths), sum(lengths)
    model = dict.fromkeys(range(end), IN_FLIGHT)
    una = 0
    for name, number, size in operations:
        match name:
            case "sack":
                left, right = max(number, una), min(number + size, end)
                if left < right:
                    new = board.sack(at(left), at(right))
                    assert sum((run.end - run.seq) & MASK for run in new) == sum(
                        not model[octet] & SACKED for octet in range(left, right)
                    )
                    for octet in range(left, right):
                        if not model[octet] & SACKED:
                            model[octet] = model[octet] & RESENT | SACKED
            case "ack":
                if una <= number <= end:
                    board.acknowledge(at(number))
                    for octet in range(una, number):
                        del model[octet]
                    una = number
            case "lose" | "resend" if number < len(board.runs):
                run = board.runs[number]
                first, last = (run.seq - BASE) & MASK, (run.end - BASE) & MASK
                if name == "lose" and not run.state & (SACKED | LOST):
                    board.lose(number)
                    model.update((octet, model[octet] & RESENT | LOST) for octet in range(first, last))
                elif name == "resend" and run.state & LOST:
                    board.resend(number, size, 5.0)
                    model.update((octet, RESENT) for octet in range(first, min(first + size, last)))
            case "first" if board.runs:
                run = board.runs[0]
                if not run.state & (SACKED | LOST):
                    first, last = (run.seq - BASE) & MASK, (run.end - BASE) & MASK
                    model.update((one, model[one] & RESENT | LOST) for one in range(first, min(first + size, last)))
                board.lose_first(size)
            case "all":
                reneged = bool(board.runs) and bool(board.runs[0].state & SACKED)
                board.lose_all()
                for octet, state in model.items():
                    if not state & LOST and (reneged or not state & SACKED):
                        model[octet] = state & RESENT | LOST
            case "found":
                board.find_again()
                model = {octet: state & ~LOST for octet, state in model.items()}
            case "last" if board.runs:
                board.last(size)
        position = una
        for first, last, state in shape(board):
            assert first == position < last, "the runs are the unacknowledged octets, in order, without a hole"
            assert {model[octet] for octet in range(first, last)} == {state}
            position = last
        assert position == end
        for run in board.runs:
            assert bytes(run.octets) == bytes(n % 256 for n in range((run.seq - BASE) & MASK, (run.end - BASE) & MASK))
        assert board.absent == sum(bool(state & (SACKED | LOST)) for state in model.values())
        assert board.sacked == sum(bool(state & SACKED) for state in model.values())
