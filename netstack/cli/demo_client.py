"""A small client for `netstack demo`: fetches where there is no curl, and knocks on a QUIC port, which curl cannot.

python -m netstack.cli.demo_client fetch URL [-4|-6]
python -m netstack.cli.demo_client quic NAME
"""

import errno
import http.client
import os
import socket
import sys
import time
from typing import Final
from urllib.parse import urlsplit

_TIMEOUT: Final = 8.0  # seconds
_CANNOT_CONNECT: Final = 7  # curl's exit code for it
# A QUIC long header of version 1, type Initial (RFC 9000 section 17.2.2), padded to the 1,200 octets of section 14.1.
_INITIAL: Final = bytes.fromhex("c0 00000001 08 0102030405060708 00 00 4496").ljust(1200, b"\0")
_FAMILIES: Final = {"-4": socket.AF_INET, "-6": socket.AF_INET6}


def fetch(url: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> int:
    """Print the body, the status and who sent it; curl's exit code."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    started = time.monotonic()
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
        connection = http.client.HTTPConnection(str(address[0]), port, timeout=_TIMEOUT)
        connection.request("GET", parts.path or "/", headers={"Host": parts.netloc})
        response = connection.getresponse()
    except OSError as error:
        _say(f"cannot connect to {host} port {port} after {_elapsed(started)}: {_name(error)}")
        return _CANNOT_CONNECT
    _say(f"{response.read().decode()}{response.status} from {address[0]}")
    return 0


def quic(name: str) -> int:
    """Send the first packet of QUIC and print what comes of it."""
    family, kind, _, _, address = socket.getaddrinfo(name, 443, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as endpoint:
        endpoint.settimeout(_TIMEOUT)
        endpoint.connect(address)
        started = time.monotonic()
        try:
            endpoint.send(_INITIAL)
            outcome = f"answered with {len(endpoint.recv(65535))} octets"
        except OSError as error:
            outcome = _name(error)
        _say(f"QUIC Initial to {name} ({address[0]}) port 443, after {_elapsed(started)}: {outcome}")
    return 0 if outcome.startswith("answered") else 1


def _elapsed(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.1f} ms"


def _name(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    code = error.errno or 0
    return f"{errno.errorcode.get(code, type(error).__name__)} ({os.strerror(code) if code > 0 else error})"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(words: list[str]) -> int:
    """Do what the words say."""
    match words:
        case ["fetch", url]:
            return fetch(url)
        case ["fetch", url, ("-4" | "-6") as option]:
            return fetch(url, _FAMILIES[option])
        case ["quic", name]:
            return quic(name)
    sys.stderr.write(f"usage:\n{(__doc__ or '').partition(chr(10) * 2)[2]}")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
