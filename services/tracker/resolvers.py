"""Public resolvers that speak encrypted DNS: their addresses and names.

A program that reached one of these would resolve names past the filter. The lists hold what the operators publish, as
collected in "Known DNS providers" (github.com/AdguardTeam/KnowledgeBaseDNS, docs/general/dns-providers.md), and the
operators' own pages named beside them. They cannot be complete: what is not listed is still not reachable before a name
was answered with it.
"""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from services.tracker.names import NameSet

_ADDRESSES: Final = """
    8.8.8.8 8.8.4.4 2001:4860:4860::8888 2001:4860:4860::8844  # Google: developers.google.com/speed/public-dns
    2001:4860:4860::64 2001:4860:4860::6464  # Google, DNS64

    1.1.1.1 1.0.0.1 2606:4700:4700::1111 2606:4700:4700::1001  # Cloudflare: developers.cloudflare.com/1.1.1.1
    1.1.1.2 1.0.0.2 2606:4700:4700::1112 2606:4700:4700::1002  # Cloudflare, malware
    1.1.1.3 1.0.0.3 2606:4700:4700::1113 2606:4700:4700::1003  # Cloudflare, families
    2606:4700:4700::64 2606:4700:4700::6400  # Cloudflare, DNS64
    104.16.248.249 104.16.249.249 2606:4700::6810:f8f9 2606:4700::6810:f9f9  # cloudflare-dns.com
    162.159.61.4 172.64.41.4 2803:f800:53::4 2a06:98c1:52::4  # mozilla.cloudflare-dns.com
    162.159.61.3 172.64.41.3 2803:f800:53::3 2a06:98c1:52::3  # chrome.cloudflare-dns.com

    9.9.9.9 149.112.112.112 2620:fe::fe 2620:fe::9  # Quad9: quad9.net/service/service-addresses-and-features
    9.9.9.10 149.112.112.10 2620:fe::10 2620:fe::fe:10  # Quad9, unsecured
    9.9.9.11 149.112.112.11 2620:fe::11 2620:fe::fe:11  # Quad9, ECS
    9.9.9.12 149.112.112.12 2620:fe::12 2620:fe::fe:12  # Quad9, unsecured with ECS

    208.67.222.222 208.67.220.220 2620:119:35::35 2620:119:53::53  # OpenDNS: opendns.com/setupguide
    208.67.222.123 208.67.220.123 2620:119:35::123 2620:119:53::123  # OpenDNS FamilyShield
    208.67.222.2 208.67.220.2 2620:0:ccc::2 2620:0:ccd::2  # OpenDNS sandbox
    146.112.41.2 146.112.41.3 146.112.41.5 2620:119:fc::2 2620:119:fc::3 2620:119:fc::5  # doh.opendns.com and variants

    94.140.14.14 94.140.15.15 2a10:50c0::ad1:ff 2a10:50c0::ad2:ff  # AdGuard: adguard-dns.io/en/public-dns.html
    94.140.14.15 94.140.15.16 2a10:50c0::bad1:ff 2a10:50c0::bad2:ff  # AdGuard, families
    94.140.14.140 94.140.14.141 2a10:50c0::1:ff 2a10:50c0::2:ff  # AdGuard, unfiltered

    185.228.168.168 185.228.169.168 2a0d:2a00:1:: 2a0d:2a00:2::  # CleanBrowsing, families: cleanbrowsing.org/filters
    185.228.168.10 185.228.169.11 2a0d:2a00:1::1 2a0d:2a00:2::1  # CleanBrowsing, adult
    185.228.168.9 185.228.169.9 2a0d:2a00:1::2 2a0d:2a00:2::2  # CleanBrowsing, security

    86.54.11.1 86.54.11.201 2a13:1001::86:54:11:1 2a13:1001::86:54:11:201  # DNS4EU: joindns4.eu/for-public
    86.54.11.12 86.54.11.212 2a13:1001::86:54:11:12 2a13:1001::86:54:11:212  # DNS4EU, children
    86.54.11.13 86.54.11.213 2a13:1001::86:54:11:13 2a13:1001::86:54:11:213  # DNS4EU, advertisements
    86.54.11.11 86.54.11.211 2a13:1001::86:54:11:11 2a13:1001::86:54:11:211  # DNS4EU, children and advertisements
    86.54.11.100 86.54.11.200 2a13:1001::86:54:11:100 2a13:1001::86:54:11:200  # DNS4EU, unfiltered

    194.242.2.2 194.242.2.3 194.242.2.4 194.242.2.5  # Mullvad: mullvad.net/help/dns-over-https-and-dns-over-tls
    194.242.2.6 194.242.2.9 2a07:e340::2 2a07:e340::3 2a07:e340::4 2a07:e340::5 2a07:e340::6 2a07:e340::9

    185.222.222.222 45.11.45.11 2a09:: 2a11::  # DNS.SB: dns.sb
    193.110.81.0 185.253.5.0 2a0f:fc80:: 2a0f:fc81::  # dns0.eu
    74.82.42.42 2001:470:20::2  # Hurricane Electric: dns.he.net
    194.169.169.169 2a09:a707:169::  # Surfshark
    185.71.138.138 2001:67c:930::1  # Wikimedia: wikimedia-dns.org
    149.112.121.10 149.112.122.10 2620:10a:80bb::10 2620:10a:80bc::10  # CIRA Canadian Shield, private
    149.112.121.20 149.112.122.20 2620:10a:80bb::20 2620:10a:80bc::20  # CIRA, protected
    149.112.121.30 149.112.122.30 2620:10a:80bb::30 2620:10a:80bc::30  # CIRA, families
    193.17.47.1 185.43.135.1 2001:148f:ffff::1 2001:148f:fffe::1  # CZ.NIC ODVR: nic.cz/odvr
    185.95.218.42 185.95.218.43 2a05:fc84::42 2a05:fc84::43  # Digitale Gesellschaft
    130.59.31.248 2001:620:0:ff::2  # SWITCH
    89.233.43.71 91.239.100.100 2a01:3a0:53:53:: 2001:67c:28a4::  # UncensoredDNS
    116.202.176.26  # LibreDNS
    101.101.101.101 101.102.103.104 2001:de4::101 2001:de4::102  # Quad101: 101.101.101.101

    223.5.5.5 223.6.6.6 2400:3200::1 2400:3200:baba::1  # Alibaba: alidns.com
    119.29.29.29 1.12.12.12 120.53.53.53 2402:4e00::  # DNSPod: dnspod.cn/products/publicdns
    77.88.8.8 77.88.8.1 2a02:6b8::feed:ff 2a02:6b8:0:1::feed:ff  # Yandex: dns.yandex.com
    77.88.8.88 77.88.8.2 2a02:6b8::feed:bad 2a02:6b8:0:1::feed:bad  # Yandex, safe
    77.88.8.7 77.88.8.3 2a02:6b8::feed:a11 2a02:6b8:0:1::feed:a11  # Yandex, families
"""

