"""`netstack up`: the pipeline in the foreground for a named namespace, and what it leaves or does not touch."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.internet import Internet, wait_until
from tests.internet.machine import Finished, Running
from tests.internet.world import NETSTACK, UPSTREAM

RUN_DIR = "/run/up"


def words(name: str, *settings: str) -> list[str | Path]:
    return [NETSTACK, name, "--run-dir", RUN_DIR, *(word for setting in settings for word in ("-s", setting))]


@contextmanager
def up(internet: Internet, *settings: str) -> Iterator[Running]:
    running = internet.host.start(words("up", f'dns.upstreams=["{UPSTREAM}"]', *settings))
    try:
        wait_until(lambda: internet.host.run(words("status")).code == 0, 10, "every process is ready")
        yield running
    finally:
        if not running.ended:
            running.send(signal.SIGTERM)
            running.wait(10)


def inside(internet: Internet, name: str, *command: str) -> Finished:
    return internet.host.run(["ip", "netns", "exec", name, *command])


def test_a_namespace_of_its_own_is_captured_and_removed(internet: Internet) -> None:
    with up(internet, "capture.name=fenced") as running:
        assert inside(internet, "fenced", "curl", "-sS", "http://www.test/hello").ok()
        refused = inside(internet, "fenced", "curl", "-sS", "http://198.18.1.99/")
        assert refused.code == 7
        assert inside(internet, "fenced", "curl", "-sS", "-6", "http://www.test/hello").ok()
        assert inside(internet, "fenced", "curl", "-sS", "-g", "http://[2001:2:0:2::99]/").code == 7
        running.send(signal.SIGINT)
        ended = running.wait(10)
    assert ended.code == 0
    assert "ip netns exec fenced" in ended.err.decode()
    assert "fenced" not in internet.host.run(["ip", "netns", "list"]).text
    assert internet.host.run(["ls", "/etc/netns"]).text == ""


def test_a_namespace_that_was_there_is_joined_and_stays(internet: Internet) -> None:
    internet.host.run(["ip", "netns", "add", "mine"]).ok()
    try:
        with up(internet, "capture.kind=name", "capture.name=mine"):
            assert "tun0" in inside(internet, "mine", "ip", "link").text
        assert "tun0" not in inside(internet, "mine", "ip", "link").text
        assert "mine" in internet.host.run(["ip", "netns", "list"]).text
    finally:
        internet.host.run(["ip", "netns", "delete", "mine"]).ok()


def test_a_second_one_of_the_same_name_is_refused(internet: Internet) -> None:
    with up(internet):
        second = internet.host.run(words("up"))
        assert second.code != 0
        assert "default" in second.err.decode()


def test_what_a_killed_one_left_is_recovered(internet: Internet) -> None:
    with up(internet, "capture.name=fenced") as running:
        running.send(signal.SIGKILL)
        running.wait(10)
    assert "fenced" in internet.host.run(["ip", "netns", "list"]).text
    internet.host.run(words("recover")).ok()
    assert "fenced" not in internet.host.run(["ip", "netns", "list"]).text
    assert internet.host.run(["find", RUN_DIR, "-mindepth", "1"]).text == ""
