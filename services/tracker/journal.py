"""The embedded store's memory: what a tracker that was killed told its clients is known to the next one.

A file in the instance's directory, which ends with the instance. Each change is appended before it is confirmed; what
the kernel has taken outlives this process. Times are CLOCK_MONOTONIC, so a file of another boot says nothing and is
replaced. A record that was cut off by the end of a process ends the reading.

To do a record again takes many times as long as to take over a lease of those that were kept together, and whoever
waits for the next process waits for that. So the file is written anew, beside the old one and some leases at a time,
as soon as a sixteenth of it are single records; and these bring the new one on, so that there are never many more.

    [format, boot id]                                          the first record
    ["kept", addresses, untils, names of each, [rule, client, chain]s, which of these is that of each, whens]
    ["names", names, address of each, or addresses]            behind all that are kept
    ["lease", addresses, until, name, rule, client, chain, when, alone]
    ["touch", addresses, until]
    ["gone", addresses]
"""

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgpack

from services.tracker.leases import Kept, Lease, Leases, LeasesFullError, Origin

_FORMAT: Final = "netstack leases 2"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # random(4)
_COMPACT_ABOVE: Final = 4 << 20  # octets
_GROWTH: Final = 16  # it may grow by one such part
_AT_ONCE: Final = 1024  # leases written in one step; 1 ms or so
_STEP_EVERY: Final = 16  # records

# What the fields of a record are, beginning with its kind.
_LEASE: Final = (str, tuple, float, str, str, bytes, tuple, float, bool)
_TOUCH: Final = (str, tuple, float)
_GONE: Final = (str, tuple)
_KEPT: Final = (str, tuple, tuple, tuple, tuple, tuple, tuple)
_COLUMNS: Final = (bytes, float, tuple, tuple, int, float)
_NAMES: Final = (str, tuple, tuple)

_log = logging.getLogger(__name__)

Record = Sequence[Any]
Part = TypeVar("Part")


