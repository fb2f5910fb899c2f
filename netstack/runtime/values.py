"""What the texts in the configuration mean: upstreams, allowed networks, stores, listening addresses, names.

Each parser raises ValueError with a sentence that says what is wrong and what is allowed; `netstack.runtime.validate`
adds the key and the place.
"""

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

TCP: Final = 6  # IANA protocol numbers
UDP: Final = 17
_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}

UPSTREAM_PORTS: Final = {"udp": 53, "tcp": 53, "tls": 853, "quic": 853, "https": 443, "h3": 443}
"""Schemes of upstreams and their default ports."""

_WITH_PATH: Final = ("https", "h3")
_UPSTREAM_EXAMPLES: Final = (
    "https://HOST[:PORT]/PATH, h3://HOST[:PORT]/PATH, tls://HOST[:PORT], quic://HOST[:PORT], udp://HOST[:PORT], "
    "tcp://HOST[:PORT]"
)

_LIST_EXAMPLES: Final = "an absolute path or a URL, such as /etc/netstack/ads.txt or https://lists.example/ads.txt"

DOH_PATH: Final = "/dns-query"
"""Where an https or h3 upstream without a path is asked; the usual one (RFC 8484 section 4.1.1 has it in examples)."""

KNOWN_BOOTSTRAP: Final[dict[str, tuple[str, ...]]] = {
    "dns.controld.com": ("76.76.2.22", "2606:1a40::22"),
    "freedns.controld.com": ("76.76.2.11", "2606:1a40::11"),
}
"""Addresses of Control D's resolvers and of the names below them (p1.freedns.controld.com for DNS over TLS and QUIC;
docs.controld.com), since the system resolver is never asked."""

CACHE_DIRECTORY: Final = "/var/cache/netstack"
"""Where fetched lists are kept, by services that may write there (FHS 3.0 section 5.5)."""

STORES: Final = ("memory", "redis", "rediss", "unix")
_STORE_EXAMPLES: Final = "memory://, redis://HOST[:PORT][/DB], rediss://HOST[:PORT][/DB], unix:///PATH[?db=DB]"
_REDIS_PORT: Final = 6379

LINK_PORTS: Final = 5
"""Ports that the links between hosts take."""

_LABEL: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")  # RFC 1035 section 2.3.1, with "_"
_MAX_NAME: Final = 253  # characters of a name without its final dot (RFC 1035 section 2.3.4)
_CONTROLD_UID: Final = re.compile(r"[A-Za-z0-9]{1,64}(?:/[A-Za-z0-9-]{1,64})?\Z")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where queries are sent: `host` is an address, without brackets, or a name in lower case."""

    scheme: str
    host: str
    port: int
    path: str = ""  # https and h3 only

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == UPSTREAM_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


@dataclass(frozen=True, slots=True)
class AllowedNetwork:
    """Addresses that may be reached without a lease; None stands for every port, or TCP and UDP alike."""

    network: Network
    port: int | None = None
    protocol: int | None = None  # IANA number


@dataclass(frozen=True, slots=True)
class Store:
    """Where leases are kept. `path` is that of a Unix socket; db is Redis's database number."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    db: int = 0


