"""What `links` in the configuration means for the processes of this host: where they meet, and with which keys."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netstack.runtime import keys
from netstack.runtime.config import Config, ConfigError
from netstack.runtime.values import parse_key, parse_link
from netstack.wire.curve import Curve
from netstack.wire.topology import WORKER_STAGES, Topology

INSECURE: Final = (
    "links.insecure: whoever reaches %s can read and forge everything on the links between hosts; set links.key_file"
)


def topology_of(config: Config, directory: Path) -> Topology:
    """Where the processes of this host meet each other, and those of other hosts."""
    return Topology(directory, config.links.listen, config.links.connect)


def curve_of(config: Config) -> Curve | None:
    """The keys of the links between hosts; None where there are none. Raises ConfigError where the file went away."""
    links = config.links
    if not links.key_file:
        return None
    try:
        secret = keys.read(Path(links.key_file))
    except ValueError as error:
        raise ConfigError(f'links.key_file = "{links.key_file}": {error}') from None
    peers = {parse_key(text): name for name, text in links.peers.items()}
    return Curve(secret, parse_key(links.server_key) if links.server_key else b"", peers)


def check_stages(config: Config, stages: Iterable[str]) -> None:
    """Refuse to run here what links.connect says is elsewhere; raises ConfigError."""
    elsewhere = [stage for stage in stages if stage not in WORKER_STAGES]
    if config.links.connect and elsewhere:
        raise ConfigError(
            f'links.connect = "{config.links.connect}": {" and ".join(elsewhere)} cannot run here, since this says '
            f"that tun_io and tracker are on that host; start here only some of {', '.join(WORKER_STAGES)}, such as "
            "`netstack up --stage tcp_fwd`, or remove the key"
        )


def exposed(config: Config) -> str:
    """The endpoint that anybody in between can read and forge; empty where there is none."""
    links = config.links
    found = links.listen or links.connect
    return found if found and not links.key_file and not parse_link(found)[0].is_loopback else ""
