"""Dialogues with a connection, grouped by the part of RFC 9293 that they show. Numbers are relative to ISS and IRS."""

import errno
from itertools import pairwise

import pytest

from netstack.packet import tcp
from netstack.packet.errqueue import SocketError
from netstack.packet.reason import Reason
from services.tcp_fwd.commands import Abort, Connect, Finish, ShutdownWrite, Unreachable
from services.tcp_fwd.receiving import DELAYED_ACK
from services.tcp_fwd.sending import MAX_RETRANSMISSIONS
from services.tcp_fwd.states import State
from tests.services.tcp_fwd.builders import (
    IRS,
    ISS,
    MSS,
    connecting,
    established,
    segment,
    syn,
    syn_received,
    waiting,
)

SYN_ACK = tcp.SYN | tcp.ACK
FIN_ACK = tcp.FIN | tcp.ACK
RST_ACK = tcp.RST | tcp.ACK
PSH_ACK = tcp.PSH | tcp.ACK
NO_HOST, NO_NET = Reason.HOST_UNREACHABLE, Reason.NET_UNREACHABLE


class TestHonestConnect:
    """No SYN-ACK before the far end has accepted."""

    def test_nothing_is_sent_before_the_verdict(self):
        bench = waiting().wait(10)
        assert bench.said() == []
        assert bench.connection.state is State.VERDICT

    def test_an_allowed_flow_is_connected_before_it_is_answered(self):
        bench = waiting()
        bench.do(bench.connection.verdict(None))
        assert bench.did() == [Connect()]
        assert bench.said() == []
        bench.do(bench.connection.socket_connected(bench.now))
        assert bench.said() == [(SYN_ACK, 0, 1, b"")]

    def test_a_denied_syn_is_reset(self):
        bench = waiting()
        bench.do(bench.connection.verdict(Reason.NOT_WHITELISTED))
        assert bench.said() == [(RST_ACK, -ISS & 0xFFFFFFFF, 1, b"")]
        assert bench.did() == [Finish(Reason.NOT_WHITELISTED)]

    def test_a_syn_refused_too_often_gets_silence(self):
        bench = waiting()
        bench.do(bench.connection.verdict(Reason.NOT_WHITELISTED, answer=False))
        assert bench.said() == []
        assert bench.did() == [Finish(Reason.NOT_WHITELISTED)]

    @pytest.mark.parametrize(
        ("reason", "said", "did"),
        [
            (Reason.CONNECTION_REFUSED, [(RST_ACK, -ISS & 0xFFFFFFFF, 1, b"")], [Finish(Reason.CONNECTION_REFUSED)]),
            (
                Reason.HOST_UNREACHABLE,
                [],
                [Unreachable(Reason.HOST_UNREACHABLE, None), Finish(Reason.HOST_UNREACHABLE)],
            ),
            (Reason.NET_UNREACHABLE, [], [Unreachable(Reason.NET_UNREACHABLE, None), Finish(Reason.NET_UNREACHABLE)]),
            (Reason.CONNECT_TIMEOUT, [], [Finish(Reason.CONNECT_TIMEOUT)]),
        ],
        ids=["refused is a reset", "no host is ICMP", "no network is ICMP", "no answer is no answer"],
    )
    def test_what_the_network_said_is_told_on(self, reason, said, did):
        bench = connecting()
        bench.do(bench.connection.socket_refused(reason))
        assert bench.said() == said
        assert bench.did() == did

    @pytest.mark.parametrize("reason", [Reason.CONNECTION_REFUSED, Reason.TTL_EXCEEDED], ids=["no port", "no hop left"])
    def test_what_a_router_said_in_icmp_is_told_on_in_icmp_and_the_flow_forgotten(self, reason):
        bench = connecting()
        error = SocketError(errno.ECONNREFUSED, 2, 3, 3, 0, bytes([198, 18, 0, 1]))
        bench.do(bench.connection.socket_refused(reason, error))
        assert bench.said() == []
        assert bench.did() == [Unreachable(reason, error), Finish(reason)]

    @pytest.mark.parametrize("make", [waiting, connecting], ids=["before the verdict", "while connecting"])
    def test_the_syn_sent_again_changes_nothing(self, make):
        bench = make()
        state = bench.connection.state
        assert bench.receive(syn()).said() == []
        assert bench.connection.state is state

    def test_a_client_that_gives_up_while_connecting_resets_the_host_socket(self):
        bench = connecting().receive(segment(seq=IRS + 1, flags=tcp.RST))
        assert bench.did() == [Abort(), Finish(None)]

    def test_a_reset_of_somebody_else_while_connecting_is_passed_over(self):
        bench = connecting().receive(segment(seq=IRS + 9, flags=tcp.RST))
        assert bench.did() == []
        assert bench.connection.state is State.CONNECTING