def parse_upstream(text: str) -> Upstream:
    """An upstream's URL."""
    parts = _split(text, _UPSTREAM_EXAMPLES)
    if parts.scheme not in UPSTREAM_PORTS:
        raise ValueError(f"must be one of {_UPSTREAM_EXAMPLES}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"no user, query or fragment is allowed; must be one of {_UPSTREAM_EXAMPLES}")
    host = _host(parts)
    port = _url_port(parts) or UPSTREAM_PORTS[parts.scheme]
    if parts.scheme in _WITH_PATH:
        return Upstream(parts.scheme, host, port, parts.path if parts.path not in ("", "/") else DOH_PATH)
    if parts.path not in ("", "/"):
        raise ValueError(f"{parts.scheme}:// has no path; write {parts.scheme}://{parts.netloc}")
    return Upstream(parts.scheme, host, port)


def bootstrap_addresses(upstream: Upstream, bootstrap: dict[str, list[str]]) -> tuple[str, ...]:
    """The fixed addresses of an upstream, in the order in which to try them; `bootstrap` is `dns.bootstrap`.

    Raises ValueError where none is known: the system resolver is never asked.
    """
    if is_address(upstream.host):
        return (upstream.host,)
    for name, addresses in bootstrap.items():
        if name.lower().rstrip(".") == upstream.host:
            return tuple(addresses)
    for name, known in KNOWN_BOOTSTRAP.items():
        if upstream.host == name or upstream.host.endswith(f".{name}"):
            return known
    raise ValueError(
        f"the address of {upstream.host} is not known, and the system resolver is never asked; "
        f'name it: dns.bootstrap."{upstream.host}" = ["ADDRESS"], or write an address into the URL'
    )


def parse_controld(uid: str) -> Upstream:
    """The upstream of a Control D resolver's UID, optionally UID/CLIENT."""
    if not _CONTROLD_UID.match(uid):
        raise ValueError("must be a resolver's UID as Control D shows it: letters and digits, optionally /CLIENT")
    return Upstream("https", "dns.controld.com", 443, f"/{uid}")


def is_controld(upstream: Upstream) -> bool:
    """Whether this is a resolver of Control D that can be told of the client: by HTTP headers."""
    return upstream.scheme in _WITH_PATH and upstream.host.endswith(".controld.com")


def parse_mac(text: str) -> str:
    """A MAC address."""
    if not re.fullmatch(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}", text):
        raise ValueError("must be a MAC address, such as 02:00:5e:10:00:01")
    return text.lower()


def parse_header(text: str) -> str:
    """The value of an HTTP header as it is sent to Control D."""
    if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", text):
        raise ValueError("must be 1 to 255 printable ASCII characters, such as laptop")
    return text


def parse_allowed_network(text: str) -> AllowedNetwork:
    """PREFIX[:PORT[/tcp|udp]]; an IPv6 prefix with a port stands in brackets: [2001:db8::/32]:443/tcp."""
    bracketed = re.fullmatch(r"\[([^\[\]]*)\](?::(.*))?", text, re.DOTALL)
    if bracketed:
        prefix, rest = bracketed.group(1), bracketed.group(2)
    elif text.count(":") == 1:
        prefix, rest = text.split(":")
    else:
        prefix, rest = text, None
    network = parse_prefix(prefix)
    if rest is None:
        return AllowedNetwork(network)
    number, slash, name = rest.partition("/")
    port = parse_port(number)
    if not slash:
        return AllowedNetwork(network, port)
    if name not in _PROTOCOLS:
        raise ValueError(f"{name!r} is no protocol: PREFIX[:PORT[/PROTO]] with PROTO tcp or udp")
    return AllowedNetwork(network, port, _PROTOCOLS[name])


def parse_prefix(text: str) -> Network:
    """An IPv4 or IPv6 prefix without host bits; an address alone is a prefix of its full length."""
    _plain(text)
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        corrected = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no prefix: such as 10.0.0.0/8, 192.0.2.1, 2001:db8::/32, with a port 10.0.0.0/8:443/tcp or "
            "[2001:db8::/32]:443/tcp"
        ) from None
    raise ValueError(f"{text} has host bits set; write {corrected}")


def parse_interface(text: str) -> IPv4Interface | IPv6Interface:
    """The address of an interface with the length of its prefix."""
    _plain(text)
    try:
        interface = ip_interface(text)
    except ValueError:
        interface = None
    if interface is None or "/" not in text:
        raise ValueError("must be an interface's address with its prefix length, such as 10.0.0.2/24 or fd00::2/64")
    if interface.ip.is_multicast or interface.ip.is_unspecified or interface.ip.is_loopback:
        raise ValueError("must be a unicast address that is not loopback, such as 10.0.0.2/24 or fd00::2/64")
    return interface


def parse_address(text: str) -> Address:
    """An IPv4 or IPv6 address."""
    _plain(text)
    try:
        return ip_address(text)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, such as 10.0.0.1 or 2001:db8::1") from None


def parse_store(text: str) -> Store:
    """The URL of the whitelist's store."""
    authority = text.partition("://")[2].partition("/")[0].rpartition("@")[2]
    if "," in authority or re.match(r"(?i)[a-z+-]*(sentinel|cluster)[a-z+-]*://", text):
        raise ValueError(
            f"Redis Sentinel and Cluster are not supported; name the one server that holds the data: {_STORE_EXAMPLES}"
        )
    parts = _split(text, _STORE_EXAMPLES)
    if parts.scheme == "memory":
        if parts.netloc or parts.path or parts.query:
            raise ValueError("memory:// takes nothing behind it; write memory://")
        return Store("memory")
    if parts.scheme == "unix":
        return _unix_store(parts)
    if parts.scheme not in STORES:
        raise ValueError(f"must be one of {_STORE_EXAMPLES}")
    if parts.query or parts.fragment:
        raise ValueError(
            f"no parameters are allowed behind {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}; a CA is "
            "named by whitelist.tls_ca, the database is /DB"
        )
    host = _host(parts)
    return Store(parts.scheme, host, _url_port(parts) or _REDIS_PORT, "", _database(parts.path.strip("/")))


