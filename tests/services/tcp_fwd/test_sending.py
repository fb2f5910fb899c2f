"""The sending half: what is sent again and when."""

import pytest

from netstack.packet.seqnum import MASK
from services.tcp_fwd.rtt import AFTER_LOST_SYN, INITIAL_RTO, MAX_RTO, MIN_PROBE, MIN_RTO
from services.tcp_fwd.scoreboard import MAX_RUNS
from services.tcp_fwd.send_window import Alarm
from services.tcp_fwd.sending import Sender
from tests.services.tcp_fwd.builders import segment, syn
from tests.services.tcp_fwd.flights import ISS, MSS, RTT, Flight, measured


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

    def test_a_client_that_sends_on_and_on_puts_off_neither_the_probe_nor_the_timeout(self):
        flight = measured().send(2)
        began = flight.now
        while not flight.sender.retransmissions:
            timer = flight.sender.timer
            assert timer is not None
            if timer <= flight.now + 0.01:
                flight.expire()
            else:
                flight.at(flight.now + 0.01)
            assert flight.now < began + 1.0
            flight.sender.receive_ack(flight.segment(MSS, flight.window, data=b"x"), (), flight.now)

    def test_what_was_sent_again_is_known_until_it_is_acknowledged(self):
        flight = measured(sack=False).send(3).time_out()
        assert flight.sender.resent_end is None
        flight.again()
        assert flight.sender.resent_end == (ISS + 1 + 2 * MSS) & MASK
        assert flight.ack(1.5).sender.resent_end is not None
        assert flight.ack(2).sender.resent_end is None

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


def test_a_client_that_sacks_every_other_octet_costs_little_and_gets_everything():
    flight = measured().send(10, train=10).at(0.2)
    sender, una, size = flight.sender, flight.sender.snd_una, 10 * MSS
    has = bytearray(size)
    for left in range(1, size, 8):
        edges = tuple(((una + at) & MASK, (una + at + 1) & MASK) for at in range(left, left + 8, 2))
        has[left : left + 8 : 2] = b"\x01\x01\x01\x01"
        sender.receive_ack(flight.segment(MSS, flight.window), edges, 0.2)
        assert len(sender.runs) <= MAX_RUNS + 1
    while sender.runs:
        flight.at(flight.now + RTT)
        if sender.board.absent == sender.board.sacked:
            flight.time_out()
        assert flight.now < 60.0
        while (run := sender.resend(flight.now, 60 * MSS)) is not None:
            at = (run.seq - una) & MASK
            assert bytes(run.octets) == bytes(1 + n // MSS for n in range(at, at + len(run.octets)))
            has[at : at + len(run.octets)] = b"\x01" * len(run.octets)
        acked = has.find(0) if 0 in has else size
        sender.receive_ack(flight.segment(MSS + acked, flight.window), (), flight.now)
    assert sender.in_flight == 0