# Where an operator gives each customer an address of its own.
_NETWORKS: Final = """
    45.90.28.0/24 45.90.30.0/24 2a07:a8c0::/32 2a07:a8c1::/32  # NextDNS: my.nextdns.io
    76.76.2.0/24 76.76.10.0/24 2606:1a40::/48 2606:1a40:1::/48  # Control D: docs.controld.com
"""

# Each stands for all names below it, too: some operators give each customer a name of its own.
_NAMES: Final = """
    dns.google dns.google.com dns64.dns.google
    cloudflare-dns.com one.one.one.one dns.cloudflare.com cloudflare-gateway.com
    dns.quad9.net dns9.quad9.net dns10.quad9.net dns11.quad9.net dns12.quad9.net
    doh.opendns.com dns.opendns.com doh.familyshield.opendns.com familyshield.opendns.com doh.sandbox.opendns.com
    sandbox.opendns.com dns.umbrella.com doh.umbrella.com
    dns.adguard-dns.com family.adguard-dns.com unfiltered.adguard-dns.com d.adguard-dns.com dns.adguard.com
    dns-family.adguard.com dns-unfiltered.adguard.com
    dns.nextdns.io anycast.dns.nextdns.io doh3.dns.nextdns.io
    freedns.controld.com dns.controld.com
    doh.cleanbrowsing.org family-filter-dns.cleanbrowsing.org adult-filter-dns.cleanbrowsing.org
    security-filter-dns.cleanbrowsing.org
    protective.joindns4.eu child.joindns4.eu noads.joindns4.eu child-noads.joindns4.eu unfiltered.joindns4.eu
    dns.mullvad.net doh.mullvad.net
    doh.dns.sb dot.sb dns0.eu
    ordns.he.net dns.surfsharkdns.com wikimedia-dns.org
    canadianshield.cira.ca odvr.nic.cz dns.digitale-gesellschaft.ch dns.switch.ch
    doh.applied-privacy.net dot1.applied-privacy.net doh.libredns.gr dot.libredns.gr
    unicast.censurfridns.dk anycast.censurfridns.dk public.dns.iij.jp
    basic.rethinkdns.com max.rethinkdns.com sky.rethinkdns.com
    ada.openbld.net ric.openbld.net dns.decloudus.com dns.cert.ee
    dns.alidns.com dns.pub doh.pub dot.pub doh.360.cn dot.360.cn doh.onedns.net dot.onedns.net
    doh-pure.onedns.net dot-pure.onedns.net
    common.dot.dns.yandex.net safe.dot.dns.yandex.net family.dot.dns.yandex.net dns.comss.one router.comss.one
    doh.dns.apple.com
"""


def is_resolver(address: bytes) -> bool:
    """Whether a packed address is that of a public resolver that speaks encrypted DNS."""
    if address in _RESOLVERS:
        return True
    number = int.from_bytes(address, "big")
    for shift, prefixes in _PREFIXES.get(len(address), ()):  # noqa: SIM110 - each answer comes by here
        if number >> shift in prefixes:
            return True
    return False


def _words(table: str) -> list[str]:
    return [word for line in table.splitlines() for word in line.partition("#")[0].split()]


def _prefixes(networks: list[IPv4Network | IPv6Network]) -> dict[int, list[tuple[int, frozenset[int]]]]:
    """By length of an address in octets: by how much it is shifted right, and what it may be then."""
    found: dict[tuple[int, int], set[int]] = {}
    for network in networks:
        shift = network.max_prefixlen - network.prefixlen
        found.setdefault((network.max_prefixlen // 8, shift), set()).add(int(network.network_address) >> shift)
    return {
        octets: [(shift, frozenset(known)) for (length, shift), known in found.items() if length == octets]
        for octets in (4, 16)
    }


_RESOLVERS: Final = frozenset(ip_address(word).packed for word in _words(_ADDRESSES))
_PREFIXES: Final = _prefixes([ip_network(word) for word in _words(_NETWORKS)])

RESOLVER_NAMES: Final = NameSet(_words(_NAMES))
"""The names of public resolvers that speak encrypted DNS."""
