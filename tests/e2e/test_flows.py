"""TCP and UDP flows that are allowed: halves that close alone, resets, back-pressure, datagrams of every size."""

import hashlib

import pytest

from tests.e2e.calls import Client
from tests.internet.servers import reply_after_eof
from tests.internet.zones import AFTER_EOF_PORT, ECHO_PORT, RESET_PORT

NAMES = pytest.mark.parametrize("name", ["v4.test", "v6.test"], ids=["IPv4", "IPv6"])


ECHO_NAMES = pytest.mark.parametrize("name", ["echo4.test", "echo6.test"], ids=["IPv4", "IPv6"])


@NAMES
@pytest.mark.parametrize("octets", ["0", "1", "3000000"])
def test_half_closed_connection_still_reads_a_mebibyte(client: Client, name: str, octets: str) -> None:
    (report,) = client("half_close", name, str(AFTER_EOF_PORT), octets)
    assert report == {
        "upload_is_whole": True,
        "octets": 1 << 20,
        "sha256": hashlib.sha256(reply_after_eof()).hexdigest(),
    }


@NAMES
def test_reset_of_the_far_end_is_a_reset(client: Client, name: str) -> None:
    (report,) = client("reset", name, str(RESET_PORT))
    assert report["error"] == "ECONNRESET"


@NAMES
def test_writer_is_stopped_by_a_reader_that_does_not_read_and_nothing_is_lost(client: Client, name: str) -> None:
    (report,) = client("slow_reader", name, str(ECHO_PORT), "100000000")
    assert report["same"], report
    assert 0 < report["sent"] < 100_000_000, report


@ECHO_NAMES
def test_datagrams_come_back_whole(client: Client, name: str) -> None:
    sizes = ["1", "512", "0", "1472" if name == "echo4.test" else "1452"]
    (report,) = client("echo", name, str(ECHO_PORT), *sizes)
    assert report == {"same": [True] * len(sizes)}


@ECHO_NAMES
def test_datagrams_larger_than_a_packet_come_back_whole(client: Client, name: str) -> None:
    sizes = ["1473", "4000", "65507"]
    (report,) = client("echo", name, str(ECHO_PORT), *sizes)
    assert report == {"same": [True] * len(sizes)}
