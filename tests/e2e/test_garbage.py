"""Octets that are no packet and no message: counted, and the pipeline goes on."""

import sys

from tests.e2e.calls import Client
from tests.internet import Internet, Sandbox

HELLO = ["curl", "-sS", "--max-time", "5", "http://www.test/hello"]

# Random frames, and frames that nearly are messages, on every link that others connect to.
FRAMES = """
import os, random, sys, zmq
directory = sys.argv[1]
context = zmq.Context()
for kind, name in ((zmq.DEALER, "packets"), (zmq.DEALER, "whitelist"), (zmq.PUB, "events-in")):
    with context.socket(kind) as link:
        link.linger = 2000
        link.connect(f"ipc://{directory}/{name}")
        if kind == zmq.PUB:
            zmq.select([], [link], [], 1)
        for size in (0, 1, 2, 10, 100, 10000):
            for _ in range(20):
                parts = [os.urandom(size) for _ in range(random.choice((1, 1, 2, 3)))]
                link.send_multipart(parts)
        link.send(bytes.fromhex("92 00 01"))  # [Hello, 1]: too few fields
        link.send(bytes.fromhex("94 06 01 90 90")) # FromTun from a worker
context.destroy(2000)
"""


def test_garbage_from_the_device_is_counted(sandbox: Sandbox, client: Client) -> None:
    sandbox.run(HELLO).ok()
    pids = {process["worker"]: process["pid"] for process in sandbox.status()}
    before = _malformed(sandbox)
    (report,) = client("garbage", "tun0", "2000")
    assert report["sent"] > 500
    sandbox.run(HELLO).ok()
    assert _malformed(sandbox) > before
    assert {process["worker"]: process["pid"] for process in sandbox.status()} == pids, "none of them was restarted"


def test_garbage_on_the_links_is_counted(internet: Internet, sandbox: Sandbox) -> None:
    sandbox.run(HELLO).ok()
    pids = {process["worker"]: process["pid"] for process in sandbox.status()}
    directory = internet.host_run(["find", sandbox.run_dir, "-name", "packets", "-printf", "%h"]).ok().text
    internet.host_run([sys.executable, "-c", FRAMES, directory]).ok()
    sandbox.run(HELLO).ok()
    assert sandbox.drops("malformed-frame")
    assert {process["worker"]: process["pid"] for process in sandbox.status()} == pids, "none of them was restarted"


def _malformed(sandbox: Sandbox) -> int:
    return sum(
        count
        for process in sandbox.status()
        for reason, count in process["drops"].items()
        if reason.startswith("malformed-") or reason in ("bad-checksum", "unknown-protocol", "fragment")
    )
