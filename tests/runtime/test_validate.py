"""What the types of the configuration cannot say."""

from pathlib import Path

import pytest

from netstack.runtime.config import Config, ConfigError
from netstack.runtime.keys import generate
from netstack.runtime.load import load
from netstack.runtime.validate import effective_upstreams, problems
from netstack.runtime.values import Upstream


def test_the_defaults_are_valid() -> None:
    assert list(problems(Config())) == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        pytest.param("mode=dns", None, id="the DNS proxy alone"),
        pytest.param("capture.kind=host", "not supported by this version; what is: netns, name", id="the whole host"),
        pytest.param("capture.kind=fd", "not supported by this version", id="a TUN that is handed in"),
        pytest.param("capture.fd=3", "not supported by this version; remove the key", id="its number"),
        pytest.param("protect.kind=mark", "not supported by this version", id="marks"),
        pytest.param("workers.tun_io=2", "not supported by this version; what is: 1", id="several tun_io"),
        pytest.param("log.eve=/x", "not supported by this version; remove the key", id="the event log"),
        pytest.param("metrics.listen=127.0.0.1:1", "not supported by this version; remove the key", id="metrics"),
        pytest.param("otel.endpoint=http://x", "not supported by this version; remove the key", id="spans"),
        pytest.param("trace.sample=100", "not supported by this version; remove the key", id="sampled traces"),
        pytest.param('dns.listen=["127.0.0.1:53"]', 'is for mode = "dns"', id="an address to listen on with a TUN"),
        pytest.param('tun.addresses=["10.0.0.2"]', "tun.addresses[0]", id="an interface without a prefix length"),
        pytest.param("tun.dns=x", "must be an IPv4 or IPv6 address", id="a resolver that is no address"),
        pytest.param("tun.dns=10.0.0.2", "is one of tun.addresses", id="the resolver at the captured side"),
        pytest.param("tun.dns=2001:db8::1", None, id="a resolver of a family that the TUN has"),
        pytest.param('tun={addresses=["fd00::2/64"]}', "no IPv4 address; add one", id="no address of its family"),
        pytest.param("tun.name=..", "no name for an interface", id="two dots"),
        pytest.param('dns.upstreams=["https://a.example/"]', 'dns.bootstrap."a.example"', id="a host without address"),
        pytest.param('dns.bootstrap={"a.example"=[]}', "names no address", id="an empty bootstrap"),
        pytest.param('dns.bootstrap={"a.example"=["b"]}', "must be an IPv4 or IPv6 address", id="a name as bootstrap"),
        pytest.param("dns.controld=../x", "UID", id="no UID"),
        pytest.param("dns.controld_client.mac=1234", "dns.controld_client.mac = ", id="no MAC address"),
        pytest.param("dns.controld_client.ip=x", "must be an IPv4 or IPv6 address", id="no address of a client"),
        pytest.param('dns.controld_client.host="a\\nb"', "printable ASCII", id="a header in two lines"),
        pytest.param("dns.controld_client.host=laptop", None, id="the free resolver is Control D's"),
        pytest.param("dns.controld_client.hots=x", "dns.controld_client.host", id="a misspelt key below a table"),
        pytest.param('deny.names=["a..b"]', "deny.names[0]", id="a name with an empty label"),
        pytest.param('deny.lists=["ads.txt"]', "deny.lists[0]", id="a list by a relative path"),
        pytest.param('allow.lists=["ftp://a.example/x"]', "an absolute path or a URL", id="a list over FTP"),
        pytest.param('deny.lists=["https:///x"]', "names no host", id="a list of nobody"),
        pytest.param('deny.lists=["https://a.example:0/x"]', "no valid port", id="a list at no port"),
        pytest.param('deny.lists=["/etc/"]', "is no file", id="a folder as list"),
        pytest.param('deny.lists=["/etc/x", "https://a.example/x?y=z"]', None, id="a file and a URL"),
        pytest.param('dns.encrypted_names=["a b"]', "dns.encrypted_names[0]", id="a resolver's name that is none"),
        pytest.param("lists.cache=x", "must be an absolute path", id="a relative folder for what is fetched"),
        pytest.param("lists.tls_ca=/none", "no such file", id="no certificates for lists"),
        pytest.param("lists.refresh=1", "lists.refresh", id="lists fetched each second"),
        pytest.param("whitelist.store=mysql://x", "memory://, redis://", id="an unknown store"),
        pytest.param("whitelist.store=redis://a,b", "Redis Sentinel and Cluster are not supported", id="two servers"),
        pytest.param("whitelist.tls_ca=/nonexistent", "no such file", id="no file of a CA"),
        pytest.param("whitelist.tls_ca=/etc/passwd", "goes with a store rediss://", id="a CA without TLS"),
        pytest.param('whitelist.prefix="a b"', "whitelist.prefix", id="a blank in a prefix"),
        pytest.param("whitelist.scope=x", "must be one of", id="no such scope"),
        pytest.param("capture.name=a/b", "must be a namespace's name", id="a slash in a namespace's name"),
    ],
)
def test_an_impossible_value_is_refused(setting: str, said: str | None) -> None:
    if said is None:
        load(None, [setting], {})
        return
    with pytest.raises(ConfigError) as raised:
        load(None, [setting], {})
    assert said in str(raised.value)


