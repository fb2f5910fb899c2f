"""WireGuard inside the captured network, to a peer outside that is allowed: a tunnel of another's making works."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.internet import Internet, Sandbox, wait_until, zones
from tests.internet.machine import Place

PORT = 51820
INNER = {"here": "198.19.0.2", "there": "198.19.0.1"}


@contextmanager
def interface(place: Place, name: str, address: str, configuration: str, folder: Path) -> Iterator[None]:
    """A WireGuard interface, by the implementation in userspace."""
    running = place.start(
        ["wireguard-go", "-f", name], environment={"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
    )
    try:
        wait_until(lambda: running.ended or place.run(["wg", "show", name]).code == 0, 5, f"{name} is there")
        assert not running.ended, running.wait(1)
        path = folder / name
        path.write_text(configuration)
        for command in (
            ["wg", "setconf", name, path],
            ["ip", "address", "add", f"{address}/24", "dev", name],
            ["ip", "link", "set", name, "mtu", "1380", "up"],
        ):
            place.run(command).ok()
        yield
    finally:
        running.stop(signal.SIGTERM)  # so that it removes its socket in /run, which is the machine's own


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [("v4.test", f"198.18.1.11:{PORT}"), ("v6.test", f"[2001:2:0:2::11]:{PORT}")],
    ids=["IPv4", "IPv6"],
)
def test_a_tunnel_to_an_allowed_peer(
    internet: Internet, sandbox: Sandbox, folder: Path, name: str, endpoint: str
) -> None:
    keys = {}
    for side in ("here", "there"):
        private = sandbox.run(["wg", "genkey"]).ok().out
        keys[side] = private.decode().strip(), sandbox.run(["wg", "pubkey"], stdin=private).ok().text.strip()
    peer = "[Interface]\nPrivateKey = {}\n{}[Peer]\nPublicKey = {}\nAllowedIPs = 198.19.0.0/24\n{}"
    there = peer.format(keys["there"][0], f"ListenPort = {PORT}\n", keys["here"][1], "")
    here = peer.format(keys["here"][0], "", keys["there"][1], f"Endpoint = {endpoint}\n")
    sandbox.run(["dig", "+short", name, "A", name, "AAAA"]).ok()
    with ExitStack() as stack:
        stack.enter_context(interface(internet.net, "wg-there", INNER["there"], there, folder))
        stack.enter_context(interface(sandbox, "wg-here", INNER["here"], here, folder))
        done = sandbox.run(["ping", "-n", "-c", "5", "-i", "0.2", "-W", "3", "-s", "1300", INNER["there"]], timeout=20)
        assert " 0% packet loss" in done.text, done
        web = sandbox.run(["curl", "-sS", "--max-time", "5", f"http://{INNER['there']}/whoami"]).ok()
        assert web.text == f"{INNER['here']}\n"
        seen = internet.net.run(["wg", "show", "wg-there", "endpoints"]).ok().text
        assert (zones.HOST_V4 if name == "v4.test" else zones.HOST_V6) in seen, "its packets came by way of ours"
