"""The embedded store's memory: what a tracker that was killed told its clients is known to the next one.

A file in the instance's directory, which ends with the instance. Each change is appended before it is confirmed; what
the kernel has taken outlives this process. When the file has grown to several times what is needed, it is written anew
beside the old one, some leases at a time, and then replaces it. Times are CLOCK_MONOTONIC, so a file of another boot
says nothing and is replaced. A record that was cut off by the end of a process ends the reading.

    [format, boot id]                                          the first record
    ["lease", addresses, until, name, rule, client, chain, when, alone]
    ["touch", addresses, until]
    ["gone", addresses]
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgpack

from services.tracker.leases import Leases, LeasesFullError, Origin

_FORMAT: Final = "netstack leases 1"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # random(4)
_COMPACT_ABOVE: Final = 4 << 20  # octets
_GROWTH: Final = 4  # times what it had when it was written anew
_AT_ONCE: Final = 2048  # leases written in one step; 5 ms or so

# What the fields of a record are, beginning with its kind.
_LEASE: Final = (str, list, float, str, str, bytes, list, float, bool)
_TOUCH: Final = (str, list, float)
_GONE: Final = (str, list)

_log = logging.getLogger(__name__)

Record = Sequence[Any]


class Journal:
    """The file. What cannot be written is said once, and is no reason to stop: only a restart would miss it."""

    def __init__(self, path: Path, *, compact_above: int = _COMPACT_ABOVE) -> None:
        self._path = path
        self._packer = msgpack.Packer(use_bin_type=True)
        self._compact_above = compact_above
        self._limit = compact_above
        self._file = -1
        self._size = 0
        self._new = -1
        self._rest: Iterator[bytes] | None = None
        self._leases: Leases | None = None

    def open(self, leases: Leases, now: float) -> int:
        """Read what the last process left into `leases`, then be ready for more; how many are known from before."""
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
            unpacker = msgpack.Unpacker(file, raw=False, max_buffer_size=1 << 26)
            try:
                if next(unpacker, None) == [_FORMAT, _boot_id()]:
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
        known = leases.addresses()
        for at in range(0, len(known), _AT_ONCE):
            # As they are by now: one that was revoked meanwhile stands in the new file already as gone.
            lines = []
            for address in known[at : at + _AT_ONCE]:
                lease = leases.get(address)
                if lease is None:
                    continue
                for name in lease.names:
                    for client, until in (lease.clients or {lease.origin.client: lease.until}).items():
                        origin = lease.origin._replace(client=client, alone=lease.clients is not None)
                        lines.append(self._packer.pack(_lease([address], until, name, origin)))
            yield b"".join(lines) or self._packer.pack(("gone", []))

    def _replace(self) -> None:
        self._path.with_suffix(".new").replace(self._path)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._new, self._rest = self._new, -1, None
        self._size = os.fstat(self._file).st_size
        self._limit = max(self._compact_above, _GROWTH * self._size)

    def _fail(self, error: OSError) -> None:
        _log.warning(
            "%s cannot be written (%s): should the tracker be restarted, the leases of now are forgotten",
            *(self._path, error.strerror or error),
        )
        self.close()


def _lease(addresses: Sequence[bytes], until: float, name: str, origin: Origin) -> Record:
    return ("lease", addresses, until, name, origin.rule, origin.client, origin.chain, origin.when, origin.alone)


def _apply(record: Any, leases: Leases, now: float) -> None:  # noqa: ANN401  (what a file holds may be anything)
    kinds = tuple(map(type, record)) if isinstance(record, list) else ()
    if kinds == _LEASE:
        _, addresses, until, name, rule, client, chain, when, alone = record
        if until > now:
            try:
                leases.learn(name, addresses, until - now, now, Origin(rule, client, tuple(chain), when, alone))
            except LeasesFullError:
                _log.debug("a lease from before finds no room")
    elif kinds == _TOUCH:
        leases.extend(record[1], record[2], now)
    elif kinds == _GONE:
        for address in record[1]:
            leases.revoke(address, now)


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
