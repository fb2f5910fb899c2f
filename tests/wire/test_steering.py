"""The table of queues: who gets which column, and what the kernel calls whom."""

from hypothesis import given
from hypothesis import strategies as st

from netstack.wire.steering import COLUMNS, DNS_ROW, SIZE, TCP_ROW, UDP_ROW, Steering


def row(memory: bytearray, start: int) -> bytes:
    return bytes(memory[start : start + COLUMNS])


def with_queues(*queues: int) -> tuple[bytearray, Steering]:
    memory = bytearray(SIZE)
    steering = Steering(memory)
    for queue in queues:
        steering.attached(queue)
    return memory, steering


def test_without_workers_everything_comes_to_the_first_queue():
    memory, steering = with_queues(3)
    assert not any(row(memory, TCP_ROW))
    steering.steer([3], [], [])
    steering.steer([], [], [])
    assert not any(row(memory, TCP_ROW) + row(memory, UDP_ROW) + row(memory, DNS_ROW))


def test_one_worker_gets_its_whole_row_and_no_other():
    memory, steering = with_queues(7, 3, 4)
    steering.steer([7], [3], [4])
    assert row(memory, TCP_ROW) == bytes([1]) * COLUMNS
    assert row(memory, UDP_ROW) == bytes([2]) * COLUMNS
    assert row(memory, DNS_ROW) == bytes([3]) * COLUMNS


def test_several_share_a_row_about_evenly():
    memory, steering = with_queues(0, 1, 2, 3)
    steering.steer([0, 1, 2, 3], [], [])
    counts = [row(memory, TCP_ROW).count(number) for number in (1, 2, 3, 4)]
    assert sum(counts) == COLUMNS
    assert all(COLUMNS / 4 * 0.6 < count < COLUMNS / 4 * 1.4 for count in counts)


def test_a_worker_that_comes_takes_columns_only_for_itself():
    memory, steering = with_queues(5, 6)
    steering.steer([5, 6], [], [])
    before = row(memory, TCP_ROW)
    steering.attached(9)
    steering.steer([5, 6, 9], [], [])
    assert {new for old, new in zip(before, row(memory, TCP_ROW), strict=True) if old != new} == {3}


def test_where_one_is_detached_the_last_takes_its_number():
    memory, steering = with_queues(5, 6, 7)
    steering.steer([6, 7], [], [])
    before = row(memory, TCP_ROW)
    steering.detached(5)
    steering.steer([6, 7], [], [])
    assert steering.order == (7, 6)
    # Number 3 was queue 7, which is number 1 now; queue 6 keeps its number 2.
    assert row(memory, TCP_ROW) == before.replace(b"\3", b"\1")


def test_what_was_never_attached_changes_nothing_when_it_is_detached():
    _, steering = with_queues(5)
    steering.detached(6)
    assert steering.order == (5,)


def test_a_queue_that_is_not_attached_gets_nothing():
    memory, steering = with_queues(5)
    steering.steer([5, 6], [6], [])
    assert row(memory, TCP_ROW) == bytes([1]) * COLUMNS
    assert not any(row(memory, UDP_ROW))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=40))
def test_the_next_one_knows_the_order_and_it_is_the_kernels(changes):
    memory = bytearray(SIZE)
    kernel: list[int] = []
    for comes, queue in changes:
        steering = Steering(memory)  # each change is seen by another process
        if comes and queue not in kernel:
            kernel.append(queue)
            steering.attached(queue)
        elif not comes and queue in kernel:
            at = kernel.index(queue)
            kernel[at] = kernel[-1]  # tun.c, __tun_detach
            kernel.pop()
            steering.detached(queue)
    assert Steering(memory).order == tuple(kernel)
