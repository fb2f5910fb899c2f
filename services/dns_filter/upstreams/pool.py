"""The configured upstreams, asked in order, those that do not answer passed over (health.py)."""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable
from types import ModuleType

from netstack.runtime.config import Config
from netstack.runtime.validate import effective_upstreams
from netstack.runtime.values import Upstream, bootstrap_addresses, is_controld
from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.health import Health
from services.dns_filter.message import MalformedMessageError
from services.dns_filter.policy import Policy
from services.dns_filter.query import Query
from services.dns_filter.upstreams.deferred import Deferred
from services.dns_filter.upstreams.tcp import TcpTransport
from services.dns_filter.upstreams.udp import UdpTransport
from services.dns_filter.upstreams.upstream import OnMismatch, Transport, UpstreamError

_log = logging.getLogger(__name__)


class AllFailedError(Exception):
    """No upstream answered; the text names each and says why."""

    def __init__(self, failures: list[tuple[str, UpstreamError]]) -> None:
        super().__init__("; ".join(f"{label}: {error}" for label, error in failures))
        self.silent = all(error.silent for _, error in failures)


class Pool:
    """All upstreams."""

    def __init__(
        self, transports: list[Transport], policy: Policy, on_change: Callable[[str], None] = lambda _: None
    ) -> None:
        """on_change gets a line about the upstreams while all of them are down, and "" once one answers again."""
        self._transports = transports
        self._policy = policy
        self._on_change = on_change
        self._health = Health(len(transports))
        self._probes: set[asyncio.Task[None]] = set()

    async def ask(self, query: Query, deadline: float) -> tuple[Answer, str]:
        """The answer, filtered, and who gave it, before `deadline` (time.monotonic()); raises AllFailedError."""
        now = time.monotonic()
        for index in self._health.probes(now):
            self._probe(index, query, deadline - now)
        order = self._health.order()
        failures: list[tuple[str, UpstreamError]] = []
        for position, index in enumerate(order):
            # Each gets an equal share of the time that is left, so that the last one has some.
            patience = max(0.0, deadline - time.monotonic()) / (len(order) - position)
            try:
                answer = await self._ask_one(index, query, patience)
            except UpstreamError as error:
                failures.append((self._transports[index].label, error))
                continue
            return answer, self._transports[index].label
        raise AllFailedError(failures)

    @property
    def all_down(self) -> bool:
        """Whether no upstream answers, as far as is known."""
        return self._health.all_down

    async def prepare(self) -> None:
        """See Transport."""
        for transport in self._transports:
            await transport.prepare()

    async def close(self) -> None:
        """Close every socket."""
        for task in self._probes:
            task.cancel()
        for transport in self._transports:
            await transport.close()

    async def _ask_one(self, index: int, query: Query, patience: float) -> Answer:
        asked_at = time.monotonic()
        transport = self._transports[index]
        try:
            octets = await transport.ask(query, patience)
            answer = self._filter(octets, query)
        except UpstreamError as error:
            if self._health.failed(index, time.monotonic(), asked_at=asked_at, silent=error.silent):
                _log.warning("upstream %s is down: %s", transport.label, error)
            if self._health.all_down:
                self._on_change(f"no upstream answers; {transport.label}: {error}")
            raise
        if self._health.answered(index, time.monotonic()):
            _log.info("upstream %s is up again", transport.label)
        self._on_change("")
        return answer

    def _filter(self, octets: bytes, query: Query) -> Answer:
        try:
            return filter_answer(octets, query, self._policy)
        except MalformedMessageError as error:
            raise UpstreamError(f"an answer that is no DNS message: {error}") from None

    def _probe(self, index: int, query: Query, patience: float) -> None:
        async def probe() -> None:
            with contextlib.suppress(UpstreamError):  # it has been noted in its health
                await self._ask_one(index, query, patience)

        task = asyncio.create_task(probe())
        self._probes.add(task)
        task.add_done_callback(self._probes.discard)


def make_transports(config: Config, on_mismatch: OnMismatch) -> list[Transport]:
    """The transports of a configuration, in its order; raises OSError where dns.tls_ca cannot be used."""
    path = config.dns.tls_ca
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:
            message = f"dns.tls_ca = {path!r} is no readable file of CA certificates in PEM form: {error}"
            raise OSError(message) from None
    return [_make(upstream, config, on_mismatch) for upstream in effective_upstreams(config)]


def _make(upstream: Upstream, config: Config, on_mismatch: OnMismatch) -> Transport:
    addresses = bootstrap_addresses(upstream, config.dns.bootstrap)
    label = str(upstream)
    if upstream.scheme == "udp":
        return UdpTransport(label, addresses, upstream.port, on_mismatch)
    if upstream.scheme == "tcp":
        return TcpTransport(label, addresses, upstream.port, on_mismatch)

    headers = _controld_headers(config) if is_controld(upstream) else {}

    def make(module: ModuleType) -> Transport:
        tls_ca = config.dns.tls_ca
        endpoint = (upstream.host, upstream.port)
        transport: Transport
        match upstream.scheme:
            case "tls":
                transport = module.TlsTransport(label, addresses, endpoint, tls_ca, on_mismatch)
            case "quic":
                transport = module.QuicTransport(label, addresses, endpoint, tls_ca, on_mismatch)
            case "h3":
                transport = module.H3Transport(label, addresses, tls_ca, on_mismatch, headers)
            case _:
                transport = module.HttpsTransport(label, addresses, tls_ca, on_mismatch, headers)
        return transport

    return Deferred(label, f"services.dns_filter.upstreams.{upstream.scheme}", make)


def _controld_headers(config: Config) -> dict[str, str]:
    """What Control D is told of the client: only what the configuration says."""
    client = config.dns.controld_client
    told = {"x-cd-mac": client.mac.lower(), "x-cd-ip": client.ip, "x-cd-host": client.host, "x-cd-os": client.os}
    return {name: value for name, value in told.items() if value}
