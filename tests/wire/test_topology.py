"""Where the processes of one instance meet."""

from pathlib import Path

import pytest

from netstack.wire.topology import STAGES, WORKER_STAGES, RunDirError, Topology, stages_of


def test_every_link_lives_in_the_directory_of_the_instance() -> None:
    topology = Topology(Path("/run/netstack/default"))
    assert topology.packets == "ipc:///run/netstack/default/packets"
    assert topology.whitelist == "ipc:///run/netstack/default/whitelist"
    assert topology.changes == "ipc:///run/netstack/default/changes"
    assert topology.events_in == "ipc:///run/netstack/default/events-in"
    assert topology.events_out == "ipc:///run/netstack/default/events-out"
    assert topology.dns == Path("/run/netstack/default/dns")
    assert topology.notify == Path("/run/netstack/default/notify")


def test_no_two_links_share_a_path() -> None:
    topology = Topology(Path("/r"))
    links = [topology.packets, topology.whitelist, topology.changes, topology.events_in, topology.events_out]
    links += [f"ipc://{topology.dns}", f"ipc://{topology.notify}"]
    assert len(set(links)) == len(links)


def test_between_hosts_each_link_has_a_port_of_its_own() -> None:
    far = Topology(Path("/r"), connect="tcp://[2001:db8::1]:5700")
    assert far.packets == "tcp://[2001:db8::1]:5700"
    assert far.whitelist == "tcp://[2001:db8::1]:5701"
    assert far.changes == "tcp://[2001:db8::1]:5702"
    assert far.events_in == "tcp://[2001:db8::1]:5703"
    assert far.events_out == "tcp://[2001:db8::1]:5704"
    assert far.dns == Path("/r/dns"), "DNS over TCP stays within the host"


def test_what_is_reached_from_other_hosts_is_reached_in_the_directory_too() -> None:
    alone = Topology(Path("/r"))
    assert alone.bound(alone.packets) == ("ipc:///r/packets",)
    near = Topology(Path("/r"), listen="tcp://198.18.7.1:5700")
    assert near.bound(near.packets) == ("ipc:///r/packets", "tcp://198.18.7.1:5700")
    assert near.bound(near.events_out) == ("ipc:///r/events-out", "tcp://198.18.7.1:5704")


def test_workers_are_stages() -> None:
    assert set(WORKER_STAGES) < set(STAGES)


@pytest.mark.parametrize(
    ("length", "fits"),
    [(70, True), (71, False), (300, False)],
    ids=["the longest directory", "one octet longer", "much longer"],
)
def test_a_directory_whose_sockets_would_have_too_long_a_path_is_refused(length: int, fits: bool) -> None:
    # sockaddr_un.sun_path holds 107 octets and a zero (unix(7)); "/dns/" and a worker's name of 32 octets must fit.
    directory = Path("/" + "x" * (length - 1))
    if fits:
        assert Topology(directory).directory == directory
        return
    with pytest.raises(RunDirError, match=r"too long.*at most 107.*--run-dir"):
        Topology(directory)


def test_octets_count_not_characters() -> None:
    with pytest.raises(RunDirError):
        Topology(Path("/" + "ü" * 36))


def test_stages_of_each_mode() -> None:
    assert stages_of("firewall") == STAGES
    assert stages_of("dns") == ("tracker", "dns_filter")
