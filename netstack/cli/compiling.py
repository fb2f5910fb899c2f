"""Makes the compiled form of the services (netstack.cli.compiled) with mypyc: `python -m netstack.cli.compiling`.

Only the modules through which every packet and query goes are compiled, and those that read lists of a million names.
What costs little or gains little stays as it is: the messages are msgpack's work, and a class that extends one of C,
such as an exception, cannot be compiled.
"""

import compileall
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from netstack.cli.compiled import CODE, DIRECTORY, STAMP, choose, sources, stamp

FORWARDING: Final = (
    *(f"netstack/packet/{name}.py" for name in ("checksum", "flow", "icmp", "plain", "seqnum", "tcp", "vnet")),
    *(
        f"netstack/runtime/{name}.py"
        for name in (
            "counters", "leased_names", "queue", "refusals", "replica", "selector", "trace", "tunnel",
            "whitelist",
        )
    ),
    "netstack/wire/arena.py",
    *(
        f"services/tcp_fwd/{name}.py"
        for name in (
            "arrival", "challenge", "client_hello", "commands", "congestion", "connection", "control_block",
            "first_octets", "host", "keepalive", "limits", "namer", "naming", "output", "paths", "poller", "rack",
            "receiving", "request_head", "rtt", "scoreboard", "segment", "send_window", "sending", "server_name",
            "service", "session", "states", "terms", "timers", "timewait", "timing",
        )
    ),
)  # fmt: skip
"""What every packet goes through, and TCP; relative to the folder that holds both packages, as the others."""

ANSWERING: Final = (
    *(f"netstack/packet/{name}.py" for name in ("datagram", "ipv4", "ipv6", "udp")),
    *(
        f"services/udp_fwd/{name}.py"
        for name in (
            "addresses", "arrival", "echo", "echo_lane", "flows", "forwarder", "kinds", "lane", "outgoing", "reply",
            "service", "shares", "sockets", "train",
        )
    ),
    *(
        f"services/dns_filter/{name}.py"
        for name in (
            "answer", "cache", "canary", "leased", "leases", "message", "names", "policy", "queries", "query",
            "reading", "reply", "resolver", "service", "upstreams/udp",
        )
    ),
    *(
        f"services/dns_filter/lists/{name}.py"
        for name in ("builder", "lines", "lookup", "rules", "shape", "table")
    ),
)  # fmt: skip
"""UDP, echo and DNS."""

GROUPS: Final = {"forwarding": FORWARDING, "answering": ANSWERING}
"""Each becomes one shared object, inside which calls are those of C; two compilers can work at a time."""

MODULES: Final = FORWARDING + ANSWERING

_WORK: Final = ".making-"

_FLAGS: Final = ("-fvisibility=hidden", "-fno-plt")
"""Nothing is called from another shared object by name. Otherwise each call of one function of ours by another goes
through a table, so that it may be replaced, and none is made part of its caller.
"""

_SETUP: Final = """
import json
import sys
from mypyc.build import mypycify
from setuptools import setup

groups = json.loads(sys.argv[1])
options = ["--explicit-package-bases", "--ignore-missing-imports", "--no-color-output"]
setup(
    name="netstack-compiled",
    packages=[],
    ext_modules=mypycify(
        [*options, *(path for paths in groups.values() for path in paths)],
        opt_level="2", debug_level="0", separate=[(paths, name) for name, paths in groups.items()],
    ),
    script_args=["build_ext", "--inplace", "--parallel", str(len(groups))],
)
"""
"""In a folder of its own, without our pyproject.toml: an old setuptools refuses what it does not know there."""


class CannotCompileError(Exception):
    """Something is missing, or the compiler refused; the message says what, and the remedy."""


def missing() -> str:
    """What has to be installed first, as a sentence; empty where all is there."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(os.environ.get("CC", compiler).split()[0]) is None:
        return "there is no C compiler (Debian: apt-get install gcc python3-dev)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return f"there are no headers of {sys.executable} (Debian: apt-get install gcc python3-dev)"
    absent = [name for name in ("mypyc", "setuptools") if find_spec(name) is None]
    if absent:
        return f"{' and '.join(absent)} cannot be imported (pip install 'mypy[mypyc]')"
    return ""


def make(code: Path = CODE, directory: Path = DIRECTORY) -> None:
    """Make the directory anew; raises CannotCompileError, and then what was there before is there still."""
    if why := missing():
        raise CannotCompileError(why)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in directory.parent.glob(f"{_WORK}*"):
            shutil.rmtree(left)  # whoever made it was killed
        _make(code, directory)


def _make(code: Path, directory: Path) -> None:
    # Beside its place, so that it can be moved there in one step: nobody ever sees half of it.
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=directory.parent) as work:
        fresh = Path(work, "fresh")
        mark = stamp(code)
        for name in sources(code):
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(code / name, fresh / name)
        if stamp(fresh) != mark:
            raise CannotCompileError("the sources changed meanwhile; try again")
        _compile(fresh, Path(work))
        compileall.compile_dir(fresh, quiet=2, force=True, stripdir=work, prependdir=str(directory.parent))
        fresh.chmod(0o755)
        (fresh / STAMP).write_text(mark, encoding="ascii")
        with contextlib.suppress(FileNotFoundError):
            directory.rename(Path(work, "old"))
        fresh.rename(directory)


def _compile(fresh: Path, work: Path) -> None:
    (fresh / "setup.py").write_text(_SETUP, encoding="utf-8")
    flags = " ".join([*os.environ.get("CFLAGS", "").split(), *_FLAGS])
    environment = os.environ | {"MYPYPATH": str(fresh), "MYPY_CACHE_DIR": str(work / "cache"), "CFLAGS": flags}
    command = [sys.executable, "setup.py", json.dumps(GROUPS)]
    done = subprocess.run(command, cwd=fresh, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise CannotCompileError("\n".join(["the compiler refused:", *said[-30:]]))
    shutil.rmtree(fresh / "build")
    (fresh / "setup.py").unlink()


def main(arguments: list[str]) -> int:
    """Make it unless it is there. With --if-possible, what is missing is told and no error."""
    if choose().compiled:
        return 0
    sys.stderr.write("compiling the packet path: a minute or two\n")
    try:
        make()
    except CannotCompileError as error:
        sys.stderr.write(f"the packet path is not compiled: {error}\n")
        return 0 if "--if-possible" in arguments and missing() else 1
    sys.stderr.write(f"compiled: {DIRECTORY}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
