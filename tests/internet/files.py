"""What the servers serve: certificates, and files whose octets are all worth checking."""

import functools
import hashlib
import os
import random
import subprocess
from pathlib import Path

MEBIBYTE = 1 << 20
_NAMES = (
    "www.test",
    "v4.test",
    "v6.test",
    "alias.test",
    "https.test",
    "dns.test",
    "ns.test",
    "offers.test",
    "plain.test",
)


def make_certificates(directory: Path, addresses: tuple[str, ...]) -> Path:
    """A certificate authority (ca.pem) and a server's certificate by it (server.pem, server.key); the former's path."""
    alternatives = [*(f"DNS:{name}" for name in _NAMES), *(f"IP:{address}" for address in addresses)]
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl(directory, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=small internet",
             "-days", "2", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl(directory, "req", "-x509", *new_key, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=test",
             "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE",
             "-addext", f"subjectAltName={','.join(alternatives)}")  # fmt: skip
    return directory / "ca.pem"


def make_file(path: Path, octets: int, start: int = 0) -> str:
    """A file in which no two mebibytes are alike and none repeats itself; its SHA-256.

    Each is a window into 4 MiB of random octets at an offset of its own, with its number in front: quick to make, and a
    lost, repeated or exchanged piece changes the sum. Files with different `start` differ.
    """
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for index, begin in enumerate(range(0, octets, MEBIBYTE), start):
            size = min(MEBIBYTE, octets - begin)
            offset = index * 7919 * 11 % (3 * MEBIBYTE)
            piece = index.to_bytes(8) + _random_octets()[offset : offset + size - 8]
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


@functools.cache
def _random_octets() -> bytes:
    return random.Random(1).randbytes(4 * MEBIBYTE)


def sha256(path: Path) -> str:
    """Of a file's octets."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def room(octets: int) -> Path | None:
    """A folder on a memory file system with that much room; None where there is none."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK):
        state = os.statvfs(memory)
        if state.f_bavail * state.f_frsize > octets:
            return memory
    return None


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=20)
