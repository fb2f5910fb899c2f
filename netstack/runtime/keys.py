"""The file of a host's secret key for the links between hosts: TOML with one key, for its owner alone."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from netstack.wire.curve import KEY_OCTETS, new_secret, public_of

_MODE: Final = 0o600
_TOO_OPEN: Final = 0o077
_MAX: Final = 4096  # octets of such a file


def generate(path: Path) -> bytes:
    """Make the file, with a fresh key; gives the public one. Raises OSError, FileExistsError too."""
    secret = new_secret()
    write(path, secret)
    return public_of(secret)


def write(path: Path, secret: bytes) -> None:
    """Make the file. Raises OSError, FileExistsError too."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(
            "# The secret key of this host for netstack's links between hosts. It stays here; other hosts get the\n"
            f"# public one, for links.peers or links.server_key: {public_of(secret).hex()}\n"
            f'secret = "{secret.hex()}"\n'
        )


def read(path: Path) -> bytes:
    """The secret key of KEY_OCTETS octets; raises ValueError, which says what is wrong and the remedy."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_MAX)
    except FileNotFoundError:
        raise ValueError(f"no such file; make it: netstack keys {path}") from None
    except OSError as error:
        raise ValueError(f"cannot be read by user {os.geteuid()} ({error.strerror}); it must be that user's") from None
    if mode & _TOO_OPEN:
        raise ValueError(f"others may read this secret (mode {mode:04o}); chmod 600 {path}")
    try:
        secret = bytes.fromhex(tomllib.loads(text.decode())["secret"])
    except (ValueError, KeyError, TypeError):
        secret = b""
    if len(secret) != KEY_OCTETS:
        # What it holds is never repeated: it may be a secret all the same.
        raise ValueError(f"holds no key; move it away and make one: netstack keys {path}")
    return secret