def parse_listen(text: str) -> tuple[Address, int]:
    """ADDRESS:PORT, an IPv6 address in brackets."""
    address, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("must be ADDRESS:PORT, such as 127.0.0.1:9153 or [::1]:9153")
    inner = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    parsed = parse_address(inner)
    if parsed.version == 6 and inner == address:
        raise ValueError(f"an IPv6 address with a port stands in brackets: [{inner}]:{port}")
    return parsed, parse_port(port)


def parse_link(text: str) -> tuple[Address, int]:
    """tcp://ADDRESS:PORT, the first of LINK_PORTS ports; an IPv6 address in brackets."""
    example = "must be tcp://ADDRESS:PORT, such as tcp://192.0.2.1:5700 or tcp://[2001:db8::1]:5700"
    if not text.startswith("tcp://"):
        raise ValueError(example)
    try:
        address, port = parse_listen(text.removeprefix("tcp://"))
    except ValueError:
        raise ValueError(example) from None
    if address.is_multicast:
        raise ValueError(f"{address} is a multicast address; {example}")
    if port > 65536 - LINK_PORTS:
        raise ValueError(f"{LINK_PORTS} ports are used from this one on: it can be {65536 - LINK_PORTS} at most")
    return address, port


def parse_key(text: str) -> bytes:
    """A public key as `netstack keys` prints it."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("must be a public key as `netstack keys FILE` prints it: 64 hexadecimal digits")
    return bytes.fromhex(text)


def parse_port(text: str) -> int:
    """A port number, 1 to 65535."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is no port: 1 to 65535")
    return int(text)


def parse_name(text: str) -> str:
    """A domain name, as a list of names holds it: in lower case, without the final dot; `*.` in front is kept."""
    bare = text.removesuffix(".")
    labels = bare.removeprefix("*.").split(".")
    if len(bare) > _MAX_NAME or not all(_LABEL.match(label) for label in labels):
        raise ValueError(
            "must be a domain name such as example.com or *.example.com: labels of 1 to 63 letters, digits, '-' and "
            "'_' (an internationalised name in its xn-- form)"
        )
    return bare.lower()


def parse_list(text: str) -> str:
    """Where a list of names is: an absolute path, or an http or https URL."""
    if text.startswith("/"):
        if "\0" in text or text.endswith("/"):
            raise ValueError(f"is no file; {_LIST_EXAMPLES}")
        return text
    parts = _split(text, _LIST_EXAMPLES) if "://" in text else urlsplit("")
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.fragment:
        raise ValueError(f"must be {_LIST_EXAMPLES}")
    _host(parts)
    _url_port(parts)
    return text


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _unix_store(parts: SplitResult) -> Store:
    path = unquote(parts.path)
    query = re.fullmatch(r"(?:db=(.*))?", parts.query)
    if parts.netloc.rpartition("@")[2] or not path.startswith("/") or query is None:
        raise ValueError(
            "must be unix://[USER:PASSWORD@]/PATH[?db=DB] with an absolute path, such as unix:///run/redis/redis.sock"
        )
    return Store("unix", path=path, db=_database(query.group(1) or ""))


def _database(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError(f"{text!r} is no database number of Redis; such as redis://HOST:6379/0")
    return int(text or "0")


def _split(text: str, examples: str) -> SplitResult:
    # urlsplit drops tabs and line ends, and would so accept what was never meant.
    if not re.fullmatch(r"[a-z][a-z0-9]*://[\x21-\x7e]*", text):
        raise ValueError(f"is no URL; must be one of {examples}")
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ValueError(f"is no URL ({error}); must be one of {examples}") from None
    return parts


def _host(parts: SplitResult) -> str:
    host = (parts.hostname or "").removesuffix(".")
    if not host:
        raise ValueError(f"names no host; such as {parts.scheme}://192.0.2.1")
    if is_address(host):
        return host
    if re.fullmatch(r"[0-9.]+", host) or "*" in host:
        raise ValueError(f"{host!r} is neither an address nor a name")
    try:
        return parse_name(host)
    except ValueError:
        raise ValueError(f"{host!r} is neither an address nor a name") from None


def _url_port(parts: SplitResult) -> int | None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"has no valid port: 1 to 65535, such as {parts.scheme}://192.0.2.1:53")
    return port


def _plain(text: str) -> None:
    # A scope ("%eth0") belongs to one host's interfaces and means nothing here.
    if "%" in text:
        raise ValueError("must be an address without a scope (%...)")
