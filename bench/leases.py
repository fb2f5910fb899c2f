"""`python -m bench.leases`: what many leases cost: memory, a look-up, a start, and for how long anything else waits.

The tracker with its embedded store, the tracker on a redis-server of our own, and a forwarder's replica are each
measured in a process of their own, the start in another. Each address has a name of its own. The table goes to stdout.
"wait" is the longest time for which the event loop did nothing else meanwhile. 0 ok, 1 if a measurement failed.

Example: .venv/bin/python -m bench.leases --count 1000000
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.report import aligned
from netstack.runtime.memory import collect_rarely
from netstack.runtime.replica import Replica
from services.tracker.journal import Journal
from services.tracker.leases import Origin
from services.tracker.memory import MemoryStore
from services.tracker.redis_server import RedisServer
from services.tracker.redis_store import RedisStore
from services.tracker.store import Store

_SECONDS: Final = 3600.0
_AT_ONCE: Final = 256  # learned in one go
_SWEPT: Final = 4096  # looked at each time, as by the services
_LOOKED_UP: Final = 200_000
_TICK: Final = 0.001  # seconds

Figures = dict[str, str]


def _address(number: int) -> bytes:
    return bytes([198]) + number.to_bytes(3, "big")


def _name(number: int) -> str:
    return f"www{number}.site{number % 5000}.example"


def _resident() -> float:
    """Mebibytes of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / (1 << 20)


def _look_up(allowed: Callable[[bytes], object], count: int) -> str:
    addresses = [_address(number * 7919 % count) for number in range(_LOOKED_UP)]
    began = time.perf_counter()
    for address in addresses:
        allowed(address)
    return f"{(time.perf_counter() - began) / _LOOKED_UP * 1e6:.2f} us"


class _Waiting:
    """The longest time for which the loop did not come round."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self.longest = max(self.longest, now - self._last - _TICK)
        self._last = now
        self._timer = self._loop.call_later(_TICK, self._tick)

    def end(self) -> str:
        self._timer.cancel()
        return f"{max(self.longest, self._loop.time() - self._last - _TICK) * 1000:.0f} ms"


async def _fill(store: Store, count: int) -> None:
    origin = Origin("answer", bytes([10, 0, 0, 2]), (), time.time())
    for at in range(0, count, _AT_ONCE):
        numbers = range(at, min(at + _AT_ONCE, count))
        await asyncio.gather(*(store.learn(_name(n), [_address(n)], _SECONDS, origin) for n in numbers))
        await asyncio.sleep(0)


async def _measure_filling(store: Store, count: int) -> Figures:
    await store.open()
    before, waiting, began = _resident(), _Waiting(), time.perf_counter()
    await _fill(store, count)
    each = (time.perf_counter() - began) / count
    figures = {
        "memory": f"{_resident() - before:.0f} MiB",
        "learn": f"{each * 1e6:.0f} us",
        "wait, learning": waiting.end(),
        "look-up": _look_up(store.live, count),
    }
    await store.close()
    return figures


async def _measure_start(store: Store, count: int) -> Figures:
    """Until every lease is known."""
    waiting, began = _Waiting(), time.perf_counter()
    await asyncio.sleep(0.01)
    await store.open()
    opened = time.perf_counter() - began
    while len(store.leases) < count:  # noqa: ASYNC110 - a store does not say when it has read all of it
        await asyncio.sleep(0.01)
    figures = {
        "open": f"{opened:.1f} s",
        "start": f"{time.perf_counter() - began:.1f} s",
        "wait at start": waiting.end(),
    }
    await store.close()
    return figures


async def _measure_replica(count: int) -> Figures:
    clock = asyncio.get_running_loop().time
    replica = Replica()
    before, began = _resident(), time.perf_counter()
    for at in range(0, count, _AT_ONCE):
        replica.lease([_address(n) for n in range(at, min(at + _AT_ONCE, count))], _SECONDS, clock())
    filled = time.perf_counter() - began
    figures = {
        "memory": f"{_resident() - before:.0f} MiB",
        "learn": f"{filled / count * 1e6:.2f} us",
        "start": f"{filled:.1f} s",
        "look-up": _look_up(lambda address: replica.allows((b"", address, 443, 6), clock()), count),
    }
    waiting = _Waiting()
    for _ in range(2 * count // _SWEPT):
        await asyncio.sleep(0)
        replica.expire(clock(), _SWEPT)
    figures["wait, old ones sought"] = waiting.end()
    return figures


def _memory_store(folder: Path) -> Store:
    return MemoryStore(asyncio.get_running_loop().time, Journal(folder / "leases"))


def _redis_store(folder: Path) -> Store:
    server = RedisServer(f"unix://{folder}/redis.sock")
    return RedisStore(server, asyncio.get_running_loop().time, _report)


def _report(about: str, what: str | None) -> None:
    if what is not None:
        print(about, what, file=sys.stderr)


_STORES: Final = {"embedded": _memory_store, "redis": _redis_store}


async def _one(what: str, folder: Path, count: int) -> Figures:
    kind, _, step = what.partition("-")
    if kind == "replica":
        return await _measure_replica(count)
    measure: Callable[[Store, int], Awaitable[Figures]] = _measure_start if step == "start" else _measure_filling
    return await measure(_STORES[kind](folder), count)


def _in_its_own_process(what: str, folder: Path, count: int) -> Figures:
    command = [sys.executable, "-m", "bench.leases", "--count", str(count), "--only", what, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def _redis(folder: Path) -> "subprocess.Popen[str]":
    options = ["--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", "", "--dir", str(folder)]
    redis = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE, text=True)
    assert redis.stdout is not None
    while "eady to accept" not in redis.stdout.readline():
        pass
    return redis


def _redis_memory(folder: Path) -> str:
    said = subprocess.run(
        ["redis-cli", "-s", f"{folder}/redis.sock", "info", "memory"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    used = next(line for line in said.splitlines() if line.startswith("used_memory:"))
    return f"{int(used.partition(':')[2]) / (1 << 20):.0f} MiB"


def main() -> int:
    """Measure as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m bench.leases", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="leases")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        collect_rarely()  # as services do
        print(json.dumps(asyncio.run(_one(options.only, options.folder, options.count))))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="netstack-"))
    redis = _redis(folder)
    try:
        results: dict[str, Figures] = {}
        for kind in _STORES:
            results[f"tracker, {kind}"] = _in_its_own_process(kind, folder, options.count)
            results[f"tracker, {kind}"] |= _in_its_own_process(f"{kind}-start", folder, options.count)
        results["tracker, redis"]["memory of Redis"] = _redis_memory(folder)
        results["replica"] = _in_its_own_process("replica", folder, options.count)
    except subprocess.CalledProcessError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        redis.kill()
        redis.wait()
        shutil.rmtree(folder)
    rows = list(dict.fromkeys(row for figures in results.values() for row in figures))
    cells = [[row, *(figures.get(row, "") for figures in results.values())] for row in rows]
    print(aligned([[f"{options.count} leases", *results], *cells]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
