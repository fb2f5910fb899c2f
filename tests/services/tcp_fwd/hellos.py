"""ClientHellos that other programs made, and ways to take them apart."""

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator


def python_hello(name: str | None, **options: object) -> bytes:
    """What Python's ssl (OpenSSL) sends first; options are attributes of the context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for key, value in options.items():
        setattr(context, key, value)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def hello_of(*command: str) -> bytes:
    """The first record that a program sends to a server on loopback; PORT in its words stands for the port."""
    assert shutil.which(command[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [word.replace("PORT", str(server.getsockname()[1])) for word in command]
        nothing = subprocess.DEVNULL
        program = subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing)
        try:
            server.settimeout(10)
            accepted, _ = server.accept()
            with accepted, accepted.makefile("rb") as stream:
                header = stream.read(5)
                return header + stream.read(int.from_bytes(header[3:5], "big"))
        finally:
            program.kill()
            program.wait()


def in_records(record: bytes, *cuts: int) -> bytes:
    """The handshake message of one record, cut at these places into records of their own."""
    message = record[5:]
    ends = [*cuts, len(message)]
    begins = [0, *cuts]
    return b"".join(
        record[:3] + (end - begin).to_bytes(2, "big") + message[begin:end]
        for begin, end in zip(begins, ends, strict=True)
    )


def vector(width: int, octets: bytes) -> bytes:
    """A vector of RFC 8446 section 3.4: its length in so many octets, then itself."""
    return len(octets).to_bytes(width, "big") + octets


def extension(kind: int, octets: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, octets)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    """The server_name extension (RFC 6066 section 3)."""
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def hello(*extensions: bytes, session: bytes = b"", padding: int = 0) -> bytes:
    """A ClientHello in one record, with these extensions; padding is RFC 7685's, in front of them."""
    front = extension(21, bytes(padding)) if padding else b""
    body = (
        b"\x03\x03"  # legacy_version
        + bytes(range(32))  # random
        + vector(1, session)
        + vector(2, bytes.fromhex("0a0a 1301 1302"))  # cipher suites, the first of them GREASE (RFC 8701)
        + vector(1, b"\0")  # no compression
        + (vector(2, front + b"".join(extensions)) if extensions or front else b"")
    )
    message = b"\x01" + vector(3, body)
    return b"\x16\x03\x01" + vector(2, message)


def pieces(octets: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(octets), size):
        yield octets[at : at + size]
