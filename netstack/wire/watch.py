"""What becomes of the connections of a socket at tcp://: libzmq says nothing by itself when a host is refused.

A socket that was refused for its key, or for having none, is not connected again by libzmq; `on_refused` is where that
is done. What goes wrong is said once, and once that it works again.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import zmq

PATIENCE: Final = 3.0
"""Seconds that a connection may take before it is said that there is none."""

_EVENTS: Final = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_DISCONNECTED
)
_AGAIN: Final = 60.0  # seconds between two messages about the same at a bound socket
_CURT: Final = 3  # handshakes in a row that ended without a word; one may be a server that is just being stopped

_log = logging.getLogger(__name__)


class _Monitor:
    """Hands over the events of a socket as they come (zmq_socket_monitor(3))."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: "zmq.Socket[bytes]") -> None:
        self._loop = loop
        self._socket = socket
        self._events = socket.get_monitor_socket(_EVENTS)
        self._fd = self._events.fileno()
        loop.add_reader(self._fd, self._drain)
        loop.call_soon(self._drain)  # what came before takes no further edge (netstack.wire.bus)

    def _drain(self) -> None:
        from zmq.utils.monitor import parse_monitor_message  # noqa: PLC0415 - imports zmq.asyncio; few have links

        while not self._events.closed:
            try:
                parts = self._events.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event = parse_monitor_message(parts)
            if event["endpoint"].startswith(b"tcp"):
                self._happened(event["event"], event["value"], event["endpoint"].decode(errors="replace"))

    def _happened(self, event: int, value: int, endpoint: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Call it before the socket is closed."""
        self._loop.remove_reader(self._fd)
        self._socket.disable_monitor()
        self._events.close(linger=0)


class Entrance(_Monitor):
    """Of a bound socket: says who was turned away for what netstack.wire.curve.Doorman never sees."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: "zmq.Socket[bytes]", *, has_keys: bool) -> None:
        super().__init__(loop, socket)
        self._has_keys = has_keys
        self._quiet_until: dict[str, float] = {}

    def _happened(self, event: int, value: int, endpoint: str) -> None:
        if event != zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return
        why = turned_away(value, has_keys=self._has_keys)
        now = self._loop.time()
        if now >= self._quiet_until.get(why, 0.0):
            self._quiet_until[why] = now + _AGAIN
            _log.warning("refused at %s: somebody who %s", endpoint, why)


class Entry(_Monitor):
    """Of a connected socket: says that it cannot join, and why."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: "zmq.Socket[bytes]",
        endpoint: str,
        public: bytes,
        on_refused: Callable[[], None],
    ) -> None:
        """`public` is our public key, empty for none."""
        super().__init__(loop, socket)
        self._endpoint = endpoint
        self._public = public
        self._on_refused = on_refused
        self._curt = 0
        self._said = ""
        self._timer = loop.call_later(PATIENCE, self._impatient)

    def _happened(self, event: int, _value: int, _endpoint: str) -> None:
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._timer.cancel()
            self._curt = 0
            if self._said:
                _log.info("joined %s", self._endpoint)
            self._said = ""
        elif event == zmq.EVENT_DISCONNECTED:
            self._timer.cancel()
            self._timer = self._loop.call_later(PATIENCE, self._impatient)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._curt += 1
            if self._curt >= _CURT:
                self._say(hung_up(has_key=bool(self._public)))
        else:
            is_key = event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
            self._say(not_let_in(self._public) if is_key else hung_up(has_key=bool(self._public)))
            self._on_refused()

    def _impatient(self) -> None:
        self._say("nobody answers there; is the host up, do tun_io and tracker run on it, and may we reach its ports?")

    def _say(self, why: str) -> None:
        if not self._said:
            _log.error("cannot join %s: %s", self._endpoint, why)
            self._said = why

    def close(self) -> None:
        """Call it before the socket is closed."""
        self._timer.cancel()
        super().close()


def turned_away(code: int, *, has_keys: bool) -> str:
    """Who is turned away with this ZMQ_PROTOCOL_ERROR_..., as in "somebody who ..."."""
    if code == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
        if has_keys:
            return "shows no key; a host of yours needs links.key_file and links.server_key"
        return "has a key, which nobody here asks for; give both hosts keys, or remove theirs"
    if code == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
        return "takes us for another host; its links.server_key is not our public key"
    return f"does not speak ZeroMQ's protocol as a host of yours would (error 0x{code:x})"


def not_let_in(public: bytes) -> str:
    """Why a server that knows our key refuses it."""
    return f"it does not know our key; add {public.hex()} to its links.peers and start its tun_io and tracker again"


def hung_up(*, has_key: bool) -> str:
    """Why a server ends the handshake."""
    if has_key:
        return (
            "it hangs up; either links.server_key is not its public key (`netstack keys FILE` prints it there), or it "
            "has no links.key_file"
        )
    return "it hangs up: it wants a key; set links.key_file and links.server_key"
