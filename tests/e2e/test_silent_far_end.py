"""A far end that falls silent in the middle of a connection."""

import signal
import sys

from tests.internet import Internet
from tests.internet.zones import ECHO_PORT, HOST_V4, HOST_V6

CLIENT = f"""
import errno, socket, sys, time
with socket.create_connection((sys.argv[1], {ECHO_PORT}), 5) as endpoint:
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
    # Neither end closes, and the client speaks: only the host socket can know. Over both families at the same time.
    silence = [["ip", "route", "add", "blackhole", host] for host in (f"{HOST_V4}/32", f"{HOST_V6}/128")]
    with internet.sandbox({"tcp.connect_timeout": "1", "tcp.idle_timeout": "2"}) as sandbox:
        both = [sandbox.start([sys.executable, "-c", CLIENT, name]) for name in ("v4.test", "v6.test")]
        try:
            assert [running.stdout.readline() for running in both] == [b"open\n"] * 2
            for words in silence:
                internet.net.run(words).ok()
            try:
                assert {running.stdout.readline() for running in both} <= {b"ECONNRESET\n", b"EPIPE\n"}
            finally:
                for words in silence:
                    internet.net.run([*words[:2], "del", *words[3:]]).ok()
            assert sandbox.drops("connection-timeout") == 2
        finally:
            for running in both:
                running.stop(signal.SIGTERM)
