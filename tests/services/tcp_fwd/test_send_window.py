"""The send window: room, and what an acknowledgement does."""

import pytest

from netstack.packet.seqnum import MASK
from services.tcp_fwd.congestion import initial_window
from services.tcp_fwd.scoreboard import MAX_RUNS
from services.tcp_fwd.send_window import MAX_SEGMENTS
from services.tcp_fwd.sending import Sender
from tests.services.tcp_fwd.builders import segment, syn
from tests.services.tcp_fwd.flights import ISS, MSS, RTT, Flight, measured


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

    def test_there_is_none_for_more_pieces_than_are_kept_apart(self):
        flight = Flight()
        flight.sender.congestion.cwnd = 1 << 20
        for _ in range(MAX_RUNS):
            assert flight.sender.room() > 0
            flight.sender.take(b"a", 1, 0.0)
        assert flight.sender.room() == 0
        flight.sender.advance((ISS + 2) & MASK, 0.1)
        assert flight.sender.room() > 0

    def test_segments_in_flight_are_limited_where_they_are_small(self):
        sender = Sender(syn(), ISS, scale=14, mss=76, sack=True)
        sender.snd_wnd = sender.congestion.cwnd = 1 << 30
        assert sender.room() == MAX_SEGMENTS * 76
        sender.set_mss(50)
        assert sender.room() == MAX_SEGMENTS * 50

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
