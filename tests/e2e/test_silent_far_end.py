"""A far end that falls silent in the middle of a connection."""

import signal
import sys

from tests.internet import Internet
from tests.internet.zones import ECHO_PORT, HOST_V4

CLIENT = f"""
import errno, socket, time
with socket.create_connection(("v4.test", {ECHO_PORT}), 5) as endpoint:
    endpoint.sendall(b"x")
    endpoint.recv(1)
    print("open", flush=True)
    while True:
        try:
            endpoint.sendall(b"x")
            time.sleep(0.1)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)
            break
"""


def test_it_is_given_up_after_the_idle_timeout_and_the_client_is_reset(internet: Internet) -> None:
    # Neither end closes, and the client speaks: only the host socket can know.
    silence = ["ip", "route", "add", "blackhole", f"{HOST_V4}/32"]
    with internet.sandbox({"tcp.connect_timeout": "1", "tcp.idle_timeout": "2"}) as sandbox:
        running = sandbox.start([sys.executable, "-c", CLIENT])
        try:
            assert running.stdout.readline() == b"open\n"
            internet.net.run(silence).ok()
            try:
                assert running.stdout.readline() in (b"ECONNRESET\n", b"EPIPE\n")
            finally:
                internet.net.run(["ip", "route", "del", "blackhole", f"{HOST_V4}/32"]).ok()
            assert sandbox.drops("connection-timeout") == 1
        finally:
            running.stop(signal.SIGTERM)
