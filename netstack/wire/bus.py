"""ZeroMQ sockets driven by an asyncio loop: callbacks and bounded bursts, never one await per message.

Theory of operation. A ZeroMQ socket's descriptor is edge-triggered: it becomes readable once when something changes,
and any send or receive may swallow that edge. So after every send, and after every burst of receives, the socket's
EVENTS are looked at again before control goes back to the loop; without that a message would wait for an unrelated
event. A receive that finds nothing has taken all edges into account, so a burst ends with one; a burst is bounded,
so that one busy peer cannot starve the timers.

A frame that is no message of the catalogue is counted and dropped here; it never raises out of the bus. Sending never
blocks. Towards a worker (`Hub.send`) a full queue is the caller's counted drop. From a worker (`Peer.send`) a full
queue loses nothing: what does not fit waits in order in the peer, `congested` becomes true, and the owner stops
producing until `on_room` is called. What a peer sends while its hub is away is kept likewise and delivered when the hub
is back; only what had already left for a hub that died is lost with it. A closed socket sends nothing more, silently.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import zmq

from netstack.wire.curve import TCP, Curve, join, serve
from netstack.wire.messages import MalformedFrameError, Message, pack, unpack
from netstack.wire.watch import Entrance, Entry

if TYPE_CHECKING:
    from netstack.wire.doorman import Doorman

BURST: Final = 64  # messages per turn of the loop

# As plain integers: an operation on pyzmq's flags is a Python function of 0.6 us.
_IN: Final = int(zmq.POLLIN)
_OUT: Final = int(zmq.POLLOUT)
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_RCVMORE: Final = int(zmq.RCVMORE)

# The methods below pyzmq's Python layer: recv_multipart of two parts costs 4 to 14 us there, two receives 0.7 here.
_Socket: Final = cast("Any", zmq.backend).Socket

_RECONNECT: Final = 50  # milliseconds; a service is back within 2 s, and its workers find it soon after
_RECONNECT_MAX: Final = 500  # milliseconds
_JOIN_AGAIN: Final = 2.0  # seconds after another host has refused us
_EVENTS_HIGH_WATER: Final = 1000  # messages

_log = logging.getLogger(__name__)


Endpoints = str | tuple[str, ...]
"""Where a socket is bound; those at tcp:// come last, since they take other options."""


class Bus:
    """The ZeroMQ context of a process, and what is common to its sockets."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_malformed: Callable[[], None] | None = None,
        curve: Curve | None = None,
    ) -> None:
        """`curve` secures the endpoints at tcp://, which there are where an instance goes over several hosts."""
        self.loop = loop
        self.context = zmq.Context()
        self.curve = curve
        self._doorman: Doorman | None = None
        self.on_malformed = on_malformed or (lambda: None)
        self.ports: set[_Port] = set()
        """The open sockets."""

    def hub(
        self,
        endpoint: "Endpoints",
        on_message: Callable[[bytes, Message], None],
        *,
        high_water: int = 256,
        on_drained: Callable[[], None] | None = None,
    ) -> "Hub":
        """Bind a ROUTER; on_message gets the sender's identity and what it said. OSError where it cannot be bound."""
        return Hub(self, endpoint, on_message, high_water, on_drained)

    def peer(
        self,
        endpoint: str,
        identity: str,
        on_message: Callable[[Message], None],
        *,
        high_water: int = 256,
        on_drained: Callable[[], None] | None = None,
        on_room: Callable[[], None] | None = None,
    ) -> "Peer":
        """Connect a DEALER. It reconnects by itself; on_room is called when a congested peer has sent everything."""
        return Peer(self, endpoint, identity, on_message, high_water, on_drained, on_room)

    def publisher(self, endpoint: "Endpoints", *, bind: bool = False) -> "Publisher":
        """An XPUB: publishes by topic and knows which topics anybody listens to."""
        return Publisher(self, endpoint, bind=bind)

    def subscriber(
        self, endpoint: str, topics: list[bytes], on_message: Callable[[bytes, Message], None]
    ) -> "Subscriber":
        """Connect a SUB; on_message gets the topic and what was published."""
        return Subscriber(self, endpoint, topics, on_message)

    def close(self, linger: float = 0.2) -> None:
        """Close every socket; what is queued has `linger` seconds to leave."""
        for port in list(self.ports):
            port.close(linger)
        if self._doorman is not None:
            self._doorman.stop()
        self.context.term()

    def secure(self, socket: "zmq.Socket[bytes]", endpoint: str) -> None:
        """Have an endpoint that the socket is about to bind be for other hosts."""
        if self.curve is not None and self._doorman is None:
            from netstack.wire.doorman import Doorman  # noqa: PLC0415 - slow to import, and seldom needed

            self._doorman = Doorman(self.context, self.curve)
        serve(socket, endpoint, self.curve)


