"""Compiled lists on disk: made by one process, mapped by all.

    DIRECTORY/GENERATION/allow.names allow.index allow.marks deny.names ... report.json

A generation is named after what it was made of. It appears whole (rename(2)), so whoever finds it may use it, and what
has been mapped stays usable when it is removed. A lock makes one process compile while the others wait for it.
"""

import fcntl
import hashlib
import mmap
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from services.dns_filter.lists.builder import ALLOW, DENY, EXCEPT, KINDS, Builder
from services.dns_filter.lists.lookup import Lists, Names
from services.dns_filter.lists.table import Table

MAX_OCTETS: Final = 128 << 20  # of one list; four times what a million hosts lines take

_FORM: Final = 3  # of what is written here; counts into the name of a generation
_CHUNK: Final = 1 << 20  # octets
_REPORT: Final = "report.json"
_LOCK: Final = "lock"


class Source(msgspec.Struct, frozen=True):
    """A list: the key that names it, what stands there, and the file that has its content."""

    key: str
    text: str
    path: str

    @property
    def allows(self) -> bool:
        """Whether it is one of allow.lists."""
        return self.key.startswith("allow.")


class Found(msgspec.Struct, frozen=True):
    """What was found in one list."""

    entries: int
    ignored: int
    options: int
    errors: int
    first_errors: list[tuple[int, str]]
    failure: str = ""
    """Why it could not be read."""


class Work(msgspec.Struct, frozen=True):
    """What to compile, and where to."""

    directory: str
    generation: str
    sources: list[Source]


Stamp = list[tuple[int, int, int] | None]
"""Of each list's file: time of change (ns), octets, inode; None where there is none."""


def stamp(sources: Sequence[Source]) -> Stamp:
    """What tells that a file has changed."""
    found: Stamp = []
    for source in sources:
        try:
            status = Path(source.path).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return found


def generation(sources: Sequence[Source], state: Stamp) -> str:
    """The name of what is made of these lists in this state."""
    octets = msgspec.json.encode((_FORM, [(source.key, source.text, source.path) for source in sources], state))
    return hashlib.sha256(octets).hexdigest()[:32]


def compile_lists(work: Work) -> None:
    """Make a generation unless it is there, and remove all others; raises OSError."""
    directory = Path(work.directory)
    wanted = directory / work.generation
    with (directory / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.is_dir():
            # Those that were given up, killed or replaced. Whoever has mapped one keeps it.
            for path in directory.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
            making = directory / f"{work.generation}.new"
            making.mkdir(mode=0o700)
            _write(making, work.sources)
            making.rename(wanted)


def open_lists(directory: Path, sources: Sequence[Source]) -> tuple[Lists, list[Found]]:
    """Map a generation; raises OSError or ValueError where it is not whole."""
    found = msgspec.json.decode((directory / _REPORT).read_bytes(), type=list[Found])
    allow, deny, exceptions = (_open(directory, kind) for kind in (ALLOW, DENY, EXCEPT))
    labels = tuple(f"{source.key} {_short(source.text)}" for source in sources)
    return Lists(labels, allow, deny, exceptions), found


def _write(directory: Path, sources: Sequence[Source]) -> None:
    builder = Builder()
    report: list[Found] = []
    for number, source in enumerate(sources):
        failure = ""
        try:
            tally = builder.read(_chunks(Path(source.path)), number, allows=source.allows)
        except OSError as error:
            failure = error.strerror or str(error)
            tally = builder.read((), number, allows=source.allows)
        report.append(Found(tally.entries, tally.ignored, tally.options, tally.errors, tally.first_errors, failure))
    for kind in KINDS:
        with (directory / f"{kind}.names").open("wb") as file:
            built = builder.build(kind, file.write)
        if built is not None:
            (directory / f"{kind}.index").write_bytes(built.starts)
            (directory / f"{kind}.marks").write_bytes(built.marks)
    (directory / _REPORT).write_bytes(msgspec.json.encode(report))


def _chunks(path: Path) -> Iterator[bytes]:
    """A file in pieces of whole lines; raises OSError."""
    read = 0
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            piece += file.readline(_CHUNK)
            read += len(piece)
            if read > MAX_OCTETS:
                raise OSError(f"more than {MAX_OCTETS >> 20} MiB")
            yield piece


def _open(directory: Path, kind: str) -> Names | None:
    path = directory / f"{kind}.index"
    if not path.exists():
        return None
    index = memoryview(_map(path)).cast("I")
    names = _map(path.with_suffix(".names"))
    if index[-1] != len(names):
        raise ValueError(f"{path} is about {index[-1]} octets, not {len(names)}")
    return Names(Table(index, memoryview(_map(path.with_suffix(".marks"))), names))


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _short(text: str) -> str:
    """So that an extended error has room for the rest: the end of a path or URL tells more than its beginning."""
    return text if len(text) <= 64 else f"...{text[-61:]}"
