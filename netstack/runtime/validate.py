"""What the types of the configuration cannot say: whether its texts mean something, and what this version lacks."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from netstack.runtime.config import Config
from netstack.runtime.places import key_text
from netstack.runtime.values import (
    Upstream,
    bootstrap_addresses,
    is_address,
    is_controld,
    parse_address,
    parse_allowed_network,
    parse_controld,
    parse_header,
    parse_interface,
    parse_key,
    parse_link,
    parse_list,
    parse_listen,
    parse_mac,
    parse_name,
    parse_store,
    parse_upstream,
)

_REMOVE: Final = "not supported by this version; remove the key"


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that cannot be used, and why, with what is allowed."""

    keys: tuple[str, ...]
    value: object
    message: str
    index: int | None = None  # of the element, where the key holds an array

    @property
    def name(self) -> str:
        """The key as a message shows it."""
        return key_text(self.keys) + ("" if self.index is None else f"[{self.index}]")


def effective_upstreams(config: Config) -> list[Upstream]:
    """The upstreams in the order in which they are tried: `dns.controld` first, then `dns.upstreams`.

    With `dns.controld` the default of `dns.upstreams` is left out: the free resolver has another policy than the UID's.
    """
    written = [parse_upstream(text) for text in config.dns.upstreams]
    if not config.dns.controld:
        return written
    if config.dns.upstreams == Config().dns.upstreams:
        written = []
    return [parse_controld(config.dns.controld), *written]


def problems(config: Config) -> Iterator[Problem]:
    """Everything that is wrong with a configuration of the right types."""
    yield from _unsupported(config)
    yield from _tun(config)
    yield from _dns(config)
    yield from _lists(config)
    yield from _capture(config)
    yield from _whitelist(config)
    yield from _links(config)


def _unsupported(config: Config) -> Iterator[Problem]:
    """Keys of the contract that this version would otherwise ignore."""
    default = Config()
    for keys, value, supported in (
        (("capture", "kind"), config.capture.kind, ("netns", "name")),
        (("protect", "kind"), config.protect.kind, ("auto", "none")),
        (("workers", "tun_io"), config.workers.tun_io, (1,)),
    ):
        if value not in supported:
            yield Problem(keys, value, f"not supported by this version; what is: {', '.join(map(str, supported))}")
    unset: tuple[tuple[tuple[str, ...], object, object], ...] = (
        (("capture", "fd"), config.capture.fd, default.capture.fd),
        (("log", "eve"), config.log.eve, ""),
        (("metrics", "listen"), config.metrics.listen, ""),
        (("otel", "endpoint"), config.otel.endpoint, ""),
        (("trace", "sample"), config.trace.sample, 0),
    )
    yield from (Problem(keys, written, _REMOVE) for keys, written, nothing in unset if written != nothing)


def _tun(config: Config) -> Iterator[Problem]:
    tun = config.tun
    if tun.name in (".", ".."):
        yield Problem(("tun", "name"), tun.name, "is no name for an interface; such as tun0")
    yield from _parse(("tun", "dns"), tun.dns, parse_address)
    yield from _parse_each(("tun", "addresses"), tun.addresses, parse_interface)
    if not is_address(tun.dns):
        return
    dns = parse_address(tun.dns)
    prefixes = [text for text in tun.addresses if ("." in text) == (dns.version == 4)]
    if not prefixes:
        message = f"cannot be reached: tun.addresses has no IPv{dns.version} address; add one"
        yield Problem(("tun", "dns"), tun.dns, message)
    if any(is_address(one) and parse_address(one) == dns for one in (text.partition("/")[0] for text in prefixes)):
        message = "is one of tun.addresses, so queries would never reach the TUN; choose another of the same prefix"
        yield Problem(("tun", "dns"), tun.dns, message)


def _dns(config: Config) -> Iterator[Problem]:
    dns = config.dns
    for host, addresses in dns.bootstrap.items():
        yield from _parse(("dns", "bootstrap", host), host, parse_name)
        if not addresses:
            yield Problem(("dns", "bootstrap", host), addresses, "names no address; write at least one, or remove it")
        for address in addresses:
            yield from _parse(("dns", "bootstrap", host), address, parse_address)
    if dns.tls_ca and not Path(dns.tls_ca).is_file():
        yield Problem(("dns", "tls_ca"), dns.tls_ca, "no such file; it must hold certificates in PEM form")
    if dns.controld:
        yield from _parse(("dns", "controld"), dns.controld, parse_controld)
    yield from _parse_each(
        ("dns", "upstreams"), dns.upstreams, lambda text: bootstrap_addresses(parse_upstream(text), dns.bootstrap)
    )
    yield from _controld_client(config)
    yield from _listen(config)


def _listen(config: Config) -> Iterator[Problem]:
    keys, listen = ("dns", "listen"), config.dns.listen
    yield from _parse_each(keys, listen, parse_listen)
    if config.mode == "dns" and not listen:
        yield Problem(keys, listen, 'mode = "dns" answers nowhere; such as ["127.0.0.1:5354"]')
    elif config.mode != "dns" and listen != Config().dns.listen:
        yield Problem(
            keys, listen, 'is for mode = "dns"; set that, or remove the key: the TUN takes DNS to any address'
        )
    for index, text in enumerate(listen):
        if text in listen[:index]:
            yield Problem(keys, text, "is there twice; remove one", index)


