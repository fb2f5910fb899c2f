"""The compiled form of the services: where it is, and whether it is of the sources that this process runs from.

It is a copy of both packages in which the modules of the packet path are shared objects too, in a directory of the
environment (netstack.cli.compiling makes it). It is never beside the sources, where a shared object would hide what was
edited since; and it is used only where its stamp, a hash of every source and of the interpreter's ABI, is that of the
sources here. Whoever edits a file has the sources run until the next `make fast`.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

import netstack

CODE: Final = Path(netstack.__file__).parent.parent
"""What this process runs from."""

DIRECTORY: Final = Path(sys.prefix) / "share" / "netstack" / "compiled"

PACKAGES: Final = ("netstack", "services")
STAMP: Final = "stamp"
"""The file in the directory that holds the stamp."""


@dataclass(frozen=True)
class Choice:
    """What services are started from."""

    code: Path
    """To be put on their path."""
    compiled: bool
    stale: bool = False
    """There is a compiled form, of other sources or for another interpreter."""


SOURCES: Final = Choice(CODE, compiled=False)


def sources(code: Path) -> list[str]:
    """Every module below a folder that holds the packages, relative to it, in order."""
    found = []
    for package in PACKAGES:
        for folder, folders, files in os.walk(code / package):
            folders[:] = [name for name in folders if name != "__pycache__"]
            below = os.path.relpath(folder, code)
            found += [f"{below}/{name}" for name in files if name.endswith(".py")]
    return sorted(found)


def stamp(code: Path) -> str:
    """The hash of the sources and of what the interpreter loads. Some 250 files: 12 ms of CPU."""
    total = hashlib.blake2b(EXTENSION_SUFFIXES[0].encode(), digest_size=32)
    for name in sources(code):
        content = (code / name).read_bytes()
        total.update(f"\0{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def choose(code: Path = CODE, directory: Path = DIRECTORY) -> Choice:
    """The compiled form where it is there and of these sources, else the sources."""
    try:
        made_of = (directory / STAMP).read_text(encoding="ascii")
    except (OSError, ValueError):
        return Choice(code, compiled=False)
    if made_of == stamp(code):
        return Choice(directory, compiled=True)
    return Choice(code, compiled=False, stale=True)
