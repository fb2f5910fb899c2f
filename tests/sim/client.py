"""A client for the simulated link: a plain TCP of its own, written to be obviously right rather than fast.

It shares no code with the translator but the header's codec: go-back-N with a fixed timer to send, a table of segments
by sequence number to receive, one acknowledgement for each segment.
"""

from collections.abc import Callable

from netstack.packet import tcp
from services.tcp_fwd.segment import Emitter, parse
from tests.sim.link import Clock

RTO = 0.8  # seconds
MSS = 1460
WINDOW_SCALE = 7
ISS = 0xFFFF0000  # so that the circle is crossed soon


class Client:
    def __init__(self, clock: Clock, emitter: Emitter, upload: bytes, window: int = 256 << 10) -> None:
        self._clock = clock
        self._emitter = emitter
        self._upload = upload
        self._window = window
        self.send: Callable[[bytes], None] = lambda packet: None
        self.established = False
        self.reset = False
        self.fin_sent = False
        self.fin_acknowledged = False
        self.server_ended = False
        self._una = 0  # octets of the upload acknowledged, and sent; the FIN counts as one more
        self._nxt = 0
        self._peer_window = 0
        self._rcv_nxt = 0
        self._ahead: dict[int, bytes] = {}
        self.downloaded = bytearray()
        self._fin_at: int | None = None
        self._timer = 0

    @property
    def done(self) -> bool:
        return self.fin_acknowledged and self.server_ended

    def open(self) -> None:
        options = tcp.emit_options(tcp.Options(mss=MSS, window_scale=WINDOW_SCALE))
        self.send(self._emitter.emit(ISS, 0, tcp.SYN, min(self._window, 0xFFFF), options=options))
        self._arm()

    def receive(self, frame: bytes) -> None:
        for one in _cut(frame):
            self._receive(one)

    def _receive(self, segment) -> None:
        if segment.flags & tcp.RST:
            self.reset = True
            return
        if segment.flags & tcp.SYN:
            if not self.established:
                self.established = True
                self._rcv_nxt = (segment.seq + 1) & 0xFFFFFFFF
                self._peer_window = segment.window
            self._acknowledge()
            self._push()
            return
        if not self.established:
            return
        self._peer_window = segment.window << WINDOW_SCALE
        acknowledged = (segment.ack - ISS - 1) & 0xFFFFFFFF
        if self._una < acknowledged <= len(self._upload) + 1:
            self._una = acknowledged
            self._nxt = max(self._nxt, self._una)
            self.fin_acknowledged = acknowledged == len(self._upload) + 1
            self._arm()
        offset = (segment.seq - self._rcv_nxt + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        if segment.flags & tcp.FIN:
            self._fin_at = (segment.seq + len(segment.payload)) & 0xFFFFFFFF
        if segment.payload and offset + len(segment.payload) > 0:
            self._ahead[segment.seq] = bytes(segment.payload)
        self._collect()
        if segment.payload or segment.flags & tcp.FIN or offset < 0:
            self._acknowledge()
        self._push()

    def _collect(self) -> None:
        moved = True
        while moved:
            moved = False
            for seq, data in list(self._ahead.items()):
                offset = (self._rcv_nxt - seq + 0x80000000 & 0xFFFFFFFF) - 0x80000000
                if offset >= 0:
                    del self._ahead[seq]
                    fresh = data[offset:]
                    self.downloaded += fresh
                    self._rcv_nxt = (self._rcv_nxt + len(fresh)) & 0xFFFFFFFF
                    moved = moved or bool(fresh)
        if self._fin_at == self._rcv_nxt and not self.server_ended:
            self.server_ended = True
            self._rcv_nxt = (self._rcv_nxt + 1) & 0xFFFFFFFF

    def _push(self) -> None:
        while self._nxt < len(self._upload) and self._nxt - self._una + MSS <= max(self._peer_window, MSS):
            self._segment(self._nxt, self._upload[self._nxt : self._nxt + MSS])
            self._nxt = min(self._nxt + MSS, len(self._upload))
        if self._nxt == len(self._upload):
            self._segment(self._nxt, b"", tcp.FIN)
            self.fin_sent = True
            self._nxt += 1

    def _segment(self, at: int, data: bytes, flags: int = 0) -> None:
        seq = (ISS + 1 + at) & 0xFFFFFFFF
        self.send(self._emitter.emit(seq, self._rcv_nxt, tcp.ACK | flags, self._window >> WINDOW_SCALE, data))

    def _acknowledge(self) -> None:
        self._segment(self._nxt, b"")

    def _arm(self) -> None:
        self._timer += 1
        number = self._timer
        self._clock.call_at(self._clock.now + RTO, lambda: self._timed_out(number))

    def _timed_out(self, number: int) -> None:
        if number != self._timer or self.reset or self.fin_acknowledged:
            return
        if not self.established:
            self.open()
            return
        self._nxt = self._una
        self._push()
        self._arm()


def _cut(frame: bytes):
    """What the kernel behind the TUN makes of a frame: segments of at most the MSS."""
    whole = parse(frame)
    data = bytes(whole.payload)
    if len(data) <= MSS:
        return [whole]
    return [
        whole._replace(seq=(whole.seq + at) & 0xFFFFFFFF, payload=memoryview(data[at : at + MSS]))
        for at in range(0, len(data), MSS)
    ]