class TestHandshake:
    """RFC 9293 section 3.5."""

    def test_the_syn_sent_again_gets_the_syn_ack_again(self):
        assert syn_received().receive(syn()).said() == [(SYN_ACK, 0, 1, b"")]

    def test_the_syn_ack_is_sent_again_until_it_is_answered(self):
        bench = syn_received().wait(1.0)
        assert bench.said() == [(SYN_ACK, 0, 1, b"")]
        assert bench.wait(2.0).said() == [(SYN_ACK, 0, 1, b"")]

    def test_an_acknowledgement_establishes(self):
        assert established().connection.state is State.ESTABLISHED

    def test_one_of_something_never_sent_is_reset(self):
        bench = syn_received().receive(segment(ack=ISS + 77))
        assert bench.said() == [(tcp.RST, 77, -IRS & 0xFFFFFFFF, b"")]
        assert bench.connection.state is State.SYN_RECEIVED

    def test_data_may_come_with_the_acknowledgement(self):
        bench = syn_received().receive(segment(data=b"hello"))
        assert bench.connection.state is State.ESTABLISHED
        assert bench.written == b"hello"

    def test_the_window_of_the_syn_is_not_scaled_and_later_ones_are(self):
        options = tcp.emit_options(tcp.Options(mss=MSS, window_scale=4))
        bench = syn_received(options=options, window=1000)
        assert bench.connection.sender.snd_wnd == 1000
        bench.receive(segment(window=1000))
        assert bench.connection.sender.snd_wnd == 16000

    def test_without_the_option_nothing_is_scaled(self):
        options = tcp.emit_options(tcp.Options(mss=MSS))
        bench = syn_received(options=options).receive(segment(window=1000))
        assert bench.connection.sender.snd_wnd == 1000
        assert bench.connection.receiver.window() == 0xFFFF


class TestData:
    def test_what_arrives_is_written_once_and_acknowledged(self):
        bench = established().receive(segment(data=b"a" * 3000))
        assert bench.said() == [(tcp.ACK, 1, 3001, b"")]
        assert bench.receive(segment(data=b"a" * 3000)).said() == [(tcp.ACK, 1, 3001, b"")]
        assert bench.written == b"a" * 3000

    def test_a_small_segment_waits_for_data_to_carry_its_acknowledgement(self):
        bench = established().receive(segment(data=b"ping"))
        assert bench.said() == []
        assert bench.host_sends(b"pong").said() == [(PSH_ACK, 1, 5, b"pong")]
        assert bench.wait(DELAYED_ACK).said() == []

    def test_but_not_for_long(self):
        bench = established().receive(segment(data=b"ping")).wait(DELAYED_ACK)
        assert bench.said() == [(tcp.ACK, 1, 5, b"")]

    def test_octets_out_of_order_wait_and_are_acknowledged_at_once(self):
        bench = established().receive(segment(seq=IRS + 6, data=b"world"))
        assert bench.said() == [(tcp.ACK, 1, 1, b"")]
        assert bench.written == b""
        bench.receive(segment(data=b"hello"))
        assert bench.written == b"helloworld"

    def test_overlaps_are_written_once(self):
        bench = established()
        bench.receive(segment(seq=IRS + 4, data=b"defgh"))
        bench.receive(segment(seq=IRS + 2, data=b"bcdef"))
        bench.receive(segment(seq=IRS + 1, data=b"abc"))
        assert bench.written == b"abcdefgh"

    def test_what_lies_beyond_the_window_is_not_taken(self):
        bench = established()
        bench.host_takes(0)
        edge = bench.connection.receiver.edge
        bench.receive(segment(seq=IRS + 1 + edge, data=b"x"))
        assert bench.said() == [(tcp.ACK, 1, 1, b"")]
        assert bench.written == b""

    def test_a_slow_host_closes_the_window_and_reopens_it_when_there_is_room(self):
        options = tcp.emit_options(tcp.Options(mss=MSS))
        bench = established(options=options)
        bench.receive(segment(data=b"x" * 0xFFFF))
        bench.frames[-1:] = [last := bench.frames[-1]]
        assert last.window == 0
        bench.said()
        assert bench.host_takes(1000).said() == []
        bench.host_takes(40000)
        assert bench.frames[-1].window == 41000

    def test_the_host_is_read_only_as_far_as_the_window_goes(self):
        bench = established()
        bench.receive(segment(window=3000))
        assert bench.connection.room() == 3000
        bench.host_sends(b"x" * 3000)
        assert bench.connection.room() == 0
        bench.receive(segment(ack=ISS + 3001, window=10000))
        assert bench.connection.room() == 10000

    def test_a_closed_window_is_probed_until_it_opens(self):
        bench = established().receive(segment(window=0)).wait(70)
        probes = bench.said()
        assert len(probes) >= 3
        assert set(probes) == {(tcp.ACK, 0, 1, b"")}
        assert bench.connection.state is State.ESTABLISHED

    def test_a_window_that_opens_with_data_ends_the_probing(self):
        bench = established().receive(segment(window=0)).wait(0.1)
        bench.receive(segment(data=b"x", window=1000))
        bench.host_takes(1).host_sends(b"data").said()
        assert bench.wait(0.3).said() == [(PSH_ACK, 1, 2, b"data")], "sent again in its time, and nothing probed"

    def test_probes_that_are_answered_go_on_for_ever(self):
        bench = established().receive(segment(window=0))
        for _ in range(30):
            bench.wait(60)
            bench.receive(segment(window=0))
        assert bench.connection.state is State.ESTABLISHED