class Journal:
    """The file. What cannot be written is said once, and is no reason to stop: only a restart would miss it."""

    def __init__(self, path: Path, *, compact_above: int = _COMPACT_ABOVE) -> None:
        self._path = path
        self._packer = msgpack.Packer(use_bin_type=True)
        self._compact_above = compact_above
        self._limit = compact_above
        self._file = -1
        self._size = 0
        self._appended = 0
        self._new = -1
        self._rest: Iterator[bytes] | None = None
        self._leases: Leases | None = None

    def open(self, leases: Leases, now: float) -> int:
        """Read what the last process left into `leases`, then be ready for more; how many are known from before."""
        collects = gc.isenabled()
        gc.disable()  # it would look at all that is read again and again, and nothing of it refers back
        try:
            self._size = self._read(leases, now)
            if self._size:
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
                # Or what is appended would stand behind a record that was cut off.
                os.ftruncate(self._file, self._size)
            if self._size == 0 or self._size > self._limit:
                self._begin(leases)
            while self._file < 0 <= self._new:
                self.step()
        except OSError as error:
            self._fail(error)
        finally:
            gc.freeze()
            if collects:
                gc.enable()
        self._leases = leases
        return len(leases)

    def learned(self, name: str, addresses: Sequence[bytes], until: float, origin: Origin) -> None:
        """These were leased."""
        self._append(_lease(addresses, until, name, origin))

    def touched(self, addresses: Sequence[bytes], until: float) -> None:
        """These were extended."""
        self._append(("touch", addresses, until))

    def gone(self, addresses: Sequence[bytes]) -> None:
        """These leases were ended before their time."""
        self._append(("gone", addresses))

    @property
    def is_writing_anew(self) -> bool:
        """Whether that is under way."""
        return self._rest is not None

    def step(self) -> None:
        """Some of the work of writing the file anew, where that is under way; call it now and then."""
        if self._rest is None:
            return
        try:
            octets = next(self._rest, b"")
            self._write(self._new, octets)
            if not octets:
                self._replace()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Leave the file to the next process."""
        for descriptor in (self._file, self._new):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._new = -1
        self._rest = None

    def _read(self, leases: Leases, now: float) -> int:
        """Do again what stands in the file; how many of its octets are records of this boot."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return 0
        whole = 0
        with file:
            unpacker = msgpack.Unpacker(file, raw=False, use_list=False, read_size=1 << 20, max_buffer_size=1 << 26)
            try:
                if next(unpacker, None) == (_FORMAT, _boot_id()):
                    whole = unpacker.tell()
                    for record in unpacker:
                        _apply(record, leases, now)
                        whole = unpacker.tell()
            except Exception as error:  # noqa: BLE001  (msgpack raises many kinds for octets that are none of its)
                _log.debug("%s ends with what is no record: %s", self._path, error)
        return whole

    def _append(self, record: Record) -> None:
        if self._file < 0:
            return
        octets = self._packer.pack(record)
        try:
            self._write(self._file, octets)
            if self._new >= 0:
                self._write(self._new, octets)
                self._appended += 1
                if self._appended % _STEP_EVERY == 0:
                    self.step()
            self._size += len(octets)
            if self._size > self._limit and self._new < 0 and self._leases is not None:
                self._begin(self._leases)
        except OSError as error:
            self._fail(error)

    def _write(self, descriptor: int, octets: bytes) -> None:
        written = os.write(descriptor, octets)
        if written < len(octets):
            raise OSError("no room")

    def _begin(self, leases: Leases) -> None:
        """Begin to write the file anew. What is appended meanwhile goes into both."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._new = os.open(self._path.with_suffix(".new"), flags, 0o600)
        self._write(self._new, self._packer.pack([_FORMAT, _boot_id()]))
        self._rest = self._whole(leases)

    def _whole(self, leases: Leases) -> Iterator[bytes]:
        """All of it as it is by now: what was revoked meanwhile stands in the new file already as gone."""
        for addresses in _parts(leases.addresses()):
            kept: dict[bytes, Lease] = {}
            lines = []
            for address in addresses:
                lease = leases.get(address)
                if lease is None:
                    continue
                if lease.clients is None:
                    kept[address] = lease
                    continue
                for name in lease.names:
                    for client, until in lease.clients.items():
                        origin = lease.origin._replace(client=client, alone=True)
                        lines.append(self._packer.pack(_lease([address], until, name, origin)))
            yield self._packer.pack(_kept(kept)) + b"".join(lines)
        for names in _parts(leases.names()):
            siblings = {name: known for name in names if (known := leases.siblings(name))}
            only = [known[0] if len(known) == 1 else known for known in siblings.values()]
            yield self._packer.pack(("names", list(siblings), only))

    def _replace(self) -> None:
        self._path.with_suffix(".new").replace(self._path)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._new, self._rest = self._new, -1, None
        self._size = os.fstat(self._file).st_size
        self._limit = self._size + max(self._compact_above, self._size // _GROWTH)

    def _fail(self, error: OSError) -> None:
        _log.warning(
            "%s cannot be written (%s): should the tracker be restarted, the leases of now are forgotten",
            *(self._path, error.strerror or error),
        )
        self.close()


def _lease(addresses: Sequence[bytes], until: float, name: str, origin: Origin) -> Record:
    return ("lease", addresses, until, name, origin.rule, origin.client, origin.chain, origin.when, origin.alone)


def _parts(whole: list[Part]) -> Iterator[list[Part]]:
    return (whole[at : at + _AT_ONCE] for at in range(0, len(whole), _AT_ONCE))


def _kept(leases: Mapping[bytes, Lease]) -> Record:
    numbers: dict[Record, int] = {}
    origins = [lease.origin for lease in leases.values()]
    which = [numbers.setdefault(origin[:3], len(numbers)) for origin in origins]
    untils = [lease.until for lease in leases.values()]
    names = [lease.names for lease in leases.values()]
    return ("kept", list(leases), untils, names, list(numbers), which, [origin.when for origin in origins])


def _apply(record: Any, leases: Leases, now: float) -> None:  # noqa: ANN401  (what a file holds may be anything)
    kinds = tuple(map(type, record)) if isinstance(record, tuple) else ()
    if kinds == _LEASE:
        _, addresses, until, name, rule, client, chain, when, alone = record
        if until > now:
            try:
                leases.learn(name, addresses, until - now, now, Origin(rule, client, chain, when, alone))
            except LeasesFullError:
                _log.debug("a lease from before finds no room")
    elif kinds == _KEPT:
        _, addresses, untils, names, origins, which, whens = record
        try:
            if not len(addresses) == len(untils) == len(names) == len(which) == len(whens):
                raise ValueError("columns of different lengths")
            if any({*map(type, column)} - {kind} for column, kind in zip(record[1:], _COLUMNS, strict=True)):
                raise ValueError("columns of other types")
            leases.restore(addresses, Kept(untils, names, list(map(origins.__getitem__, which)), whens))
        except LeasesFullError:
            _log.debug("leases from before find no room")
    elif kinds == _NAMES:
        leases.restore_names(record[1], record[2])
    elif kinds == _TOUCH:
        leases.extend(record[1], record[2], now)
    elif kinds == _GONE:
        for address in record[1]:
            leases.revoke(address, now)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
