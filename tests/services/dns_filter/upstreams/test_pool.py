"""Which upstream is asked, and what is said when none answers."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from netstack.runtime.config import Config, ControldClient, Dns
from services.dns_filter.query import Query, emit_upstream
from services.dns_filter.upstreams.deferred import Deferred
from services.dns_filter.upstreams.h3 import H3Transport
from services.dns_filter.upstreams.https import HttpsTransport
from services.dns_filter.upstreams.pool import AllFailedError, Pool, make_transports
from services.dns_filter.upstreams.quic import QuicTransport
from services.dns_filter.upstreams.tcp import TcpTransport
from services.dns_filter.upstreams.tls import TlsTransport
from services.dns_filter.upstreams.udp import UdpTransport
from services.dns_filter.upstreams.upstream import Transport, UpstreamError
from tests.services.dns_filter.messages import address, policy, query, respond

RECORD = "www.example.com. 60 A 198.18.1.1"
ENCRYPTED = [
    "https://freedns.controld.com/p1", "h3://192.0.2.1/dns-query", "tls://p1.freedns.controld.com", "quic://192.0.2.1",
]  # fmt: skip


class Scripted:
    """An upstream that does what it is told: an answer, an exception, or `patience` seconds of silence."""

    def __init__(self, label: str, script: bytes | UpstreamError | None) -> None:
        self.label = label
        self.script = script
        self.patience: list[float] = []
        self.closed = False

    async def ask(self, query: Query, patience: float) -> bytes:
        self.patience.append(patience)
        if self.script is None:
            await asyncio.sleep(patience)
            raise UpstreamError("no answer", silent=True)
        if isinstance(self.script, UpstreamError):
            raise self.script
        return self.script

    async def prepare(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


GOOD = respond(emit_upstream(query(), 1), RECORD)


def pool(*transports: Transport, on_change: Callable[[str], None] = lambda _: None) -> Pool:
    return Pool(list(transports), policy(), on_change)


def soon() -> float:
    return time.monotonic() + 0.2


def test_first_is_asked_first() -> None:
    async def main() -> None:
        one, two = Scripted("one", GOOD), Scripted("two", GOOD)
        answer, label = await pool(one, two).ask(query(), soon())
        assert (answer.addresses, label) == ((address("198.18.1.1"),), "one")
        assert two.patience == []

    asyncio.run(main())


@pytest.mark.parametrize(
    "script",
    [UpstreamError("refused"), None, b"garbage", GOOD[:34]],
    ids=["refuses", "is silent", "talks garbage", "cuts its answer off"],
)
def test_next_one_is_asked_in_time_where_the_first(script: bytes | UpstreamError | None) -> None:
    async def main() -> None:
        one, two = Scripted("one", script), Scripted("two", GOOD)
        answer, label = await pool(one, two).ask(query(), soon())
        if script == GOOD[:34]:
            assert answer.addresses == ()  # what does parse is kept
            return
        assert label == "two"
        assert one.patience[0] <= 0.1, "half of the time"
        assert two.patience[0] > 0.05

    asyncio.run(main())


def test_state_is_logged_when_it_changes_and_not_per_query(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        notes: list[str] = []
        one = Scripted("udp://one", UpstreamError("refused"))
        both = pool(one, on_change=notes.append)
        for _ in range(5):
            with pytest.raises(AllFailedError):
                await both.ask(query(), soon())
        one.script = GOOD
        for _ in range(5):
            await both.ask(query(), soon())
        assert notes[0] == "no upstream answers; udp://one: refused"
        assert notes[-1] == ""

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "upstream udp://one is down: refused",
        "upstream udp://one is up again",
    ]


def test_when_all_fail_each_is_named() -> None:
    async def main() -> None:
        with pytest.raises(AllFailedError, match="one: refused; two: no answer") as caught:
            await pool(Scripted("one", UpstreamError("refused")), Scripted("two", None)).ask(query(), soon())
        assert not caught.value.silent

    asyncio.run(main())


def test_silence_of_all_is_silence() -> None:
    async def main() -> None:
        with pytest.raises(AllFailedError) as caught:
            await pool(Scripted("one", None)).ask(query(), soon())
        assert caught.value.silent

    asyncio.run(main())


def test_one_that_was_down_is_probed_beside_a_live_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dns_filter.health.BACKOFF", 0.0)

    async def main() -> None:
        one, two = Scripted("one", UpstreamError("refused")), Scripted("two", GOOD)
        both = pool(one, two)
        await both.ask(query(), soon())
        one.script = GOOD
        monkeypatch.setattr(time, "monotonic", lambda clock=time.monotonic: clock() + 2.0)
        _, label = await both.ask(query(), time.monotonic() + 1)
        assert label == "two", "no client waits for a probe"
        await asyncio.sleep(0)
        _, label = await both.ask(query(), time.monotonic() + 1)
        assert label == "one"
        await both.close()
        assert one.closed
        assert two.closed

    asyncio.run(main())


def test_transports_of_a_configuration() -> None:
    config = Config(
        dns=Dns(
            upstreams=["udp://192.0.2.1", "tcp://[2001:db8::1]:5353", *ENCRYPTED],
            controld_client=ControldClient(host="laptop", mac="02:00:5E:10:00:01"),
        )
    )
    transports = make_transports(config, lambda: None)
    assert [type(transport) for transport in transports] == [UdpTransport, TcpTransport, *[Deferred] * 4]
    assert [transport.label for transport in transports] == ["udp://192.0.2.1", "tcp://[2001:db8::1]:5353", *ENCRYPTED]

    async def main() -> list[Transport | None]:
        for transport in transports:
            await transport.prepare()
        made = [transport._transport for transport in transports if isinstance(transport, Deferred)]
        for transport in transports:
            await transport.close()
        return made

    https, h3, *others = asyncio.run(main())
    assert isinstance(https, HttpsTransport)
    assert (https._headers["x-cd-host"], https._headers["x-cd-mac"]) == ("laptop", "02:00:5e:10:00:01")
    assert isinstance(h3, H3Transport)
    assert (b"x-cd-host", b"laptop") not in h3._headers, "it is not Control D's"
    assert [type(transport) for transport in others] == [TlsTransport, QuicTransport]


@pytest.mark.parametrize("text", [None, "no certificate"], ids=["a file that is missing", "a file of something else"])
def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OSError, match=r"dns\.tls_ca = '.*ca.pem' is no readable file"):
        make_transports(Config(dns=Dns(tls_ca=str(path))), lambda: None)