class TestRecovery:
    def test_an_unacknowledged_segment_is_sent_again(self):
        bench = established().host_sends(b"data")
        bench.said()
        assert bench.wait(0.3).said() == [(PSH_ACK, 1, 1, b"data")]

    def test_the_timer_doubles(self):
        bench = established().host_sends(b"data")
        times = []
        while len(times) < 4:
            bench.said()
            bench.wait(0.05)
            times.extend([bench.now] * len(bench.said()))
        gaps = [b - a for a, b in pairwise(times)]
        assert gaps[1] > 1.5 * gaps[0]
        assert gaps[2] > 1.5 * gaps[1]

    def test_a_client_that_is_gone_is_given_up(self):
        bench = established().host_sends(b"data").wait(1000)
        assert bench.did() == [Abort(), Finish(Reason.IDLE_TIMEOUT)]
        assert sum(flags == PSH_ACK for flags, *_ in bench.said()) == 1 + MAX_RETRANSMISSIONS

    def test_three_duplicates_send_the_oldest_again_without_waiting(self):
        bench = established()
        for number in range(5):
            bench.host_sends(bytes([number]) * 100)
        bench.said()
        for _ in range(2):
            assert bench.receive(segment()).said() == []
        assert bench.receive(segment()).said() == [(PSH_ACK, 1, 1, bytes(100))]

    def test_a_partial_acknowledgement_sends_the_next_hole_again(self):
        bench = established()
        for number in range(5):
            bench.host_sends(bytes([number]) * 100)
        for _ in range(3):
            bench.receive(segment())
        bench.said()
        assert bench.receive(segment(ack=ISS + 201)).said() == [(PSH_ACK, 201, 1, b"\x02" * 100)]
        assert bench.receive(segment(ack=ISS + 501)).said() == []

    def test_an_acknowledgement_in_the_middle_of_a_segment_keeps_the_rest(self):
        bench = established().host_sends(b"abcdef").receive(segment(ack=ISS + 4))
        bench.said()
        assert bench.wait(2.0).said()[0] == (PSH_ACK, 4, 1, b"def")


