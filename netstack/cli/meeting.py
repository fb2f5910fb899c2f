"""Where a command meets the processes of an instance: in its directory, or where its host reaches the tracker."""

import tomllib
from pathlib import Path

import msgspec

from netstack.runtime.config import Config
from netstack.runtime.links import curve_of, topology_of
from netstack.wire.curve import Curve
from netstack.wire.topology import Topology


def of(directory: Path) -> tuple[Topology, Curve | None]:
    """The links of an instance's directory, as the configuration says that its supervisor has left there.

    Raises ConfigError where this user may not read the key.
    """
    for path in sorted(directory.glob("config*.toml")):
        try:
            # What a supervisor wrote is valid, or was when it wrote it.
            config = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Config)
        except (OSError, ValueError):  # it is just being written, or its supervisor has just ended
            continue
        if config.links.connect:
            return topology_of(config, directory), curve_of(config)
    return Topology(directory), None