def _controld_client(config: Config) -> Iterator[Problem]:
    keys = ("dns", "controld_client")
    parsers = {"mac": parse_mac, "ip": parse_address, "host": parse_header, "os": parse_header}
    told = {name: getattr(config.dns.controld_client, name) for name in parsers}
    for name, parser in parsers.items():
        if told[name]:
            yield from _parse((*keys, name), told[name], parser)
    try:
        controld = any(is_controld(upstream) for upstream in effective_upstreams(config))
    except ValueError:
        return  # what is wrong with an upstream is said there
    if any(told.values()) and not controld:
        message = "nobody is told: no upstream is an https:// or h3:// resolver of Control D; remove the key"
        yield Problem(keys, {name: text for name, text in told.items() if text}, message)


def _lists(config: Config) -> Iterator[Problem]:
    yield from _parse_each(("allow", "networks"), config.allow.networks, parse_allowed_network)
    yield from _parse_each(("allow", "names"), config.allow.names, parse_name)
    yield from _parse_each(("deny", "names"), config.deny.names, parse_name)
    yield from _parse_each(("dns", "private_names"), config.dns.private_names, parse_name)
    yield from _parse_each(("dns", "encrypted_names"), config.dns.encrypted_names, parse_name)
    yield from _parse_each(("allow", "lists"), config.allow.lists, parse_list)
    yield from _parse_each(("deny", "lists"), config.deny.lists, parse_list)
    lists = config.lists
    if lists.cache and not lists.cache.startswith("/"):
        yield Problem(("lists", "cache"), lists.cache, "must be an absolute path, such as /var/cache/netstack")
    if lists.tls_ca and not Path(lists.tls_ca).is_file():
        yield Problem(("lists", "tls_ca"), lists.tls_ca, "no such file; it must hold certificates in PEM form")


def _whitelist(config: Config) -> Iterator[Problem]:
    whitelist = config.whitelist
    yield from _parse(("whitelist", "store"), whitelist.store, parse_store)
    if whitelist.tls_ca and not Path(whitelist.tls_ca).is_file():
        message = "no such file; it must hold certificates in PEM form"
        yield Problem(("whitelist", "tls_ca"), whitelist.tls_ca, message)
    elif whitelist.tls_ca and not whitelist.store.startswith("rediss:"):
        message = "goes with a store rediss://HOST; remove the key, or change whitelist.store"
        yield Problem(("whitelist", "tls_ca"), whitelist.tls_ca, message)


def _capture(config: Config) -> Iterator[Problem]:
    name = config.capture.name
    if config.capture.kind == "name":
        if not name or "\0" in name or ("/" in name and not name.startswith("/")):
            message = "must be a namespace's name as `ip netns list` shows it, or a path such as /proc/self/ns/net"
            yield Problem(("capture", "name"), name, message)
    elif not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", name) or name in (".", ".."):
        message = "must be a namespace's name of letters, digits, '.', '_' and '-', such as netstack"
        yield Problem(("capture", "name"), name, message)


def _links(config: Config) -> Iterator[Problem]:
    links = config.links
    for key in ("listen", "connect"):
        if text := getattr(links, key):
            yield from _link(config, ("links", key), text)
    if links.listen and links.connect:
        message = "cannot go with links.listen: tun_io and tracker are either on this host or on that one; remove one"
        yield Problem(("links", "connect"), links.connect, message)
    yield from _keys(config)
    for key, value, needs in (
        ("key_file", links.key_file, ("listen", "connect")),
        ("peers", links.peers, ("listen",)),
        ("server_key", links.server_key, ("connect",)),
        ("insecure", links.insecure, ("listen", "connect")),
    ):
        if value and not any(getattr(links, need) for need in needs):
            wanted = " or ".join(f"links.{need}" for need in needs)
            yield Problem(("links", key), value, f"has no effect without {wanted}; set that, or remove this")


def _link(config: Config, keys: tuple[str, ...], text: str) -> Iterator[Problem]:
    links = config.links
    found = list(_parse(keys, text, parse_link))
    yield from found
    if found:
        return
    address, _ = parse_link(text)
    if keys[-1] == "connect" and address.is_unspecified:
        yield Problem(keys, text, "must be an address of the other host, such as tcp://192.0.2.1:5700")
    if not links.key_file and not links.insecure and not address.is_loopback:
        yield Problem(
            keys, text,
            "everybody on the way could read and forge what is said there; make a key (netstack keys FILE) and set "
            "links.key_file, or set links.insecure = true where the network between is yours alone",
        )  # fmt: skip


def _keys(config: Config) -> Iterator[Problem]:
    links = config.links
    for name, key in links.peers.items():
        yield from _parse(("links", "peers", name), key, parse_key)
    if links.server_key:
        yield from _parse(("links", "server_key"), links.server_key, parse_key)
    if not links.key_file:
        for key in ("peers", "server_key"):
            if value := getattr(links, key):
                yield Problem(("links", key), value, "has no effect without links.key_file; set that too")
        return
    from netstack.runtime.keys import read  # noqa: PLC0415 - imports zmq, which nothing else here needs

    yield from _parse(("links", "key_file"), links.key_file, lambda text: read(Path(text)))
    if links.insecure:
        yield Problem(("links", "insecure"), links.insecure, "cannot go with links.key_file; remove one")
    if links.listen and not links.peers:
        message = "names nobody, so nobody could connect; name each host with its public key: peers = { web2 = KEY }"
        yield Problem(("links", "peers"), links.peers, message)
    if links.connect and not links.server_key:
        message = "is missing; it is what `netstack keys FILE` prints on the host of links.connect"
        yield Problem(("links", "server_key"), links.server_key, message)


def _parse_each(keys: tuple[str, ...], texts: list[str], parser: Callable[[str], object]) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        for problem in _parse(keys, text, parser):
            yield replace(problem, index=index)


def _parse(keys: tuple[str, ...], text: str, parser: Callable[[str], object]) -> Iterator[Problem]:
    try:
        parser(text)
    except ValueError as error:
        yield Problem(keys, text, str(error))
