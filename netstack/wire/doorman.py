"""Who may come in: the ZAP handler (ZeroMQ RFC 27) of the sockets that other hosts can reach.

A module of its own, since zmq.auth costs 45 ms to import, and only processes that are reached from elsewhere need it.
"""

import logging
import time
from typing import Any, Final

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils import z85

from netstack.wire.curve import DOMAIN, Curve

_AGAIN: Final = 60.0  # seconds between two messages about the same key
_KNOWN: Final = 256  # keys and addresses that were refused

_log = logging.getLogger(__name__)


class Doorman(ThreadAuthenticator):
    """Answers libzmq, in a thread, whether a host may come in: those of curve.peers, and nobody else."""

    def __init__(self, context: "zmq.Context[Any]", curve: Curve) -> None:
        super().__init__(context, log=_log)
        self._peers = curve.peers
        self._refused: dict[tuple[str, bytes], float] = {}
        self._address = ""
        self.configure_curve_callback(DOMAIN, self)
        self.start()

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Decide on one host; ZAP's fourth frame is its address."""
        self._address = msg[3].decode(errors="replace") if len(msg) > 3 else ""
        await super().handle_zap_message(msg)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether the owner of this public key, which it has proved to be, may come in."""
        octets = z85.decode(key)
        if octets in self._peers:
            _log.debug("%s is let in from %s", self._peers[octets], self._address)
            return True
        self._tell(octets, time.monotonic())
        return False

    def _tell(self, key: bytes, now: float) -> None:
        # It goes on trying, under as many keys as it likes.
        seen = (self._address, key)
        if now < self._refused.get(seen, 0.0):
            return
        self._refused = {} if len(self._refused) >= _KNOWN else self._refused
        self._refused[seen] = now + _AGAIN
        _log.warning(
            "%s may not join: its public key %s is not in links.peers; if it is one of your hosts, add the key there "
            "and start again", self._address, key.hex(),
        )  # fmt: skip
