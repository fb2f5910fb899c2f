"""Dialogues about what any segment does: resets, challenges, options. Numbers are relative to ISS and IRS."""

from netstack.packet import tcp
from netstack.packet.reason import Reason
from services.tcp_fwd.commands import Abort, Finish
from services.tcp_fwd.states import State
from tests.services.tcp_fwd.builders import (
    IRS,
    ISS,
    MSS,
    Bench,
    connecting,
    established,
    segment,
    syn,
    syn_received,
)

SYN_ACK = tcp.SYN | tcp.ACK
FIN_ACK = tcp.FIN | tcp.ACK
RST_ACK = tcp.RST | tcp.ACK
PSH_ACK = tcp.PSH | tcp.ACK


class TestResets:
    """RFC 9293 section 3.10.7.4 with RFC 5961."""

    def test_the_clients_reset_resets_the_host_socket(self):
        bench = established().receive(segment(flags=tcp.RST))
        assert bench.did() == [Abort(), Finish(None)]
        assert bench.said() == []

    def test_one_in_the_window_but_not_exact_is_challenged(self):
        bench = established().receive(segment(seq=IRS + 100, flags=tcp.RST))
        assert bench.said() == [(tcp.ACK, 1, 1, b"")]
        assert bench.connection.state is State.ESTABLISHED

    def test_one_outside_the_window_is_passed_over(self):
        bench = established().receive(segment(seq=IRS - 100, flags=tcp.RST))
        assert bench.said() == []
        assert bench.connection.state is State.ESTABLISHED

    def test_a_syn_in_an_established_connection_is_challenged(self):
        assert established().receive(syn(seq=IRS + 50)).said() == [(tcp.ACK, 1, 1, b"")]

    def test_the_hosts_reset_resets_the_client(self):
        bench = established()
        bench.do(bench.connection.socket_reset(Reason.SOCKET_ERROR))
        assert bench.said() == [(RST_ACK, 1, 1, b"")]
        assert bench.did() == [Finish(Reason.SOCKET_ERROR)]

    def test_an_abort_tells_both_ends(self):
        bench = established()
        bench.do(bench.connection.abort(Reason.REVOKED))
        assert bench.said() == [(RST_ACK, 1, 1, b"")]
        assert bench.did() == [Abort(), Finish(Reason.REVOKED)]

    def test_an_acknowledgement_of_what_was_never_sent_is_answered_and_dropped(self):
        bench = established().receive(segment(ack=ISS + 500, data=b"evil"))
        assert bench.said() == [(tcp.ACK, 1, 1, b"")]
        assert bench.written == b""


FULL = tcp.emit_options(tcp.Options(mss=MSS, window_scale=7, sack_permitted=True, timestamps=(100, 0)))


def stamped(tsval: int = 100, tsecr: int = 0, **changes):
    return segment(**changes).stamped(tsval, tsecr)


def with_options() -> Bench:
    """Established, with everything that a SYN can offer."""
    bench = syn_received(options=FULL).receive(stamped())
    assert bench.said() == []
    return bench


class TestOptions:
    """RFC 7323, RFC 2018, RFC 2883, RFC 3168."""

    def test_the_syn_ack_answers_what_was_offered(self):
        bench = connecting(options=FULL)
        bench.do(bench.connection.socket_connected(2.0))
        options = tcp.parse_options(bench.frames[0].options)
        assert (options.mss, options.window_scale, options.sack_permitted) == (MSS, 7, True)
        assert options.timestamps == (ISS + 2000, 100)

    def test_every_segment_has_a_timestamp_and_echoes_the_clients(self):
        bench = with_options().wait(1.0).receive(stamped(tsval=150, data=b"ping")).host_sends(b"pong")
        assert [(one.tsval, one.tsecr) for one in bench.frames] == [(ISS + 1000, 150)]

    def test_the_echo_is_of_the_first_segment_that_is_not_acknowledged(self):
        bench = with_options().receive(stamped(tsval=150, data=b"a"))
        bench.receive(stamped(tsval=151, seq=IRS + 2, data=b"b")).host_sends(b"pong")
        assert bench.frames[-1].tsecr == 150

    def test_an_older_timestamp_is_of_an_old_duplicate(self):
        bench = with_options().receive(stamped(tsval=150, data=b"new")).host_takes(3)
        bench.said()
        bench.receive(stamped(tsval=149, seq=IRS + 4, data=b"old"))
        assert bench.written == b"new"
        assert bench.said() == [(tcp.ACK, 1, 4, b"")]

    def test_a_segment_without_one_is_passed_over_but_for_a_reset(self):
        bench = with_options().receive(segment(data=b"no stamp"))
        assert (bench.written, bench.said()) == (b"", [])
        bench.receive(segment(flags=tcp.RST))
        assert bench.connection.state is State.CLOSED

    def test_timestamps_leave_twelve_octets_less_for_data(self):
        bench = with_options()
        assert bench.connection.emitter.gso_size == MSS - 12
        assert bench.connection.emitter.max_payload % (MSS - 12) == 0

    def test_holes_are_reported_the_latest_first(self):
        bench = with_options()
        for seq in (11, 31, 51, 71):
            bench.receive(stamped(seq=IRS + seq, data=b"x" * 5))
        blocks = [tcp.parse_options(one.options).sack for one in bench.frames]
        assert [len(one) for one in blocks] == [1, 2, 3, 3]
        assert [left - IRS for left, _ in blocks[-1]] == [71, 51, 31]
        bench.receive(stamped(seq=IRS + 14, data=b"x" * 8))
        assert tcp.parse_options(bench.frames[-1].options).sack[:2] == ((IRS + 14, IRS + 16), (IRS + 11, IRS + 22))

    def test_what_comes_again_is_reported_as_such(self):
        bench = with_options().receive(stamped(data=b"abc")).host_takes(3)
        bench.frames.clear()
        bench.receive(stamped(data=b"abc"))
        assert tcp.parse_options(bench.frames[-1].options).sack == ((IRS + 1, IRS + 4),)

    def test_data_carries_no_sack_that_would_make_it_too_long(self):
        bench = with_options().receive(stamped(seq=IRS + 11, data=b"x"))
        bench.frames.clear()
        bench.host_sends(b"y" * (MSS - 12))
        assert bench.frames[-1].options == b""

    def test_a_sack_of_the_client_is_heeded(self):
        bench = with_options()
        for number in range(5):
            bench.host_sends(bytes([number]) * 1448)
        bench.said()
        bench.now = 0.2
        bench.receive(stamped(options=tcp.emit_sack([(ISS + 1 + 1448, ISS + 1 + 5 * 1448)])))
        assert bench.said() == [(PSH_ACK, 1, 1, bytes(1448))]

    def test_ecn_is_refused_and_nothing_is_ever_marked(self):
        bench = connecting(flags=tcp.SYN | tcp.ECE | tcp.CWR)
        bench.do(bench.connection.socket_connected(0.0))
        assert bench.said() == [(SYN_ACK, 0, 1, b"")]
        bench.receive(segment(flags=tcp.ACK | tcp.CWR | tcp.ECE, data=b"x" * 3000))
        assert [flags for flags, *_ in bench.said()] == [tcp.ACK]
