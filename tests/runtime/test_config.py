"""The keys and their defaults: what a user has who configures nothing."""

import msgspec
import pytest

from netstack.runtime.config import Config

DEFAULTS = {
    "mode": "firewall",
    "capture": {"kind": "netns", "name": "netstack", "fd": -1},
    "tun": {"name": "tun0", "mtu": 1500, "addresses": ["10.0.0.2/24", "fd00:6e73::2/64"], "dns": "10.0.0.1"},
    "dns": {
        "upstreams": ["https://freedns.controld.com/p1"],
        "controld": "",
        "controld_client": {"mac": "", "ip": "", "host": "", "os": ""},
        "bootstrap": {},
        "timeout": 5.0,
        "listen": ["0.0.0.0:5354"],
        "cache": True,
        "serve_stale": 0,
        "tls_ca": "",
        "private_names": [],
        "encrypted_names": [],
        "canaries": True,
    },
    "whitelist": {
        "mode": "enforce",
        "store": "memory://",
        "ttl": 300,
        "grace": 60,
        "scope": "all",
        "prefix": "netstack:",
        "tls_ca": "",
    },
    "allow": {"networks": [], "names": [], "lists": []},
    "deny": {"names": [], "lists": []},
    "lists": {"refresh": 86400.0, "cache": "", "tls_ca": ""},
    "quic": {"block": True, "ports": [443, 80], "answer": "reject"},
    "tcp": {
        "connect_timeout": 30.0,
        "idle_timeout": 7440.0,
        "max_flows": 16384,
        "max_flows_per_client": 16384,
        "max_half_open": 4096,
        "max_buffered": 256 << 20,
        "sni": "log",
    },
    "udp": {"idle_timeout": 30.0, "stream_timeout": 120.0, "max_flows": 16384},
    "protect": {"kind": "auto"},
    "workers": {"tcp_fwd": 1, "udp_fwd": 1, "dns_filter": 1, "tun_io": 1},
    "log": {"level": "info", "format": "text", "eve": ""},
    "metrics": {"listen": ""},
    "otel": {"endpoint": ""},
    "trace": {"sample": 0},
    "links": {"listen": "", "connect": "", "key_file": "", "server_key": "", "peers": {}, "insecure": False},
}


def test_the_defaults_are_what_the_documentation_promises() -> None:
    assert msgspec.to_builtins(Config()) == DEFAULTS


def test_an_empty_file_is_the_defaults() -> None:
    assert msgspec.convert({}, Config) == Config()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("tun", "mtu", 1279),
        ("tun", "mtu", 65536),
        ("tun", "name", "a name with spaces"),
        ("tun", "name", "sixteen-letters-"),
        ("tun", "addresses", []),
        ("dns", "upstreams", []),
        ("dns", "timeout", 0),
        ("dns", "cache", 1),
        ("whitelist", "mode", "permissive"),
        ("whitelist", "ttl", 0),
        ("whitelist", "grace", -1),
        ("quic", "ports", [70000]),
        ("quic", "ports", [0]),
        ("tcp", "max_flows", 0),
        ("tcp", "max_half_open", 0),
        ("tcp", "max_buffered", 65536),
        ("udp", "idle_timeout", -1),
        ("workers", "tcp_fwd", 0),
        ("workers", "tcp_fwd", 65),
        ("workers", "tracker", 2),
        ("tcp", "sni", "on"),
        ("lists", "refresh", 1),
        ("trace", "sample", -1),
        ("no_such_section", "key", 1),
    ],
)
def test_a_value_that_cannot_be_is_refused(section: str, key: str, value: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({section: {key: value}}, Config)


@pytest.mark.parametrize("section", [name for name, keys in DEFAULTS.items() if isinstance(keys, dict)])
def test_a_configuration_cannot_be_changed_once_it_is_read(section: str) -> None:
    part = getattr(Config(), section)
    with pytest.raises(AttributeError, match="immutable"):
        setattr(part, part.__struct_fields__[0], "changed")
