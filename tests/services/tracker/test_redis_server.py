"""Getting into a real Redis: passwords, TLS, permissions, and what it may not be."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.tracker.redis_scripts import ALL
from services.tracker.redis_server import DOWN, RedisServer, close, redacted
from tests.services.tracker.redis_server import RedisServer as RealServer


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="netstack-"))
    yield path
    shutil.rmtree(path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trouble(server: RedisServer) -> str:
    """Why it cannot be used; empty where it can."""

    async def main() -> str:
        try:
            client = await server.connect(ALL)
        except DOWN as error:
            return server.explain(error)
        try:
            assert await client.ping()
        finally:
            await close(client)
        return ""

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://user:secret@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://:se@cret@redis.example/1?ssl_cert_reqs=none", "rediss://redis.example/1"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock"),
        ("unix://user:secret@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_what_a_log_may_show_of_the_url(url: str, shown: str) -> None:
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (":secret@", ""),
        ("default:secret@", ""),
        ("", "the user and password stand in whitelist.store: redis://USER:PASSWORD@HOST"),
        (":wrong@", "the user and password stand in whitelist.store: redis://USER:PASSWORD@HOST"),
        ("nobody:secret@", "the user and password stand in whitelist.store: redis://USER:PASSWORD@HOST"),
    ],
    ids=["the password", "with the user", "none", "a wrong one", "a wrong user"],
)
def test_a_password(redis: RealServer, user: str, said: str) -> None:
    redis.ask("CONFIG", "SET", "requirepass", "secret")
    why = trouble(RedisServer(f"unix://{user}{redis.path}"))
    assert said in why
    assert bool(why) is bool(said)


def test_a_user_with_few_rights_is_enough_and_with_fewer_is_told_what_it_needs(redis: RealServer) -> None:
    keys = ["~netstack:*", "resetchannels", "&netstack:*"]
    rights = [*keys, "+@read", "+@write", "+@scripting", "+@pubsub", "+ping", "+info"]
    redis.ask("ACL", "SETUSER", "tracker", "on", ">secret", *rights)
    server = RedisServer(f"unix://tracker:secret@{redis.path}")
    assert trouble(server) == ""
    redis.ask("ACL", "SETUSER", "tracker", "-@scripting", "-script", "-script|load")
    assert "its user needs: ~netstack:* &netstack:* +@read" in trouble(server)


def certificates(folder: Path) -> None:
    """A CA, and a server's certificate that it signed for 127.0.0.1."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-subj")
    openssl(*new, "/CN=Test CA", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(*new, "/CN=redis", "-keyout", "redis.key", "-out", "redis.csr")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ("x509", "-req", "-in", "redis.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(*sign, "-extfile", "san", "-out", "redis.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl")
def test_tls(folder: Path) -> None:
    certificates(folder)
    port = free_port()
    real = RealServer(folder)
    try:
        real.start(
            *("--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no"),
            *("--tls-cert-file", "redis.pem", "--tls-key-file", "redis.key", "--tls-ca-cert-file", "ca.pem"),
        )
        url = f"rediss://127.0.0.1:{port}/0"
        assert trouble(RedisServer(url, tls_ca=str(folder / "ca.pem"))) == ""
        assert "whitelist.tls_ca names the file of the CA" in trouble(RedisServer(url))
        assert trouble(RedisServer(url.replace("rediss:", "redis:"))) != "", "not in the clear"
        assert trouble(RedisServer(url.replace("127.0.0.1", "localhost"), tls_ca=str(folder / "ca.pem"))) != ""
    finally:
        real.kill()


def test_a_cluster_and_a_sentinel_are_refused_for_what_they_are(folder: Path) -> None:
    real = RealServer(folder)
    try:
        real.start("--cluster-enabled", "yes")
        assert "it is a Redis Cluster, which is not supported; name a single server" in trouble(RedisServer(real.url))
    finally:
        real.kill()
    port = free_port()
    (folder / "sentinel.conf").write_text(f"port {port}\nbind 127.0.0.1\n")
    sentinel = subprocess.Popen(
        ["redis-server", str(folder / "sentinel.conf"), "--sentinel"], stdout=subprocess.DEVNULL, cwd=folder
    )
    try:
        server = RedisServer(f"redis://127.0.0.1:{port}")
        while "Error 111" in (said := trouble(server)):
            pass
        assert "it is a Redis Sentinel, which is not supported" in said
    finally:
        sentinel.kill()
        sentinel.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("closed", ["socket", "directory"])
def test_a_socket_that_this_user_may_not_enter_is_said_with_the_remedy(redis: RealServer, closed: str) -> None:
    redis.path.parent.chmod(0o755 if closed == "socket" else 0o700)
    redis.path.chmod(0o700 if closed == "socket" else 0o777)
    os.seteuid(65534)
    try:
        said = trouble(RedisServer(redis.url))
    finally:
        os.seteuid(0)
    assert "user nobody must be let in: set unixsocketperm 777 in redis.conf" in said