def test_a_namespace_to_join_may_be_a_path() -> None:
    config = load(None, ["capture.kind=name", "capture.name=/proc/self/ns/net"], {})
    assert list(problems(config)) == []


def test_a_bootstrap_makes_a_host_known() -> None:
    load(None, ['dns.upstreams=["https://a.example/"]', 'dns.bootstrap."a.example"=["198.18.0.2"]'], {})


@pytest.mark.parametrize(
    ("settings", "upstreams"),
    [
        pytest.param([], [Upstream("https", "freedns.controld.com", 443, "/p1")], id="the free resolver"),
        pytest.param(
            ["dns.controld=abc"],
            [Upstream("https", "dns.controld.com", 443, "/abc")],
            id="a UID instead of the default",
        ),
        pytest.param(
            ["dns.controld=abc", 'dns.upstreams=["udp://198.18.0.2"]'],
            [Upstream("https", "dns.controld.com", 443, "/abc"), Upstream("udp", "198.18.0.2", 53)],
            id="a UID before what is written",
        ),
    ],
)
def test_the_upstreams_are_those_of_controld_and_those_written(settings: list[str], upstreams: list[Upstream]) -> None:
    assert effective_upstreams(load(None, settings, {})) == upstreams


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ('["127.0.0.1:53", "[::1]:53"]', None),
        ("[]", "answers nowhere"),
        ('["127.0.0.1"]', "must be ADDRESS:PORT"),
        ('["localhost:53"]', "must be an IPv4 or IPv6 address"),
        ('["127.0.0.1:53", "127.0.0.1:53"]', 'dns.listen[1] = "127.0.0.1:53" (-s): is there twice'),
    ],
    ids=["two", "none", "no port", "a name", "one twice"],
)
def test_where_the_dns_proxy_listens(listen: str, said: str | None) -> None:
    if said is None:
        load(None, ["mode=dns", f"dns.listen={listen}"], {})
        return
    with pytest.raises(ConfigError) as raised:
        load(None, ["mode=dns", f"dns.listen={listen}"], {})
    assert said in str(raised.value)


def test_who_is_not_controld_is_told_nothing() -> None:
    with pytest.raises(ConfigError, match="nobody is told"):
        load(None, ['dns.upstreams=["udp://198.18.0.2"]', "dns.controld_client.host=laptop"], {})


