"""DNS over HTTPS to an upstream: a real unbound, and servers that misbehave."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.dns_filter.upstreams.https import HttpsTransport
from services.dns_filter.upstreams.upstream import UpstreamError
from tests.services.dns_filter.messages import query, read, respond, texts

NAME = "doh.test"
WITHIN = 10.0  # seconds

needs_unbound = pytest.mark.skipif(shutil.which("unbound") is None, reason="no unbound: apt-get install unbound")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a CA (ca.pem) and a certificate for doh.test (cert.pem, key.pem)."""
    directory = tmp_path_factory.mktemp("tls")
    commands = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem",
        (
            f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={NAME} "
            f"-addext subjectAltName=DNS:{NAME} -keyout key.pem -out cert.csr"
        ),
        "x509 -req -in cert.csr -CA ca.pem -CAkey ca.key -days 2 -out cert.pem -copy_extensions copy",
    )
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    return directory


@pytest.fixture
def unbound(certificate: Path, tmp_path: Path, unused_port: int) -> Iterator[int]:
    """The port of an unbound that speaks DNS over HTTPS and knows one name."""
    configuration = tmp_path / "unbound.conf"
    configuration.write_text(f"""
server:
    directory: "{tmp_path}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    interface: 127.0.0.1@{unused_port}
    https-port: {unused_port}
    http-endpoint: "/dns-query"
    tls-service-key: "{certificate}/key.pem"
    tls-service-pem: "{certificate}/cert.pem"
    access-control: 127.0.0.0/8 allow
    module-config: "iterator"
    local-zone: "example.com." static
    local-data: "www.example.com. 60 A 198.18.1.1"
remote-control:
    control-enable: no
""")
    process = subprocess.Popen(["unbound", "-d", "-c", str(configuration)], stderr=subprocess.DEVNULL)
    try:
        yield unused_port
    finally:
        process.terminate()
        process.wait(WITHIN)


@pytest.fixture
def unused_port() -> int:
    async def find() -> int:
        server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        server.close()
        return port

    return asyncio.run(find())


@asynccontextmanager
async def asking(
    port: int, ca: Path, *, name: str = NAME, addresses: tuple[str, ...] = ("127.0.0.1",),
    headers: dict[str, str] | None = None,
) -> AsyncIterator[HttpsTransport]:  # fmt: skip
    transport = HttpsTransport(f"https://{name}:{port}/dns-query", list(addresses), str(ca), lambda: None, headers)
    await transport.prepare()
    try:
        yield transport
    finally:
        await transport.close()


async def until_up(port: int) -> None:
    async with asyncio.timeout(WITHIN):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


@needs_unbound
def test_questions_share_one_connection_to_the_bootstrap_address(unbound: int, certificate: Path) -> None:
    async def main() -> None:
        await until_up(unbound)
        async with asking(unbound, certificate / "ca.pem", addresses=("127.0.0.2", "127.0.0.1")) as transport:
            got = await asyncio.gather(*(transport.ask(query(), WITHIN) for _ in range(20)))
            assert {texts(octets)[0] for octets in got} == {"www.example.com. 60 A 198.18.1.1"}
            nothing = await transport.ask(query("nothing.example.com."), WITHIN)
            assert read(nothing).rcode().name == "NXDOMAIN"
            process = await asyncio.create_subprocess_exec(
                "ss", "-Htn", "state", "established", f"dport = :{unbound}", stdout=subprocess.PIPE
            )
            listed, _ = await process.communicate()
            assert len(listed.splitlines()) == 1

    asyncio.run(main())


@needs_unbound
def test_certificate_is_checked_against_the_name(unbound: int, certificate: Path) -> None:
    async def main() -> None:
        await until_up(unbound)
        async with asking(unbound, certificate / "ca.pem", name="other.test") as transport:
            with pytest.raises(UpstreamError, match=r"its certificate is not valid: .*other\.test"):
                await transport.ask(query(), WITHIN)

    asyncio.run(main())


@needs_unbound
def test_certificate_of_an_unknown_authority_is_refused(unbound: int) -> None:
    async def main() -> None:
        await until_up(unbound)
        transport = HttpsTransport(f"https://{NAME}:{unbound}/dns-query", ["127.0.0.1"], "", lambda: None)
        with pytest.raises(UpstreamError, match="its certificate is not valid"):
            await transport.ask(query(), WITHIN)
        await transport.close()

    asyncio.run(main())


def test_refused_port_is_an_error_at_once(unused_port: int, certificate: Path) -> None:
    async def main() -> None:
        async with asking(unused_port, certificate / "ca.pem") as transport:
            with pytest.raises(UpstreamError, match="Connection refused") as caught:
                await asyncio.wait_for(transport.ask(query(), 30.0), 5.0)
            assert not caught.value.silent

    asyncio.run(main())


def _http(status: str, body: bytes, content_type: str = "application/dns-message") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


GOOD = respond(b"\x00\x00" + query().question.join((bytes.fromhex("0100 0001 0000 0000 0000"), b"")))


@pytest.mark.parametrize(
    ("answer", "says", "silent"),
    [
        (_http("503 Service Unavailable", b""), "HTTP status 503", False),
        (_http("200 OK", b"<html>", "text/html"), "no DNS message", False),
        (_http("200 OK", b"hello"), "another question", False),
        (_http("200 OK", b"\0" * 70000), "more than 65535 octets", False),
        (b"rubbish\r\n\r\n", "rubbish|illegal", False),
        (b"HTTP/1.1 200 OK\r\n", "no answer within", True),
    ],
    ids=["an error", "a page", "no answer to the question", "too much", "no HTTP", "half of a header"],
)
def test_what_is_no_answer(certificate: Path, answer: bytes, says: str, silent: bool) -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        async with tls_server(serve, certificate) as port, asking(port, certificate / "ca.pem") as transport:
            with pytest.raises(UpstreamError, match=says) as caught:
                await transport.ask(query(), 1.0)
            assert caught.value.silent is silent

    asyncio.run(main())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_http_1_will_do_and_a_connection_that_was_closed_is_opened_anew(certificate: Path, address: str) -> None:
    async def main() -> None:
        served: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            served.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(_http("200 OK", GOOD))
            await writer.drain()
            writer.close()

        async with (
            tls_server(serve, certificate, address) as port,
            asking(port, certificate / "ca.pem", addresses=(address,), headers={"x-cd-host": "laptop"}) as transport,
        ):
            for _ in range(3):
                assert await transport.ask(query(), WITHIN) == GOOD
            assert len(served) == 3
            assert f"host: {NAME}:{port}\r\n".encode() in served[0].lower()
            assert b"x-cd-host: laptop\r\n" in served[0].lower()

    asyncio.run(main())


@asynccontextmanager
async def tls_server(serve: object, certificate: Path, address: str = "127.0.0.1") -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = await asyncio.start_server(serve, address, 0, ssl=context)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
