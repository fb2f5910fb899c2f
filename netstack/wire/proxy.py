"""The events link's proxy: what any process publishes reaches every command that listens to its topic.

It runs in a thread of its own, all in libzmq (zmq_proxy(3)), so that events cost the process that hosts it no turn of
its loop. Subscriptions travel the other way, to every publisher, so that nobody packs what nobody reads.
"""

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

import zmq

from netstack.wire.bus import Endpoints
from netstack.wire.curve import TCP, Curve, serve

if TYPE_CHECKING:
    from netstack.wire.doorman import Doorman

HIGH_WATER: Final = 10_000
"""Events that wait per publisher and per listener; what a slow listener does not take beyond it is lost to that one."""

_log = logging.getLogger(__name__)


class EventsProxy:
    """XSUB at one endpoint (or several), XPUB at the other. Raises OSError where one cannot be bound.

    A socket file that an earlier process left behind is replaced (libzmq unlinks it before it binds).
    """

    def __init__(self, events_in: Endpoints, events_out: Endpoints, curve: Curve | None = None) -> None:
        # A context of its own: ending it is what ends the proxy.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._curve = curve
        self._doorman = _doorman(self._context, curve) if curve is not None else None
        try:
            publishers = self._bind(zmq.XSUB, events_in)
            listeners = self._bind(zmq.XPUB, events_out)
        except OSError:
            if self._doorman is not None:
                self._doorman.stop()
            self._context.destroy(linger=0)
            raise
        # Daemonic: a process that fails elsewhere must be able to end without `stop`.
        self._thread = threading.Thread(target=_forward, args=(publishers, listeners), name="events-proxy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is on its way is lost."""
        if self._doorman is not None:
            self._doorman.stop()
        self._context.term()
        self._thread.join()

    def _bind(self, kind: int, endpoints: Endpoints) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set_hwm(HIGH_WATER)
        socket.linger = 0
        for endpoint in (endpoints,) if isinstance(endpoints, str) else endpoints:
            try:
                if endpoint.startswith(TCP):
                    serve(socket, endpoint, self._curve)
                socket.bind(endpoint)
            except zmq.ZMQError as error:
                raise OSError(error.errno, f"cannot bind {endpoint}: {error.strerror}") from None
        return socket


def _doorman(context: "zmq.Context[Any]", curve: Curve) -> "Doorman":
    from netstack.wire.doorman import Doorman  # noqa: PLC0415 - slow to import, and seldom needed

    return Doorman(context, curve)


def _forward(publishers: zmq.Socket[bytes], listeners: zmq.Socket[bytes]) -> None:
    try:
        zmq.proxy(publishers, listeners)
    except zmq.ContextTerminated:
        pass  # `stop` was called
    except zmq.ZMQError as error:
        _log.error("the events link has failed: %s", error)
    finally:
        publishers.close()
        listeners.close()
