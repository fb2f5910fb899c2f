"""The segments that a connection sends, with the acknowledgement that each carries. No I/O, no clock."""

from netstack.packet import tcp
from services.tcp_fwd import terms as negotiated
from services.tcp_fwd.commands import Emit
from services.tcp_fwd.receiving import Receiver
from services.tcp_fwd.segment import Emitter
from services.tcp_fwd.sending import Sender
from services.tcp_fwd.terms import Terms


class Output:
    """Makes segments of what the two halves of a connection know."""

    __slots__ = ("_emitter", "_mss", "_receiver", "_sender", "_terms")

    def __init__(self, emitter: Emitter, receiver: Receiver, sender: Sender, terms: Terms, *, mss: int) -> None:
        """mss is what our own end can take."""
        self._emitter = emitter
        self._receiver = receiver
        self._sender = sender
        self._terms = terms
        self._mss = mss

    def segment(self, seq: int, flags: int, now: float, data: bytes | memoryview = b"") -> Emit:
        """Any segment of an open connection."""
        receiver = self._receiver
        receiver.acknowledged()
        return Emit(
            self._emitter.head(
                seq, receiver.rcv_nxt, flags, receiver.window(), len(data), self._sender.stamp(now), receiver.ts_recent
            ),
            data,
        )

    def acknowledgement(self, now: float) -> Emit:
        """A segment without data; where there are holes, with as many blocks as the options hold (RFC 2018)."""
        receiver, sender = self._receiver, self._sender
        if not self._terms.sack or not (receiver.blocks or receiver.duplicate):
            return self.segment(sender.snd_nxt, tcp.ACK, now)
        receiver.acknowledged()
        timestamps = self._emitter.timestamps
        options = tcp.emit_timestamps(sender.stamp(now), receiver.ts_recent) if timestamps else b""
        options += tcp.emit_sack(receiver.sack(3 if timestamps else 4))
        return Emit(
            self._emitter.emit(sender.snd_nxt, receiver.rcv_nxt, tcp.ACK, receiver.window(), options=options)
        )  # fmt: skip

    def syn_ack(self, now: float) -> Emit:
        """The answer to the SYN."""
        receiver, sender = self._receiver, self._sender
        receiver.window()
        window = min(receiver.edge, 0xFFFF)  # not scaled in a SYN
        options = negotiated.answer(self._terms, self._mss, sender.stamp(now))
        flags = tcp.SYN | tcp.ACK
        return Emit(self._emitter.emit(sender.iss, receiver.rcv_nxt, flags, window, options=options))

    def refusal(self) -> Emit:
        """The reset that answers a SYN.

        RFC 9293 section 3.10.7.1: a segment without ACK is reset with SEQ=0 and ACK=SEG.SEQ+SEG.LEN.
        """
        return Emit(self._emitter.emit(0, self._receiver.rcv_nxt, tcp.RST | tcp.ACK, 0))

    def reset(self, now: float) -> Emit:
        """The reset of an open connection, with timestamps as any segment (RFC 7323 section 3.2)."""
        receiver, sender = self._receiver, self._sender
        return Emit(
            self._emitter.head(
                sender.snd_nxt, receiver.rcv_nxt, tcp.RST | tcp.ACK, 0, 0, sender.stamp(now), receiver.ts_recent
            )
        )
