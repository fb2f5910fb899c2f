"""A machine beyond the captured one, for which that is the router: as a phone or a container that is routed into it."""

from collections.abc import Iterator

import pytest

from tests.e2e.calls import Client, client_in
from tests.internet import Internet, routers, zones
from tests.internet.machine import Place
from tests.internet.zones import ECHO_PORT


class Captured(Place):
    """The captured network alone: its own view of /proc/sys is that of the command, which may not change it."""

    namespaces = ("--net",)


@pytest.fixture(scope="module")
def beyond(internet: Internet) -> Iterator[Client]:
    """A client with addresses that are not the TUN's."""
    with internet.sandbox() as sandbox, routers.behind(Captured(sandbox.target)) as place:
        sandbox.run(["dig", "+short", "echo.test", "A", "echo.test", "AAAA"]).ok()
        yield client_in(place)


@pytest.mark.parametrize(
    ("address", "sizes"),
    [
        (zones.ECHO_V4, ["0", "1", "1472", "1473", "4000", "65507"]),
        (zones.ECHO_V6, ["0", "1", "1452", "1453", "4000", "65487"]),
    ],
    ids=["IPv4", "IPv6"],
)
def test_datagrams_of_every_size_come_back_whole(beyond: Client, address: str, sizes: list[str]) -> None:
    (report,) = beyond("echo", address, str(ECHO_PORT), *sizes)
    assert report == {"same": [True] * len(sizes)}
