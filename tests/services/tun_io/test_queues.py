"""Spare queues: lent, claimed, taken back; over the queues of a real TUN, and over what is none."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from netstack.runtime.queue import NEW
from tests.services.tun_io.lending import lending

BEGIN = """
import asyncio, fcntl, os, struct, tempfile
from pathlib import Path
from netstack.cli.tun import open_tun
from services.tun_io.queues import attach, detach, is_attached
from tests.services.tun_io.lending import lending

first, *spare = open_tun("tun0")
fcntl.ioctl(first, 0x800454E0, struct.pack("=i", -1))  # TUNSETSTEERINGEBPF: as where no program may be loaded
del spare[2:]

def attached():
    return [is_attached(each) for each in spare]

def run(scenario):
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(scenario(Path(directory, "queues")))
"""


def shown(script: str) -> list[str]:
    """What a script printed in a network namespace of its own, where there is a TUN with two spare queues."""
    result = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", BEGIN + script],
        capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.e2e
def test_a_queue_is_lent_as_long_as_the_connection_is_open_and_there_are_no_more_than_there_are():
    script = """
async def scenario(path):
    async with lending(path, spare) as one:
        workers = [await one.ask(name=b"w%d" % number) for number in range(3)]
        print(len(one.queues), attached(), [(each.number, len(each.descriptors)) for each in workers])
        print(await workers[2].ended(), one.changes)
        workers[0].close()
        await one.until(1)
        print(attached(), one.changes)
        again = await one.ask(name=b"w2")
        print(len(one.queues), attached(), again.number)

run(scenario)
"""
    assert shown(script) == [
        "2 [True, True] [(0, 1), (1, 1), (255, 0)]",
        "True 2",
        "[False, True] 3",
        "2 [True, True] 0",
    ]


@pytest.mark.e2e
def test_what_a_worker_is_lent_reads_and_writes_the_device():
    script = """
import socket, subprocess
for command in ("addr add 10.0.0.2/24 dev tun0", "link set tun0 up"):
    subprocess.run(["ip", *command.split()], check=True)

async def scenario(path):
    async with lending(path, spare) as one:
        worker = await one.ask()
        for _ in range(64):
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", ("10.0.0.9", 9))
        read = []
        try:
            while True:
                read.append(len(os.read(worker.descriptors[0], 2000)))
        except BlockingIOError:
            print(38 in read)  # a vnet header, IPv4, UDP
        try:
            os.write(worker.descriptors[0], bytes(20))
        except OSError as error:
            print(error.strerror)

run(scenario)
"""
    assert shown(script) == ["True", "Invalid argument"]  # what is of no IP version


@pytest.mark.e2e
def test_after_a_restart_queues_are_claimed_and_the_others_taken_back():
    script = """
for each in spare:
    attach(each)

async def scenario(path):
    async with lending(path, spare) as one:
        print(len(one.queues), attached())
        claims = await one.ask(1)
        print(len(one.queues), claims.number, claims.descriptors, one.changes)
        one.queues.expire()
        print(attached(), one.changes)
        one.queues.expire()
        print(attached(), one.changes)
        late = await one.ask(0, b"w2")
        print(len(one.queues), late.number, len(late.descriptors), attached())

run(scenario)
print(attached())
"""
    assert shown(script) == [
        "0 [True, True]",
        "1 1 [] 1",
        "[False, True] 2",
        "[False, True] 2",
        "2 0 1 [True, True]",
        "[True, True]",  # they stay with who has them
    ]


@pytest.mark.e2e
def test_a_worker_has_one_queue_and_none_when_it_is_taken_for_gone():
    script = """
async def scenario(path):
    async with lending(path, spare) as one:
        old = await one.ask()
        new = await one.ask()
        print(await old.ended(), len(one.queues), attached(), new.number)
        one.queues.withdraw(b"another")
        print(len(one.queues), attached())
        one.queues.withdraw(b"w0")
        print(await new.ended(), len(one.queues), attached())

run(scenario)
"""
    assert shown(script) == ["True 1 [False, True] 1", "1 [False, True]", "True 0 [False, False]"]


@pytest.mark.e2e
def test_a_worker_that_says_more_has_lost_its_queue():
    script = """
async def scenario(path):
    async with lending(path, spare) as one:
        worker = await one.ask()
        worker.socket.send(b"more")
        print(await worker.ended(), len(one.queues), attached())

run(scenario)
"""
    assert shown(script) == ["True 0 [False, False]"]


def run(scenario: Callable[[Path], Coroutine[None, None, None]], run_dir: Path) -> None:
    asyncio.run(scenario(run_dir / "queues"))


def test_what_is_no_tun_lends_none(run_dir):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def scenario(path: Path) -> None:
        with ours, theirs:
            async with lending(path, [theirs.fileno()]) as one:
                assert (await one.ask()).number == NEW
                assert (len(one.queues), one.changes) == (0, 0)

    run(scenario, run_dir)


@pytest.mark.parametrize("name", [b"", b"stranger", b"\xff" * 300], ids=["nameless", "unknown", "noise"])
def test_who_is_no_worker_is_not_answered(run_dir, name):
    async def scenario(path: Path) -> None:
        async with lending(path, []) as one:
            stranger = await one.ask(name=name)
            assert stranger.number is None

    run(scenario, run_dir)


def test_many_connections_that_say_nothing_keep_no_worker_out(run_dir):
    async def scenario(path: Path) -> None:
        async with lending(path, []) as one:
            silent = [await one.connect() for _ in range(300)]
            assert (await one.ask()).number == NEW
            assert sum(not each.has_ended() for each in silent) <= 32

    run(scenario, run_dir)


def test_the_socket_of_one_that_was_killed_is_in_nobodys_way(run_dir):
    async def scenario(path: Path) -> None:
        async with lending(path, []) as one:
            assert (await one.ask()).number == NEW

    with socket.socket(socket.AF_UNIX) as before:
        before.bind(str(run_dir / "queues"))
    run(scenario, run_dir)
