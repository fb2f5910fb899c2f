"""The names of flows: sees to it that the octets of each are looked at, and asks the tracker where it must be sure."""

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from netstack.runtime.leased_names import LeasedNames
from netstack.runtime.service import Runtime
from netstack.runtime.values import parse_allowed_network
from netstack.runtime.whitelist import Decision, Whitelist
from services.tcp_fwd.naming import HOLD, Naming, is_address, is_exempt, refusal
from services.tcp_fwd.states import State

if TYPE_CHECKING:
    from services.tcp_fwd.session import Session

_CLIENT_ENDED: Final = frozenset({State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT})

_log = logging.getLogger(__name__)


class Namer:
    """Decides on the names of one worker's flows, as `tcp.sni` says."""

    def __init__(self, runtime: Runtime, whitelist: Whitelist) -> None:
        config = runtime.config
        self._loop = runtime.loop
        self._trace = runtime.trace
        self._gauges = runtime.counters.gauges
        self._whitelist = whitelist
        self._looks = config.tcp.sni != "off"
        # Where addresses are not held against the whitelist, names are not either.
        self._enforces = config.tcp.sni == "enforce" and config.whitelist.mode == "enforce"
        self._exempt = [parse_allowed_network(text) for text in config.allow.networks]
        self._debugs = _log.isEnabledFor(logging.DEBUG)
        self._names = LeasedNames()
        if self._looks:
            whitelist.names = self._names
            self._gauges.update(sni_named=0, sni_unnamed=0, sni_mismatch=0)

    def begin(self, trace_id: int) -> Naming | None:
        """A flow is connected; trace_id is that of its SYN. None where it is not looked at."""
        return Naming(trace_id, may_hold=self._enforces) if self._looks else None

    def look(self, session: "Session") -> None:
        """A burst of the client's segments is over, in a flow whose name is not decided."""
        naming = session.naming
        assert naming is not None
        if naming.seen is None and session.connection.state in _CLIENT_ENDED:
            naming.client_ended()
        if naming.seen is not None:
            if not naming.asked:
                self._named(session, naming)
        elif naming.should_hold():
            session.hold()
            self._loop.call_later(HOLD, self._held_enough, session, naming)

    def server_spoke(self, session: "Session") -> None:
        """The server has sent something in a flow whose name is not decided."""
        naming = session.naming
        assert naming is not None
        naming.server_spoke()
        if naming.seen is not None and not naming.asked:
            self._named(session, naming)

    def _named(self, session: "Session", naming: Naming) -> None:
        assert naming.seen is not None
        protocol, name = naming.seen
        session.name = name
        self._gauges["sni_unnamed" if name is None else "sni_named"] += 1
        if naming.trace_id:
            detail = f"{session.flow} {protocol or 'neither TLS nor HTTP'} {name or ''}".rstrip()
            self._trace.hop(naming.trace_id, "named", at=self._loop.time(), detail=detail)
        if name is None:
            self._let_through(session, naming)
            return
        if self._debugs:
            _log.debug("%s: %s %s", session.flow, protocol, name)
        flow = session.flow
        if (
            self._names.has(flow.server, name, self._loop.time())
            or is_address(name, flow.server)
            or (self._exempt and is_exempt(flow, self._exempt))
        ):
            self._let_through(session, naming)
            return
        naming.asked = True
        if naming.should_hold():
            session.hold()
        then = partial(self._answered, session, naming, name)
        self._whitelist.ask(flow.client, flow.server, flow.server_port, tcp.PROTOCOL, naming.trace_id, then)

    def _answered(self, session: "Session", naming: Naming, name: str, decision: Decision) -> None:
        reason = refusal(name, allowed=decision.allowed, reason=decision.reason, names=decision.names)
        if reason is Reason.SNI_MISMATCH:
            self._gauges["sni_mismatch"] += 1
            _log.debug("%s: %s was not answered with this address", session.flow, name)
        if session.naming is not naming:
            return  # the flow is over
        if reason is None or not self._enforces:
            self._let_through(session, naming)
            return
        if naming.trace_id:
            self._trace.hop(naming.trace_id, "refused", at=self._loop.time(), detail=f"{session.flow} {reason}")
        session.naming = None
        session.execute(session.connection.abort(reason))

    def _held_enough(self, session: "Session", naming: Naming) -> None:
        # Let go, but looked at further: a name that comes late and is wrong is refused all the same.
        if session.naming is naming and naming.held and not naming.asked:
            naming.held = False
            session.release()

    def _let_through(self, session: "Session", naming: Naming) -> None:
        session.naming = None
        if naming.held:
            session.release()
