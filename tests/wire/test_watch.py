"""What is said of the connections to other hosts."""

import asyncio
import logging
from pathlib import Path

import pytest
import zmq

from netstack.wire import watch
from netstack.wire.bus import Bus
from netstack.wire.curve import Curve, new_secret, public_of
from netstack.wire.messages import Heartbeat
from netstack.wire.watch import hung_up, not_let_in, turned_away
from tests.inbox import Inbox
from tests.wire.test_curve import GATEWAY, SERVER, WORKER, endpoint, run, until_logged


@pytest.mark.parametrize(
    ("code", "has_keys", "said"),
    [
        (zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, True, "shows no key"),
        (zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, False, "has a key, which nobody here asks for"),
        (zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, True, "takes us for another host"),
        (zmq.PROTOCOL_ERROR_ZMTP_UNEXPECTED_COMMAND, True, "does not speak ZeroMQ's protocol"),
    ],
    ids=["no key", "a key that is not wanted", "another server's key", "something else"],
)
def test_what_was_wrong_is_said_in_words(code: int, has_keys: bool, said: str) -> None:
    assert turned_away(code, has_keys=has_keys).startswith(said)


def test_the_remedy_is_named() -> None:
    assert "links.peers" in not_let_in(b"\1" * 32)
    assert "01" * 32 in not_let_in(b"\1" * 32)
    assert "links.server_key" in hung_up(has_key=True)
    assert "set links.key_file" in hung_up(has_key=False)


def test_a_host_that_is_not_there_is_said_and_joined_when_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.05)
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        with zmq.Context() as context, context.socket(zmq.PULL) as one:
            where = f"tcp://127.0.0.1:{one.bind_to_random_port('tcp://127.0.0.1')}"
        far, near = Bus(loop, curve=WORKER), Bus(loop, curve=GATEWAY)
        far.peer(where, "far", Inbox()).send(Heartbeat("far"))
        await until_logged(caplog, f"cannot join {where}: nobody answers there")
        heard = Inbox()
        near.hub((where,), heard)
        assert await heard.until(1) == [(b"far", Heartbeat("far"))], "what was said before is not lost"
        await until_logged(caplog, f"joined {where}")
        near.close(0)
        await asyncio.sleep(0)
        while caplog.text.count("nobody answers there") < 2:
            await asyncio.sleep(0.005)
        far.close(0)

    run(scenario)


def test_one_who_was_refused_is_let_in_once_its_key_is_known(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        far, before = Bus(loop, curve=WORKER), Bus(loop, curve=Curve(SERVER, peers={public_of(new_secret()): "other"}))
        hub = before.hub(("tcp://127.0.0.1:*",), Inbox())
        where = endpoint(hub.socket)
        peer = far.peer(where, "far", Inbox())
        await until_logged(caplog, "it does not know our key")
        before.close(0)
        near, heard = Bus(loop, curve=GATEWAY), Inbox()
        near.hub((where,), heard)
        await until_logged(caplog, "joined")
        peer.send(Heartbeat("far"))
        assert await heard.until(1) == [(b"far", Heartbeat("far"))]
        assert caplog.text.count("cannot join") == 1, "said once, however often it was tried"
        far.close(0)
        near.close(0)

    run(scenario)


def test_links_within_the_host_are_not_watched(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch) -> None:
    monkeypatch.setattr(watch, "PATIENCE", 0.0)

    async def scenario() -> None:
        bus = Bus(asyncio.get_running_loop())
        peer = bus.peer(f"ipc://{tmp_path}/x", "p", Inbox())
        assert peer._monitor is None
        bus.close(0)

    run(scenario)
    assert caplog.text == ""