class TestClose:
    """Both halves close alone."""

    def test_the_clients_fin_shuts_the_hosts_sending_side_when_all_is_written(self):
        bench = established().receive(segment(data=b"bye", flags=FIN_ACK))
        assert bench.connection.state is State.CLOSE_WAIT
        assert bench.said() == [(tcp.ACK, 1, 5, b"")]
        assert bench.did() == []
        assert bench.host_takes(3).did() == [ShutdownWrite()]

    def test_after_it_the_host_may_go_on_sending(self):
        bench = established().receive(segment(flags=FIN_ACK))
        bench.said()
        assert bench.host_sends(b"more").said() == [(PSH_ACK, 1, 2, b"more")]

    def test_client_first(self):
        bench = established().receive(segment(flags=FIN_ACK)).host_ends()
        assert bench.connection.state is State.LAST_ACK
        bench.receive(segment(seq=IRS + 2, ack=ISS + 2))
        assert bench.connection.state is State.CLOSED
        assert bench.did() == [ShutdownWrite(), Finish(None)]

    def test_host_first(self):
        bench = established().host_ends()
        assert bench.said() == [(FIN_ACK, 1, 1, b"")]
        bench.receive(segment(ack=ISS + 2))
        assert bench.connection.state is State.FIN_WAIT_2
        bench.receive(segment(ack=ISS + 2, data=b"last")).host_takes(4)
        assert bench.written == b"last"
        bench.receive(segment(seq=IRS + 5, ack=ISS + 2, flags=FIN_ACK))
        assert bench.connection.state is State.TIME_WAIT
        assert bench.did() == [Finish(None)]
        assert bench.said()[-1] == (tcp.ACK, 2, 6, b"")

    def test_the_hosts_last_octets_carry_the_fin(self):
        bench = established().host_sends_its_last(b"last")
        assert bench.said() == [(FIN_ACK | tcp.PSH, 1, 1, b"last")]
        assert bench.connection.state is State.FIN_WAIT_1
        assert bench.host_ends().said() == []
        bench.receive(segment(ack=ISS + 6))
        assert bench.connection.state is State.FIN_WAIT_2

    def test_what_of_them_is_lost_is_sent_again(self):
        bench = established().host_sends_its_last(b"last")
        bench.said()
        assert bench.wait(2.0).said()[0] in [(PSH_ACK, 1, 1, b"last"), (FIN_ACK, 5, 1, b"")]
        bench.receive(segment(ack=ISS + 5))
        assert (FIN_ACK, 5, 1, b"") in bench.wait(2.0).said()
        bench.receive(segment(ack=ISS + 6))
        assert bench.connection.state is State.FIN_WAIT_2

    def test_both_at_once(self):
        bench = established().host_ends().receive(segment(flags=FIN_ACK))
        assert bench.connection.state is State.CLOSING
        bench.receive(segment(seq=IRS + 2, ack=ISS + 2))
        assert bench.connection.state is State.TIME_WAIT
        assert bench.did() == [ShutdownWrite(), Finish(None)]

    def test_the_end_waits_for_a_host_that_is_slow_to_take_the_last_octets(self):
        bench = established().receive(segment(data=b"bye", flags=FIN_ACK)).host_ends()
        bench.receive(segment(seq=IRS + 5, ack=ISS + 2))
        assert bench.connection.state is State.CLOSED
        assert bench.did() == []
        assert bench.host_takes(3).did() == [Finish(None)], "closing the socket tells the far end too"

    def test_and_if_the_host_fails_then_it_is_over_too(self):
        bench = established().receive(segment(data=b"bye", flags=FIN_ACK)).host_ends()
        bench.receive(segment(seq=IRS + 5, ack=ISS + 2))
        bench.do(bench.connection.socket_reset(Reason.SOCKET_ERROR))
        assert Finish(Reason.SOCKET_ERROR) in bench.did()

    def test_a_fin_sent_again_is_acknowledged_again(self):
        bench = established().receive(segment(flags=FIN_ACK))
        bench.said()
        assert bench.receive(segment(flags=FIN_ACK)).said() == [(tcp.ACK, 1, 2, b"")]

    def test_a_fin_before_its_turn_waits(self):
        bench = established().receive(segment(seq=IRS + 4, flags=FIN_ACK))
        assert bench.connection.state is State.ESTABLISHED
        assert bench.said() == [(tcp.ACK, 1, 1, b"")]
        bench.receive(segment(data=b"abc"))
        assert bench.connection.state is State.CLOSE_WAIT
        assert bench.written == b"abc"

    def test_a_fin_that_comes_with_data_already_had_counts(self):
        bench = established().receive(segment(data=b"abc"))
        bench.receive(segment(data=b"abc", flags=FIN_ACK))
        assert bench.connection.state is State.CLOSE_WAIT

    def test_our_fin_is_sent_again(self):
        bench = established().host_ends()
        bench.said()
        assert bench.wait(0.3).said() == [(FIN_ACK, 1, 1, b"")]


class TestSilence:
    def test_a_client_that_is_gone_is_probed_and_given_up_when_the_idle_timeout_ends(self):
        bench = established().wait(7330.0)
        probes = bench.said()
        assert set(probes) == {(tcp.ACK, 0, 1, b"")}
        assert len(probes) == 9
        assert bench.wait(110.0).did() == [Abort(), Finish(Reason.IDLE_TIMEOUT)]

    def test_one_that_answers_stays(self):
        bench = established()
        for _ in range(4):
            bench.wait(6700.0)
            assert bench.said() == [(tcp.ACK, 0, 1, b"")]
            bench.receive(segment())
        assert bench.connection.state is State.ESTABLISHED

    def test_challenges_are_rationed(self):
        bench = established()
        for _ in range(50):
            bench.receive(segment(seq=IRS + 100, flags=tcp.RST))
        assert len(bench.said()) == 10
        bench.wait(6.0).receive(segment(seq=IRS + 100, flags=tcp.RST))
        assert len(bench.said()) == 1


class TestPath:
    """RFC 1191, RFC 8201."""

    def test_what_was_too_large_is_sent_again_in_smaller_segments(self):
        bench = established().host_sends(b"x" * 2920)
        bench.said()
        bench.do(bench.connection.path_mtu(1280, bench.now))
        assert bench.said() == [(PSH_ACK, 1, 1, b"x" * 2920)]
        assert bench.connection.emitter.gso_size == 1240

    @pytest.mark.parametrize(("mtu", "size"), [(9000, MSS), (1500, MSS), (68, 512)], ids=["larger", "same", "absurd"])
    def test_it_only_shrinks_and_not_below_what_links_have(self, mtu, size):
        bench = established()
        bench.do(bench.connection.path_mtu(mtu, bench.now))
        assert bench.connection.emitter.gso_size == size
