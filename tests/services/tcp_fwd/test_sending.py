"""The sending half: room, what an acknowledgement does, what is sent again and when."""

import pytest

from netstack.packet.seqnum import MASK
from services.tcp_fwd.congestion import initial_window
from services.tcp_fwd.rtt import AFTER_LOST_SYN, INITIAL_RTO, MAX_RTO, MIN_PROBE, MIN_RTO
from services.tcp_fwd.sending import Alarm, Sender
from tests.services.tcp_fwd.builders import segment, syn

ISS = 0xFFFFFF00  # close to the end of the circle, so that every test crosses it
MSS = 1000
RTT = 0.1


class Flight:
    """An established sender whose segments are numbered from 0, of MSS octets each."""

    def __init__(self, *, window: int = 1 << 20, sack: bool = True, limit: int = 4 << 20, stamps: bool = False) -> None:
        self.now = 0.0
        self.sender = Sender(syn(window=0xFFFF), ISS, scale=5, mss=MSS, sack=sack, limit=limit)
        if stamps:
            self.sender.use_timestamps(7)
        self.sender.take(b"", 1, -RTT)
        self.sender.receive_ack(self.segment(0, window), (), 0.0)
        self.sender.open(window >> 5)
        self.window = window
        self.sent = 0

    def segment(self, octets: int, window: int, tsecr: int = -1, data: bytes = b""):
        one = segment(seq=2000, ack=ISS + 1 + octets, window=window >> 5, data=data)
        return one._replace(tsecr=tsecr)

    def send(self, segments: int, *, train: int = 1) -> "Flight":
        for _ in range(0, segments, train):
            data = b"".join(bytes([(self.sent + n) % 256]) * MSS for n in range(train))
            self.sender.take(data, len(data), self.now)
            self.sent += train
        return self

    def ack(self, segments: float, *blocks: tuple[int, int], tsecr: int = -1, window: int | None = None) -> "Flight":
        """Acknowledge so many segments, and these ranges of them as SACK."""
        edges = tuple(((ISS + 1 + left * MSS) & MASK, (ISS + 1 + right * MSS) & MASK) for left, right in blocks)
        one = self.segment(int(segments * MSS), self.window if window is None else window, tsecr)
        self.sender.receive_ack(one, edges, self.now)
        return self

    def again(self) -> list[tuple[int, int]]:
        """What is sent again now: the first segment, and how many octets; the octets are compared."""
        out = []
        while (run := self.sender.resend(self.now, 60 * MSS)) is not None:
            first = ((run.seq - ISS - 1) & MASK) // MSS
            octets = bytes(run.octets)
            assert octets[:1] == bytes([first % 256])
            assert octets[-1:] == bytes([(first + (len(octets) - 1) // MSS) % 256])
            out.append((first, len(octets)))
        return out

    def at(self, now: float) -> "Flight":
        self.now = now
        return self

    def expire(self) -> "Flight":
        assert self.sender.timer is not None
        self.now = self.sender.timer
        self.sender.handle_timeout(self.now)
        return self

    def time_out(self) -> "Flight":
        """Let the retransmission timer run out, after the probe of the tail if there is one."""
        before = self.sender.retransmissions
        while self.sender.retransmissions == before:
            self.expire()
        return self


def measured(**changes) -> Flight:
    """One segment was sent and acknowledged: the round trip is known to be RTT."""
    flight = Flight(**changes).send(1).at(RTT).ack(1)
    assert flight.sender.round_trip.srtt == pytest.approx(RTT, rel=0.01)
    return flight


class TestRoom:
    def test_it_is_the_least_of_the_windows_less_what_is_in_flight(self):
        flight = Flight(window=3200)
        assert flight.sender.room() == 3200
        flight.send(2)
        assert (flight.sender.room(), flight.sender.in_flight) == (1200, 2000)
        flight.ack(2)
        assert (flight.sender.room(), flight.sender.in_flight) == (3200, 0)

    def test_the_congestion_window_begins_with_ten_segments(self):
        assert Flight().sender.room() == 10 * MSS == initial_window(MSS)

    def test_where_it_is_what_limits_whole_segments_are_offered(self):
        flight = Flight()
        flight.sender.congestion.cwnd = 4500
        assert flight.sender.room() == 4000

    def test_a_limit_of_our_own_holds_whatever_the_client_offers(self):
        assert Flight(limit=5000).sender.room() == 5000

    def test_what_is_sacked_or_lost_makes_room(self):
        flight = measured().send(10)
        before = flight.sender.room()
        flight.at(0.2).ack(1, (5, 7))
        assert flight.sender.room() >= before + 2 * MSS

    def test_a_window_that_was_not_used_is_not_trusted(self):
        flight = measured()
        flight.sender.congestion.cwnd = 1 << 20
        flight.sender.rest(RTT + 100.0)
        assert flight.sender.room() == initial_window(MSS)


class TestAcknowledgements:
    @pytest.mark.parametrize(
        ("octets", "answer"), [(0, True), (2 * MSS, True), (2 * MSS + 1, False), (-1, False)],
        ids=["SND.UNA", "SND.NXT", "beyond", "before"],
    )  # fmt: skip
    def test_which_are_acceptable(self, octets, answer):
        sender = Flight().send(2).sender
        assert sender.acceptable((sender.snd_una + octets) & MASK) is answer

    def test_an_old_segment_does_not_update_the_window(self):
        sender = Flight().sender
        sender.receive_ack(segment(seq=3000, ack=sender.snd_una, window=100), (), 0.0)
        sender.receive_ack(segment(seq=2999, ack=sender.snd_una, window=9), (), 0.0)
        assert sender.snd_wnd == 3200

    def test_the_quick_way_and_the_long_way_end_the_same(self):
        quick, slow = measured().send(6, train=3).at(0.2), measured().send(6, train=3).at(0.2)
        for octets in (500, 3000, 4500, 6000):
            ack = (ISS + 1 + MSS + octets) & MASK
            quick.sender.advance(ack, 0.2)
            slow.sender.receive_ack(slow.segment(MSS + octets, slow.window), (), 0.2)
            for name in ("snd_una", "snd_nxt", "snd_wnd", "timer", "alarm", "in_flight", "calm"):
                assert getattr(quick.sender, name) == getattr(slow.sender, name), name
            assert quick.sender.congestion.cwnd == slow.sender.congestion.cwnd
            assert quick.sender.round_trip.rto == slow.sender.round_trip.rto
        assert not quick.sender.runs
        assert quick.sender.timer is None

    def test_everything_is_kept_until_it_is_acknowledged(self):
        flight = measured().send(2)
        flight.ack(1.5)
        flight.time_out()
        run = flight.sender.resend(flight.now, MSS)
        assert bytes(run.octets) == b"\x01" * 500
        assert flight.sender.runs[-1].octets == b"\x02" * MSS


class TestTimer:
    """RFC 6298 section 5, and the probe of the tail before it (RFC 8985 section 7)."""

    def test_it_runs_only_while_something_is_unacknowledged(self):
        flight = Flight()
        assert flight.sender.timer is None
        flight.at(5.0).send(1)
        assert flight.sender.timer == 5.0 + flight.sender.round_trip.probe_after
        flight.ack(1)
        assert flight.sender.timer is None

    def test_nothing_measured_means_a_second(self):
        sender = Sender(syn(), ISS, scale=0, mss=MSS, sack=True)
        sender.take(b"", 1, 0.0)
        assert sender.timer == INITIAL_RTO

    def test_it_doubles_up_to_its_ceiling_and_begins_anew_with_a_measurement(self):
        flight = measured().send(1)
        rto = flight.sender.round_trip.rto
        assert rto >= MIN_RTO
        gaps = []
        for _ in range(12):
            before = flight.now
            flight.time_out()
            gaps.append(flight.now - before)
            flight.again()
        assert gaps[1] == pytest.approx(2 * rto)
        assert gaps[-1] == pytest.approx(MAX_RTO)
        flight.ack(2).send(1).at(flight.now + RTT).ack(3)
        assert flight.sender.round_trip.rto < 1.0

    def test_no_round_trip_is_taken_from_what_was_sent_again(self):
        flight = measured().send(1).time_out()
        flight.again()
        srtt = flight.sender.round_trip.srtt
        flight.at(flight.now + 50.0).ack(2)
        assert flight.sender.round_trip.srtt == srtt

    def test_but_with_timestamps_the_echo_says_which_sending_it_is_for(self):
        flight = measured(stamps=True).send(1).time_out()
        flight.again()
        srtt = flight.sender.round_trip.srtt
        sent = flight.sender.stamp(flight.now)
        flight.at(flight.now + 0.5).ack(2, tsecr=sent)
        assert srtt < flight.sender.round_trip.srtt < 0.5

    def test_the_timer_sends_all_of_it_again_in_slow_start(self):
        flight = measured().send(8, train=4).time_out()
        assert flight.again() == [(1, MSS)]
        assert flight.sender.congestion.cwnd == MSS
        assert flight.at(flight.now + RTT).ack(2).again() == [(2, 2 * MSS)]
        assert flight.at(flight.now + RTT).ack(4).again() == [(4, MSS), (5, 3 * MSS)]

    def test_what_is_sacked_is_not_sent_again(self):
        flight = measured().send(4).ack(1, (2, 3)).time_out()
        flight.sender.congestion.cwnd = 100 * MSS
        assert flight.again() == [(1, MSS), (3, MSS), (4, MSS)]

    def test_but_for_a_client_that_threw_it_away(self):
        flight = measured().send(4).ack(1, (2, 5)).at(0.3).ack(2)
        flight.sender.board.acknowledge((ISS + 1 + 2 * MSS) & MASK)
        flight.time_out()
        flight.sender.congestion.cwnd = 100 * MSS
        assert [first for first, _ in flight.again()] == [2, 3, 4]

    def test_the_tail_is_probed_before_the_timer_runs_out(self):
        flight = measured().send(3)
        assert flight.sender.alarm is Alarm.PROBE_TAIL
        assert flight.sender.timer == pytest.approx(RTT + max(2 * flight.sender.round_trip.srtt, MIN_PROBE))
        probe = flight.sender.handle_timeout(flight.sender.timer)
        assert probe is not None
        assert bytes(probe.octets) == b"\x03" * MSS
        assert flight.sender.alarm is Alarm.RETRANSMIT

    def test_a_flight_of_one_segment_waits_for_the_timer(self):
        flight = measured().send(1)
        sent = flight.now
        assert flight.sender.handle_timeout(flight.sender.timer) is None
        assert flight.sender.timer == pytest.approx(sent + flight.sender.round_trip.rto)
        assert flight.sender.alarm is Alarm.RETRANSMIT

    def test_a_probe_that_repaired_a_loss_is_a_sign_of_congestion(self):
        flight = measured().send(3)
        cwnd = flight.sender.congestion.cwnd
        flight.expire().ack(4).send(2).ack(6)
        assert flight.sender.congestion.cwnd < cwnd
        assert flight.sender.calm

    def test_one_that_was_in_vain_is_none(self):
        flight = measured().send(3)
        cwnd = flight.sender.congestion.cwnd
        flight.expire().ack(4, (3, 4)).send(2).ack(6)
        assert flight.sender.congestion.cwnd >= cwnd
        assert flight.sender.calm

    def test_a_closed_window_is_watched(self):
        flight = measured().ack(1, window=0)
        flight.sender.watch_window(1.0)
        assert flight.sender.alarm is Alarm.PROBE_WINDOW
        flight.expire()
        assert flight.sender.retransmissions == 1
        flight.ack(1, window=0)
        assert flight.sender.retransmissions == 0
        assert flight.sender.timer is not None
        flight.ack(1)
        assert flight.sender.timer is None


class TestRecovery:
    def test_three_segments_sacked_show_a_loss_and_the_window_shrinks_once(self):
        flight = measured().send(10)
        cwnd = flight.sender.congestion.cwnd
        assert flight.at(0.2).ack(1, (2, 4)).again() == []
        assert flight.ack(1, (2, 5)).again() == [(1, MSS)]
        reduced = flight.sender.congestion.cwnd
        assert reduced < cwnd
        flight.ack(1, (2, 8)).again()
        flight.at(0.3).ack(11)
        assert reduced <= flight.sender.congestion.cwnd < cwnd
        assert flight.sender.calm

    def test_the_holes_of_one_train_are_sent_again_each(self):
        flight = measured().send(10, train=10)
        assert flight.at(0.2).ack(2, (3, 5), (6, 10)).again() == [(2, MSS), (5, MSS)]

    def test_one_that_is_late_is_waited_for_where_reordering_was_seen(self):
        flight = measured().send(3).at(RTT + 0.09).send(3)
        flight.ack(1, (3, 4)).ack(4)  # the third overtook the first two
        assert flight.sender.rack.reordering_seen
        flight.send(6).at(0.3).ack(4, (8, 12))
        assert flight.again() == []
        assert flight.sender.alarm is Alarm.REORDERING
        flight.expire()
        assert flight.again() == [(4, MSS), (5, MSS), (6, MSS), (7, MSS)]

    def test_a_retransmission_that_is_lost_is_sent_again_before_the_timer(self):
        flight = measured().send(10)
        flight.at(0.2).ack(1, (2, 8))
        assert flight.again() == [(1, MSS)]
        flight.send(4)
        flight.at(0.3).ack(1, (2, 13))
        flight.at(0.4).ack(1, (2, 15))
        assert flight.again() == [(1, MSS)]
        assert flight.sender.retransmissions == 0

    def test_without_sack_three_duplicates_and_partial_acknowledgements(self):
        flight = measured(sack=False).send(6)
        assert flight.ack(1).ack(1).again() == []
        assert flight.ack(1).again() == [(1, MSS)]
        assert flight.ack(1).again() == []
        assert flight.ack(3).again() == [(3, MSS)]
        assert flight.ack(7).again() == []
        assert flight.sender.calm

    def test_duplicates_with_another_window_are_window_updates(self):
        flight = measured(sack=False).send(6)
        for step in range(1, 6):
            flight.ack(1, window=(1 << 20) - 32 * step)
        assert flight.again() == []

    def test_segments_with_data_are_no_duplicates(self):
        flight = measured(sack=False).send(6)
        for _ in range(5):
            flight.sender.receive_ack(flight.segment(MSS, flight.window, data=b"x"), (), flight.now)
        assert flight.again() == []

    def test_an_echo_from_before_the_retransmission_undoes_the_reduction(self):
        flight = measured(stamps=True).send(10)
        cwnd, stamp = flight.sender.congestion.cwnd, flight.sender.stamp(flight.now)
        flight.at(0.2).ack(1, (2, 5), tsecr=stamp)
        assert flight.again() == [(1, MSS)]
        flight.at(0.21).ack(5, tsecr=stamp)
        assert flight.sender.congestion.cwnd >= cwnd
        assert flight.sender.calm

    def test_a_duplicate_sack_of_all_that_was_sent_again_does_so_too(self):
        flight = measured().send(10)
        cwnd = flight.sender.congestion.cwnd
        flight.at(0.2).ack(1, (2, 5))
        assert flight.again() == [(1, MSS)]
        flight.at(0.21).ack(5)
        assert flight.sender.congestion.cwnd < cwnd
        flight.at(0.3).ack(5, (1, 2))
        assert flight.sender.congestion.cwnd >= cwnd

    @pytest.mark.parametrize(
        "block", [(20, 21), (5, 5), (6, 5), (-3, -2)], ids=["never sent", "empty", "backwards", "long acknowledged"]
    )
    def test_blocks_that_make_no_sense_are_passed_over(self, block):
        flight = measured().send(10).at(0.2).ack(1, block)
        assert flight.sender.board.absent == 0
        assert flight.again() == []


class TestTerms:
    def test_a_syn_ack_that_was_lost_means_one_segment_and_three_seconds(self):
        sender = Sender(syn(), ISS, scale=0, mss=MSS, sack=True)
        sender.take(b"", 1, 0.0)
        sender.handle_timeout(1.0)
        assert sender.resend(1.0, MSS) is not None
        sender.receive_ack(segment(ack=ISS + 1), (), 1.1)
        sender.open(0xFFFF)
        assert sender.congestion.cwnd == MSS
        assert sender.round_trip.rto == AFTER_LOST_SYN
        assert sender.calm

    def test_a_smaller_path_sends_again_what_was_too_large_and_nothing_is_taken_for_congestion(self):
        flight = measured().send(4, train=2)
        cwnd = flight.sender.congestion.cwnd
        flight.sender.set_mss(500)
        assert [octets for _, octets in flight.again()] == [2 * MSS, 2 * MSS]
        assert flight.sender.congestion.cwnd == cwnd

    def test_fin_counts_one(self):
        flight = measured()
        flight.sender.take(b"", 1, flight.now)
        assert flight.sender.in_flight == 1
        flight.time_out()
        run = flight.sender.resend(flight.now, MSS)
        assert (len(run.octets), (run.end - run.seq) & MASK) == (0, 1)
