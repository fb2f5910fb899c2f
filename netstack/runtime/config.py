"""The configuration: every key, its default, and what each may be on its own.

`netstack.runtime.load` reads it from a file, the environment and -s; `netstack.runtime.validate` checks what a type
cannot say. An unknown key, a wrong type or an impossible value is a ConfigError that names the key, where it was
written and what is allowed, before anything is touched.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, field

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400 * 365)]
Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Octets = Annotated[int, Meta(ge=1 << 20, le=1 << 40)]
Texts = Annotated[list[str], Meta(min_length=1)]
Workers = Annotated[int, Meta(ge=1, le=64)]


class ConfigError(Exception):
    """A configuration that cannot be used; the message names the key, the place and what is allowed."""


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is captured."""

    kind: Literal["netns", "host", "fd", "name"] = "netns"
    name: str = "netstack"  # of the namespace that `up` makes (netns) or joins (name); a path for the latter
    fd: Annotated[int, Meta(ge=-1)] = -1  # the open TUN descriptor (fd)


class Tun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The TUN device."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,15}\Z")] = "tun0"
    mtu: Annotated[int, Meta(ge=1280, le=65535)] = 1500  # octets; 1280 is the least that IPv6 allows
    addresses: Texts = field(default_factory=lambda: ["10.0.0.2/24", "fd00:6e73::2/64"])
    dns: str = "10.0.0.1"


class ControldClient(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What Control D's resolvers are told of the client; nothing of it unless it is written here."""

    mac: str = ""  # x-cd-mac
    ip: str = ""  # x-cd-ip
    host: str = ""  # x-cd-host
    os: str = ""  # x-cd-os


class Dns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The filtering resolver and what is done with its answers."""

    upstreams: Texts = field(default_factory=lambda: ["https://freedns.controld.com/p1"])
    controld: str = ""  # a UID; short for that UID's upstream
    controld_client: ControldClient = ControldClient()
    bootstrap: dict[str, list[str]] = {}  # host of an upstream -> its addresses
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0
    listen: list[str] = field(default_factory=lambda: ["0.0.0.0:5354"])  # mode = "dns"
    cache: bool = True
    serve_stale: Annotated[int, Meta(ge=0, le=86400 * 7)] = 0  # seconds beyond an answer's time, if no upstream answers
    tls_ca: str = ""  # a file of CA certificates; empty: the system's
    private_names: list[str] = []  # names whose answers may hold private addresses
    encrypted_names: list[str] = []  # names of resolvers that speak encrypted DNS, beside those that are known
    canaries: bool = True  # tell browsers, by the names they ask for it, to leave DNS to us


class Whitelist(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Leases on addresses."""

    mode: Literal["enforce", "audit", "off"] = "enforce"
    store: str = "memory://"
    ttl: Annotated[int, Meta(ge=1, le=86400 * 7)] = 300  # seconds; the floor of a lease
    grace: Annotated[int, Meta(ge=0, le=86400)] = 60  # seconds beyond the record's TTL
    scope: Literal["all", "client"] = "all"  # for whom an answer opens its addresses
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{0,64}\Z")] = "netstack:"  # of the keys in Redis
    tls_ca: str = ""  # a file of CA certificates for rediss://; empty: the system's


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is allowed without having been resolved, or in spite of a list."""

    networks: list[str] = []  # prefix, optionally :port/proto
    names: list[str] = []
    lists: list[str] = []  # files or URLs of lists of names


class Deny(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names that are answered with NXDOMAIN."""

    names: list[str] = []
    lists: list[str] = []  # files or URLs of lists of names


class Lists(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the URLs of allow.lists and deny.lists are fetched."""

    refresh: Annotated[float, Meta(ge=60, le=86400 * 365)] = 86400.0  # seconds
    cache: str = ""  # a folder that the services can write to; empty: the first of the usual ones
    tls_ca: str = ""  # a file of CA certificates; empty: the system's


class Quic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """QUIC, refused so that browsers fall back to TCP."""

    block: bool = True
    ports: list[Port] = field(default_factory=lambda: [443, 80])
    answer: Literal["reject", "drop"] = "reject"


class Tcp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The TCP translator."""

    connect_timeout: Seconds = 30.0
    idle_timeout: Seconds = 7440.0  # RFC 5382 REQ-5: at least 2 hours 4 minutes
    max_flows: Count = 16384
    max_flows_per_client: Count = 16384  # as many as in all: a captured command is one client
    max_half_open: Count = 4096  # beyond it the oldest of the client that has most gives way
    max_buffered: Octets = 256 << 20  # in all flows of a worker
    sni: Literal["off", "log", "enforce"] = "log"  # what is done about the TLS server name or HTTP Host


class Udp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The UDP translator."""

    idle_timeout: Seconds = 30.0
    stream_timeout: Seconds = 120.0  # RFC 4787 REQ-5: at least 2 minutes
    max_flows: Count = 16384


class Protect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How our own sockets stay out of the tunnel."""

    kind: Literal["auto", "none", "mark", "device", "socket"] = "auto"


class WorkerCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Processes per stage."""

    tcp_fwd: Workers = 1
    udp_fwd: Workers = 1
    dns_filter: Workers = 1
    tun_io: Workers = 1


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Messages, on stderr, and the event log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    eve: str = ""


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where Prometheus may scrape."""

    listen: str = ""


class Otel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where spans are exported to."""

    endpoint: str = ""


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which flows are traced without being asked for: one in `sample`, 0 for none."""

    sample: Annotated[int, Meta(ge=0)] = 0


class Links(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The links between the hosts of an instance, where it has several."""

    listen: str = ""  # tcp://ADDRESS:PORT: other hosts reach tun_io and tracker there, and at the four ports after it
    connect: str = ""  # the same, of the host where tun_io and tracker are
    key_file: str = ""  # this host's secret key
    server_key: str = ""  # the public key of the host of `connect`
    peers: dict[str, str] = {}  # name of a host that may connect -> its public key
    insecure: bool = False  # without keys, beyond this host's loopback


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration."""

    mode: Literal["firewall", "dns"] = "firewall"
    capture: Capture = Capture()
    tun: Tun = Tun()
    dns: Dns = Dns()
    whitelist: Whitelist = Whitelist()
    allow: Allow = Allow()
    deny: Deny = Deny()
    lists: Lists = Lists()
    quic: Quic = Quic()
    tcp: Tcp = Tcp()
    udp: Udp = Udp()
    protect: Protect = Protect()
    workers: WorkerCounts = WorkerCounts()
    log: Log = Log()
    metrics: Metrics = Metrics()
    otel: Otel = Otel()
    trace: Trace = Trace()
    links: Links = Links()
