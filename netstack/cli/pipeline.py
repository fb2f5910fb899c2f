"""What `exec` and `up` do alike before the services start: how loudly they speak, and the files they find."""

import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from netstack.cli import compiled, roster, rundir
from netstack.cli.account import Account, choose
from netstack.cli.options import Common
from netstack.cli.process import Launch
from netstack.runtime import keys
from netstack.runtime.config import Config, Log
from netstack.runtime.links import curve_of
from netstack.runtime.load import dump
from netstack.runtime.values import CACHE_DIRECTORY

KEY_FILE: Final = "links.key"
"""In an instance's directory: the services' own copy of the secret key."""

_log = logging.getLogger("netstack.supervisor")

_LEVELS: Final = {1: "info", 2: "debug"}  # by the number of -v


def speak(config: Config, common: Common, unless_asked: str) -> Config:
    """The configuration with the level of messages that -q and -v ask for, or `unless_asked` where nothing was said."""
    if common.quiet:
        level = "error"
    elif common.verbose:
        level = _LEVELS[min(common.verbose, 2)]
    else:
        level = unless_asked if config.log.level == Log().level else config.log.level
    changed = msgspec.structs.replace(config.log, level=level)
    return msgspec.structs.replace(config, log=changed)


def prepare_run_dir(common: Common) -> Path:
    """The run directory, made where it is missing, without what killed instances left in it."""
    from netstack.cli.named import recover  # noqa: PLC0415 - only what starts something needs it

    run_dir = (common.run_dir or rundir.default_run_dir(os.geteuid(), os.environ)).absolute()
    # The services of root run as another user, who has to pass through.
    rundir.prepare(run_dir, 0o755 if os.geteuid() == 0 else 0o700)
    rundir.recover(run_dir, recover)
    return run_dir


def account_for(config: Config, run_dir: Path) -> Account:
    """As whom the services run, given what they have to read.

    A Unix socket of Redis has to let that user in; it is not looked at here, since Redis may come later.
    """
    ours = (config.dns.tls_ca, config.lists.tls_ca, config.whitelist.tls_ca)
    return choose(run_dir, [Path(path) for path in ours if path])


def secret_of(config: Config) -> bytes:
    """This host's secret key for links between hosts; b"" for none. Raises ConfigError where it cannot be read."""
    curve = curve_of(config)
    return curve.secret if curve is not None else b""


def furnish(
    directory: Path, config: Config, account: Account, suffix: str = "", secret: bytes = b""
) -> tuple[Launch, socket.socket]:
    """Put the effective configuration and the socket for readiness where services find them, and make them theirs.

    `secret` is the key of links.key_file, which they get as a file of their own: the user that they are may be none who
    may read the other.
    """
    given = []
    if secret:
        given = [directory / f"{KEY_FILE}{suffix}"]
        given[0].unlink(missing_ok=True)
        keys.write(given[0], secret)
        links = msgspec.structs.replace(config.links, key_file=str(given[0]))
        config = msgspec.structs.replace(config, links=links)
    path = directory / f"config{suffix}.toml"
    path.write_text(dump(config), encoding="utf-8")
    notify_path = directory / f"notify{suffix}"
    notify_path.unlink(missing_ok=True)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(notify_path))
    if account.uid is not None and account.gid is not None:
        _make_cache(config, account.uid, account.gid)
        for each in (*given, path, notify_path, directory):
            os.chown(each, account.uid, account.gid)
    code = compiled.choose()
    if code.stale:
        _log.info("the compiled services are not of these sources, which run instead: see `make fast`")
    launch = Launch(
        run_dir=directory.parent,
        instance=directory.name,
        config=path,
        notify=notify_path,
        roster=directory / f"{roster.PREFIX}{suffix}.json",
        account=account,
        environment=os.environ,
        code=code,
    )
    return launch, notify


def _make_cache(config: Config, uid: int, gid: int) -> None:
    """The folder for fetched lists, which that user could not make; one that is there already is left as it is."""
    fetched = any("://" in text for text in (*config.allow.lists, *config.deny.lists))
    if fetched and not config.lists.cache:
        with suppress(OSError):  # the service says where it keeps them instead
            Path(CACHE_DIRECTORY).mkdir(mode=0o700)
            os.chown(CACHE_DIRECTORY, uid, gid)