class _Port:
    """One socket on the loop: readiness, bursts, and the recheck after sends."""

    def __init__(self, bus: Bus, kind: int, high_water: int, on_drained: Callable[[], None] | None) -> None:
        self._bus = bus
        self._loop = bus.loop
        self.socket: zmq.Socket[bytes] = bus.context.socket(kind)
        bus.ports.add(self)  # from here on Bus.close closes it; an open socket would keep the context from ending
        self.socket.set_hwm(high_water)
        self.socket.linger = 0
        self._fd = self.socket.fileno()
        self._receive = cast("Callable[[int], bytes]", partial(_Socket.recv, self.socket))
        self._send = cast("Callable[[bytes, int], None]", partial(_Socket.send, self.socket))
        self._more = cast("Callable[[], int]", partial(_Socket.get, self.socket, _RCVMORE))
        self._events = cast("Callable[[], int]", partial(_Socket.get, self.socket, int(zmq.EVENTS)))
        self._on_drained = on_drained
        self._scheduled = False
        self._bursting = False
        self._unsure = False  # something was sent since the last receive that found nothing
        self._closed = False
        self._monitor: Entrance | Entry | None = None  # where another host is at the far end

    def _bind(self, endpoints: Endpoints) -> None:
        for endpoint in (endpoints,) if isinstance(endpoints, str) else endpoints:
            try:
                if endpoint.startswith(TCP):
                    self._bus.secure(self.socket, endpoint)
                    self._monitor = Entrance(self._loop, self.socket, has_keys=self._bus.curve is not None)
                self.socket.bind(endpoint)
            except zmq.ZMQError as error:
                self.close()
                raise OSError(error.errno, f"cannot bind {endpoint}: {error.strerror}") from None
        self._watch()

    def _connect(self, endpoint: str) -> None:
        self.socket.reconnect_ivl = _RECONNECT
        self.socket.reconnect_ivl_max = _RECONNECT_MAX
        if endpoint.startswith(TCP):
            curve = self._bus.curve
            join(self.socket, endpoint, curve)
            refused = partial(self._refused, endpoint)
            self._monitor = Entry(self._loop, self.socket, endpoint, curve.public if curve else b"", refused)
        self.socket.connect(endpoint)
        self._watch()

    def _refused(self, endpoint: str) -> None:
        """libzmq gives up on who refused us, but that may be put right over there."""
        self._loop.call_later(_JOIN_AGAIN, self._connect_again, endpoint)

    def _connect_again(self, endpoint: str) -> None:
        if self._closed:
            return
        with contextlib.suppress(zmq.ZMQError):  # it has forgotten the endpoint
            self.socket.disconnect(endpoint)
        self.socket.connect(endpoint)
        self._recheck()

    def _watch(self) -> None:
        self._loop.add_reader(self._fd, self._drain)
        self._recheck()

    def _recheck(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        self._bursting = True
        received = BURST  # what ends in an exception may have left something
        try:
            received = self._receive_burst()
            if received and self._on_drained is not None:
                self._on_drained()
        finally:
            self._bursting = False
            if not self._closed:
                self._settle(again=received == BURST)

    def _settle(self, *, again: bool) -> None:
        """After a burst: is there more, or room for what waits?"""
        if not again and not self._unsure and not self._wants_room():
            return
        events = self._events()
        if again or events & _IN:
            self._recheck()
        self._unsure = False
        if events & _OUT:
            self._writable()

    def _sent(self) -> None:
        """After a send: it may have swallowed the edge of what has come in, or of room for what waits."""
        if self._bursting:
            self._unsure = True
        elif not self._scheduled and self._events() & (_IN | _OUT if self._wants_room() else _IN):
            self._recheck()

    def _wants_room(self) -> bool:
        return False

    def _receive_burst(self) -> int:
        """Take what is there, at most BURST messages; gives how many."""
        receive = self._receive
        for count in range(BURST):
            if self._closed:
                return count
            try:
                first = receive(_NOBLOCK)
            except zmq.Again:
                self._unsure = False
                return count
            self._received(first)
        return BURST

    def _rest(self) -> list[bytes]:
        """The parts of a message that were not received yet; they are there with the first one."""
        parts: list[bytes] = []
        while self._more():
            parts.append(self._receive(_NOBLOCK))
        return parts

    def _received(self, first: bytes) -> None:
        """A message whose first part this is."""
        raise NotImplementedError

    def _writable(self) -> None:
        pass

    def _malformed(self, error: Exception) -> None:
        self._bus.on_malformed()
        _log.debug("frame dropped: %s", error)

    def close(self, linger: float = 0.0) -> None:
        """Take the socket off the loop, then close it: its number is reused at once."""
        if self._closed:
            return
        self._closed = True
        self._bus.ports.discard(self)
        self._loop.remove_reader(self._fd)
        if self._monitor is not None:
            self._monitor.close()
        self.socket.close(linger=int(linger * 1000))


class Hub(_Port):
    """A bound ROUTER."""

    def __init__(
        self,
        bus: Bus,
        endpoint: Endpoints,
        on_message: Callable[[bytes, Message], None],
        high_water: int,
        on_drained: Callable[[], None] | None,
    ) -> None:
        super().__init__(bus, zmq.ROUTER, high_water, on_drained)
        self._on_message = on_message
        self.unreachable = False
        """Of the last send that failed: whether the peer is gone; else its queue is full."""
        self.socket.router_mandatory = True
        self.socket.router_handover = True  # a worker that came back takes its name over at once
        self._bind(endpoint)

    def _received(self, first: bytes) -> None:
        try:
            frame = self._receive(_NOBLOCK)  # a ROUTER puts the identity in front, so there is one
            if self._more():
                raise MalformedFrameError(f"{len(self._rest()) + 2} parts where identity and frame were expected")
            message = unpack(frame)
        except MalformedFrameError as error:
            self._malformed(error)
            return
        self._on_message(first, message)

    def send(self, identity: bytes, message: Message) -> bool:
        """Send to one peer; False when its queue is full or it is gone, and then nothing was sent."""
        if self._closed:
            return False
        frame = pack(message)
        try:
            # ROUTER_MANDATORY: the identity is refused where the peer has no room, so the frame never is.
            self._send(identity, _MORE)
            self._send(frame, _NOBLOCK)
        except zmq.Again:
            self.unreachable = False
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self.unreachable = True
            return False
        finally:
            self._sent()
        return True


class Peer(_Port):
    """A connected DEALER."""

    def __init__(
        self,
        bus: Bus,
        endpoint: str,
        identity: str,
        on_message: Callable[[Message], None],
        high_water: int,
        on_drained: Callable[[], None] | None,
        on_room: Callable[[], None] | None,
    ) -> None:
        super().__init__(bus, zmq.DEALER, high_water, on_drained)
        self._on_message = on_message
        self._on_room = on_room
        self._waiting: deque[bytes] = deque()
        self.socket.identity = identity.encode()
        self._connect(endpoint)

    @property
    def congested(self) -> bool:
        """Whether something waits for room in the queue: produce no more until on_room."""
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """How many messages wait for room."""
        return len(self._waiting)

    def _wants_room(self) -> bool:
        return bool(self._waiting)

    def _received(self, first: bytes) -> None:
        try:
            if self._more():
                raise MalformedFrameError(f"{len(self._rest()) + 1} parts where one frame was expected")
            message = unpack(first)
        except MalformedFrameError as error:
            self._malformed(error)
            return
        self._on_message(message)

    def send(self, message: Message) -> None:
        """Send in order; waits here, and `congested` becomes true, when the queue is full. Nothing is lost."""
        if self._closed:
            return
        frame = pack(message)
        if self._waiting or not self._try_send(frame):
            self._waiting.append(frame)
        self._sent()

    def _try_send(self, frame: bytes) -> bool:
        try:
            self._send(frame, _NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _writable(self) -> None:
        if not self._waiting:
            return
        self._recheck()
        while self._waiting:
            if not self._try_send(self._waiting[0]):
                return
            self._waiting.popleft()
        if self._on_room is not None:
            self._on_room()


class Publisher(_Port):
    """An XPUB that connects to the proxy, or binds where there is none. A full queue drops: events are best effort."""

    def __init__(self, bus: Bus, endpoint: Endpoints, *, bind: bool) -> None:
        super().__init__(bus, zmq.XPUB, _EVENTS_HIGH_WATER, None)
        self.topics: set[bytes] = set()
        """What anybody listens to: prefixes, as subscribed."""
        self.on_subscribe: Callable[[bytes], None] = lambda _: None
        if bind:
            self._bind(endpoint)
        else:
            # What a proxy that died had subscribed to is unsubscribed, or it would seem wanted for ever.
            self.socket.immediate = True
            assert isinstance(endpoint, str)
            self._connect(endpoint)

    def wants(self, topic: bytes) -> bool:
        """Whether anybody listens to this topic."""
        return any(topic.startswith(prefix) for prefix in self.topics)

    def publish(self, topic: bytes, message: Message) -> None:
        """Give a message to those who listen to its topic."""
        if self._closed:
            return
        self.socket.send_multipart((topic, pack(message)), _NOBLOCK)  # never EAGAIN: XPUB_NODROP is off
        self._sent()

    def _received(self, first: bytes) -> None:
        # XPUB hands over subscriptions: 1 and the topic, or 0 and the topic (zmq_socket(3)).
        frame = first
        self._rest()
        if frame[:1] == b"\x01":
            self.topics.add(frame[1:])
            self.on_subscribe(frame[1:])
        elif frame[:1] == b"\x00":
            self.topics.discard(frame[1:])


class Subscriber(_Port):
    """A connected SUB."""

    def __init__(
        self, bus: Bus, endpoint: str, topics: list[bytes], on_message: Callable[[bytes, Message], None]
    ) -> None:
        super().__init__(bus, zmq.SUB, 0, None)
        self._on_message = on_message
        for topic in topics:
            self.socket.subscribe(topic)
        self._connect(endpoint)

    def _received(self, first: bytes) -> None:
        rest = self._rest()
        try:
            if len(rest) != 1:
                raise MalformedFrameError(f"{len(rest) + 1} parts where topic and frame were expected")
            message = unpack(rest[0])
        except MalformedFrameError as error:
            self._malformed(error)
            return
        self._on_message(first, message)
