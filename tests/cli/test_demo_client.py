"""The demo's client says what came of it, and ends with curl's exit codes."""

import re
import socket
import threading
from collections.abc import Iterator

import pytest

from netstack.cli.demo_client import main

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


@pytest.fixture
def server() -> Iterator[str]:
    """A web server that answers one request; its host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536).startswith(b"GET /page HTTP/1.1\r\n")
                connection.sendall(RESPONSE)

        thread = threading.Thread(target=serve)
        thread.start()
        yield "{}:{}".format(*listener.getsockname())
        thread.join()


@pytest.fixture
def nobody() -> int:
    """A port where nobody listens."""
    with socket.socket() as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        port: int = endpoint.getsockname()[1]
    return port


def test_page_is_printed_with_its_status_and_address(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", f"http://{server}/page", "-4"]) == 0
    assert capsys.readouterr().out == "hello\n200 from 127.0.0.1\n"


def test_refusal_is_told_with_its_time(nobody: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", f"http://127.0.0.1:{nobody}/"]) == 7
    said = capsys.readouterr().out
    assert re.fullmatch(rf"cannot connect to 127\.0\.0\.1 port {nobody} after [0-9.]+ ms: ECONNREFUSED \(.*\)\n", said)


def test_quic_that_is_refused_is_told_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quic", "127.0.0.1"]) == 1
    said = capsys.readouterr().out
    assert re.fullmatch(r"QUIC Initial to 127\.0\.0\.1 .*, after [0-9.]+ ms: ECONNREFUSED \(.*\)\n", said)


@pytest.mark.parametrize("words", [[], ["fetch"], ["quic"], ["fetch", "http://x/", "-5"]])
def test_other_words_are_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "demo_client fetch URL" in capsys.readouterr().err
