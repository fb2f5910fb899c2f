"""The sending half: room, what an acknowledgement does, and the retransmission timer (RFC 6298)."""

import pytest

from services.tcp_fwd.sending import INITIAL_RTO, MAX_RTO, MIN_RTO, Sender

ISS = 0xFFFFFF00


def sending(window: int = 10_000, scale: int = 0) -> Sender:
    """An established sender: its SYN is acknowledged."""
    sender = Sender(ISS, scale=scale, window=window, irs=0)
    sender.take(b"", 1, 0.0)
    sender.receive_ack(1, sender.snd_nxt, window >> scale, pure=True, now=0.0)
    return sender


def ack(sender: Sender, octets: int, *, window: int = 10_000, now: float = 0.0, pure: bool = True) -> bool:
    return sender.receive_ack(1, (sender.snd_una + octets) & 0xFFFFFFFF, window, pure=pure, now=now)


def test_room_is_the_window_less_what_is_in_flight():
    sender = sending(1000)
    sender.take(bytes(600), 600, 0.0)
    assert (sender.room(), sender.in_flight) == (400, 600)
    ack(sender, 600, window=1000)
    assert (sender.room(), sender.in_flight) == (1000, 0)


def test_room_has_a_limit_of_our_own_whatever_the_client_offers():
    sender = Sender(ISS, scale=14, window=0xFFFF, irs=0, limit=5000)
    sender.take(b"", 1, 0.0)
    sender.receive_ack(1, sender.snd_nxt, 0xFFFF, pure=True, now=0.0)
    assert sender.room() == 5000


@pytest.mark.parametrize(
    ("octets", "answer"), [(0, True), (600, True), (601, False), (-1, False)],
    ids=["SND.UNA", "SND.NXT", "beyond", "before"],
)  # fmt: skip
def test_acceptable_acknowledgements(octets, answer):
    sender = sending()
    sender.take(bytes(600), 600, 0.0)
    assert sender.acceptable((sender.snd_una + octets) & 0xFFFFFFFF) is answer


def test_an_old_segment_does_not_update_the_window():
    sender = sending()
    sender.receive_ack(100, sender.snd_una, 5000, pure=True, now=0.0)
    sender.receive_ack(50, sender.snd_una, 9, pure=True, now=0.0)
    assert sender.snd_wnd == 5000


def test_the_timer_runs_only_while_something_is_unacknowledged():
    sender = sending()
    assert sender.timer is None
    sender.take(bytes(10), 10, 5.0)
    assert sender.timer == 5.0 + sender.rto
    ack(sender, 10, now=5.1)
    assert sender.timer is None


def test_the_first_measurement_sets_the_timer_to_three_times_the_round_trip():
    sender = sending()
    assert Sender(ISS, scale=0, window=1, irs=0).rto == INITIAL_RTO
    sender.take(bytes(10), 10, 1.0)
    ack(sender, 10, now=1.5)
    # SRTT was 0 from the SYN's own round trip in no time; RTTVAR and SRTT follow section 2.3.
    assert MIN_RTO <= sender.rto <= 1.5


def test_it_never_falls_below_its_floor_nor_rises_above_its_ceiling():
    sender = sending()
    for _ in range(50):
        sender.take(bytes(10), 10, 1.0)
        ack(sender, 10, now=1.0)
    assert sender.rto == MIN_RTO
    sender.take(bytes(10), 10, 1.0)
    for _ in range(20):
        sender.back_off(1.0)
    assert sender.rto == MAX_RTO


def test_no_round_trip_is_taken_from_what_was_sent_again():
    sender = sending()
    sender.take(bytes(10), 10, 0.0)
    sender.back_off(1.0)
    backed_off = sender.rto
    ack(sender, 10, now=50.0)
    assert sender.rto == backed_off


def test_duplicates_with_another_window_are_window_updates_not_duplicates():
    sender = sending()
    sender.take(bytes(10), 10, 0.0)
    assert not any(ack(sender, 0, window=10_000 + step) for step in range(1, 6))


def test_segments_with_data_are_not_duplicates():
    sender = sending()
    sender.take(bytes(10), 10, 0.0)
    assert not any(ack(sender, 0, pure=False) for _ in range(6))


def test_everything_is_kept_until_it_is_acknowledged():
    sender = sending()
    sender.take(b"abc", 3, 0.0)
    sender.take(b"def", 3, 0.0)
    ack(sender, 4)
    assert sender.oldest() == ((ISS + 1 + 4) & 0xFFFFFFFF, b"ef")
    ack(sender, 2)
    assert sender.oldest() is None
