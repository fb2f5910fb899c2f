"""Telling the allocator to keep what was freed."""

import ctypes
import platform
import resource
import subprocess
import sys

import pytest

from netstack.runtime.memory import keep_freed_memory

# Buffers of the size of a batch, had and given back again and again, as a forwarder does.
PROGRAM = """
import resource, sys
from netstack.runtime.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(50):
    buffers = [bytearray(1 << 20) for _ in range(8)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(mode: str) -> int:
    outcome = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(outcome.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is glibc's")
def test_buffers_that_come_and_go_are_not_faulted_in_again() -> None:
    pages = 400 * (1 << 20) // resource.getpagesize()
    assert page_faults("do not keep") - page_faults("keep") > pages // 2


def test_where_the_library_has_no_such_setting_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(_: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    keep_freed_memory()


def test_collections_become_rare_but_do_not_end() -> None:
    program = """
import gc
from netstack.runtime.memory import collect_rarely
collect_rarely()
before = [generation["collections"] for generation in gc.get_stats()]
kept = [[] for _ in range(200_000)]
print([generation["collections"] - count for generation, count in zip(gc.get_stats(), before)])
print(gc.isenabled(), gc.get_freeze_count() > 0)
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    collections, state = outcome.stdout.splitlines()
    young, middle, old = eval(collections)
    assert 1 <= young + middle + old <= 10
    assert state == "True True"


def test_what_a_service_imports_first_keeps_collections_from_starting_until_they_are_to_be_rare() -> None:
    program = """
import gc
import netstack.runtime.uncollected
before = gc.get_stats()
kept = [[] for _ in range(200_000)]
print(gc.isenabled(), gc.get_stats() == before)
from netstack.runtime.memory import collect_rarely
collect_rarely()
print(gc.isenabled())
"""
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert outcome.stdout.split() == ["False", "True", "True"]
