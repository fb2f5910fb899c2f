"""What the section `links` means for the processes of a host."""

from pathlib import Path

import pytest

from netstack.runtime import keys
from netstack.runtime.config import Config, ConfigError, Links
from netstack.runtime.links import check_stages, curve_of, exposed, topology_of
from netstack.wire.topology import STAGES

FAR = "tcp://198.18.7.1:5700"
KEY = "ab" * 32


def with_links(**values) -> Config:
    return Config(links=Links(**values))


def test_the_topology_goes_by_what_is_listened_and_connected_to() -> None:
    directory = Path("/run/netstack/default")
    assert topology_of(Config(), directory).packets.startswith("ipc:")
    assert topology_of(with_links(connect=FAR), directory).packets == FAR
    near = topology_of(with_links(listen=FAR), directory)
    assert near.packets.startswith("ipc:")
    assert near.bound(near.packets) == (near.packets, FAR)


def test_without_a_key_file_there_are_no_keys() -> None:
    assert curve_of(with_links(listen=FAR, insecure=True)) is None


def test_the_keys_are_those_of_the_file_and_of_the_hosts_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    public = keys.generate(path)
    curve = curve_of(with_links(listen=FAR, key_file=str(path), peers={"web2": KEY}))
    assert (curve.public, curve.peers) == (public, {bytes.fromhex(KEY): "web2"})
    assert curve_of(with_links(connect=FAR, key_file=str(path), server_key=KEY)).server == bytes.fromhex(KEY)
    assert curve.secret.hex() not in repr(curve)
    assert repr(curve.secret) not in repr(curve)


def test_a_key_file_that_went_away_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"links\.key_file = .*no such file"):
        curve_of(with_links(connect=FAR, key_file=str(tmp_path / "key"), server_key=KEY))


@pytest.mark.parametrize(
    ("stages", "refused"),
    [
        (["tcp_fwd"], None),
        (["dns_filter", "tcp_fwd", "udp_fwd"], None),
        (["tracker"], "tracker"),
        (["tcp_fwd", "tun_io"], "tun_io"),
        (STAGES, "tracker and tun_io"),
    ],
    ids=["a worker", "all kinds of workers", "the tracker", "tun_io beside a worker", "the whole pipeline"],
)
def test_what_is_on_the_other_host_does_not_run_here(stages, refused: str | None) -> None:
    check_stages(with_links(listen=FAR), stages)
    if refused is None:
        check_stages(with_links(connect=FAR), stages)
        return
    with pytest.raises(ConfigError, match=f"{refused} cannot run here"):
        check_stages(with_links(connect=FAR), stages)


@pytest.mark.parametrize(
    ("links", "endpoint"),
    [
        ({}, ""),
        ({"listen": FAR, "insecure": True}, FAR),
        ({"connect": FAR, "insecure": True}, FAR),
        ({"listen": FAR, "key_file": "/key"}, ""),
        ({"connect": "tcp://127.0.0.1:5700"}, ""),
        ({"connect": "tcp://[::1]:5700"}, ""),
    ],
    ids=["one host", "reached by all", "connecting in the open", "keys", "loopback", "IPv6 loopback"],
)
def test_what_anybody_in_between_could_forge(links, endpoint: str) -> None:
    assert exposed(with_links(**links)) == endpoint