LISTEN = "links.listen=tcp://198.18.7.1:5700"
CONNECT = "links.connect=tcp://198.18.7.1:5700"
KEY = "0123456789abcdef" * 4
SERVER_KEY = f"links.server_key={KEY}"
PEERS = f"links.peers.web2={KEY}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param([LISTEN], "links.listen = .*could read and forge.*netstack keys FILE.*insecure", id="no key"),
        pytest.param([CONNECT], "links.connect = .*could read and forge", id="no key for it"),
        pytest.param(["links.listen=tcp://0.0.0.0:5700"], "could read and forge", id="every address is not loopback"),
        pytest.param(["links.listen=tcp://[::]:5700"], "could read and forge", id="every IPv6 address neither"),
        pytest.param([LISTEN, "links.insecure=true"], None, id="no key, as one wants it"),
        pytest.param(["links.listen=tcp://127.0.0.1:5700"], None, id="loopback"),
        pytest.param(["links.connect=tcp://[::1]:5700"], None, id="IPv6 loopback"),
        pytest.param([LISTEN, "links.key_file=@", PEERS], None, id="listening with keys"),
        pytest.param([CONNECT, "links.key_file=@", SERVER_KEY], None, id="connecting with keys"),
        pytest.param([LISTEN, CONNECT, "links.insecure=true"], "links.connect .*remove one", id="both ends at once"),
        pytest.param([LISTEN, "links.key_file=@"], "links.peers = .*names nobody", id="nobody may connect"),
        pytest.param([CONNECT, "links.key_file=@"], "links.server_key = .*is missing", id="no key of the other host"),
        pytest.param([LISTEN, "links.key_file=/nowhere/key", PEERS], "no such file; make it:", id="no file"),
        pytest.param([LISTEN, "links.key_file=@", PEERS, "links.insecure=true"], "remove one", id="keys, and insecure"),
        pytest.param([LISTEN, "links.key_file=@", "links.peers.a=xyz"], "links.peers.a = .*64 hexa", id="no key"),
        pytest.param([CONNECT, "links.key_file=@", "links.server_key=12"], "64 hexadecimal", id="too short a key"),
        pytest.param([CONNECT, SERVER_KEY, "links.insecure=true"], "no effect without links.key_file", id="one key"),
        pytest.param(["links.insecure=true"], "no effect without links.listen or links.connect", id="insecure alone"),
        pytest.param(["links.key_file=@"], "no effect without links.listen or links.connect", id="a key alone"),
        pytest.param([CONNECT, "links.key_file=@", SERVER_KEY, PEERS], "links.peers .*links.listen", id="vain peers"),
        pytest.param(["links.listen=198.18.7.1:5700"], "must be tcp://ADDRESS:PORT", id="no scheme"),
        pytest.param(["links.listen=ipc:///x"], "must be tcp://ADDRESS:PORT", id="another scheme"),
        pytest.param(["links.listen=tcp://gateway:5700"], "must be tcp://ADDRESS:PORT", id="a name"),
        pytest.param(["links.listen=tcp://2001:db8::1:5700"], "must be tcp://ADDRESS:PORT", id="no brackets"),
        pytest.param(["links.listen=tcp://198.18.7.1:65532"], "65531 at most", id="no room for five ports"),
        pytest.param(["links.listen=tcp://239.1.1.1:5700"], "multicast", id="multicast"),
        pytest.param(["links.connect=tcp://0.0.0.0:5700"], "an address of the other host", id="no address"),
    ],
)  # fmt: skip
def test_links_between_hosts_are_between_known_ones(tmp_path: Path, settings: list[str], said: str | None) -> None:
    generate(tmp_path / "key")
    settings = [setting.replace("@", str(tmp_path / "key")) for setting in settings]
    if said is None:
        load(None, settings, {})
        return
    with pytest.raises(ConfigError, match=said):
        load(None, settings, {})


def test_a_file_of_authorities_must_exist(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="no such file"):
        load(None, [f"dns.tls_ca={path}"], {})
    path.write_text("")
    load(None, [f"dns.tls_ca={path}"], {})
