"""Addresses, routes and links of a captured namespace, and the few settings of its kernel."""

import errno
import ipaddress
import socket
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netstack.cli.sandbox_messages import SandboxError
from netstack.runtime.config import Tun

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

# What waits while tun_io is not scheduled; what is beyond is lost. The kernel gives an Ethernet device as much
# (DEFAULT_TX_QUEUE_LEN) and a TUN half of it. At 100,000 packets a second it is 10 ms: longer than a turn of the
# scheduler, and short enough that a sender who fills it is not slowed by its own queue.
QUEUE_LENGTH: Final = 1000  # packets

_NO_LINK_LOCAL: Final = 1  # IN6_ADDR_GEN_MODE_NONE, <linux/if_link.h>
_IFA_F_NODAD: Final = 0x02  # <linux/if_addr.h>
_IFF_UP: Final = 0x1
_NO_IPV6: Final = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Addresses:
    """tun.addresses and tun.dns, parsed."""

    v4: tuple[IPv4Interface, ...]
    v6: tuple[IPv6Interface, ...]


def parse_addresses(tun: Tun) -> Addresses:
    """SandboxError where they cannot work together."""
    try:
        interfaces = [ipaddress.ip_interface(text) for text in tun.addresses]
        dns = ipaddress.ip_address(tun.dns)
    except ValueError as error:
        raise SandboxError(f"tun.addresses or tun.dns: {error}") from None
    found = Addresses(
        tuple(each for each in interfaces if isinstance(each, IPv4Interface)),
        tuple(each for each in interfaces if isinstance(each, IPv6Interface)),
    )
    if not (found.v4 if dns.version == 4 else found.v6):
        raise SandboxError(f"tun.dns {dns} cannot be reached: tun.addresses has no IPv{dns.version} address; add one")
    if any(each.ip == dns for each in interfaces):
        raise SandboxError(
            f"tun.dns {dns} is one of tun.addresses, so queries would never reach the TUN: "
            "choose another address for tun.dns, for example one of the same prefix"
        )
    return found


def configure_own(tun: Tun, addresses: Addresses, ping_groups: str) -> list[str]:
    """Set up the TUN in a namespace that we made. ping_groups: who may use ping sockets, `GID GID`.

    Returns what could not be had. pyroute2 keeps no thread; the process may fork afterwards.
    """
    write_setting("net/ipv4/ping_group_range", ping_groups)
    return _configure(tun, addresses, own=True)


def configure_joined(tun: Tun, addresses: Addresses) -> list[str]:
    """Set up the TUN in a namespace that was there: nothing but the TUN and routes through it is changed."""
    return _configure(tun, addresses, own=False)


def write_setting(path: str, value: str) -> bool:
    """Write below /proc/sys. False where this kernel has no such setting, or it is read-only as in containers."""
    try:
        (Path("/proc/sys") / path).write_text(value)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EROFS, errno.EACCES, errno.EPERM):
            return False
        raise
    return True


def set_alias(name: str, text: str) -> None:
    """Give a link of the calling process's namespace an alias, a comment that the kernel keeps."""
    from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415

    with IPRoute() as route:
        route.link("set", index=_index(name), IFLA_IFALIAS=text)


def alias(name: str) -> str:
    """That alias, empty if it has none."""
    from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415

    with IPRoute() as route:
        return next(iter(route.get_links(_index(name)))).get_attr("IFLA_IFALIAS") or ""


def _configure(tun: Tun, addresses: Addresses, *, own: bool) -> list[str]:
    # Here, for it takes 80 ms and 20 MB that the supervisor need not pay.
    from pyroute2.iproute.linux import IPRoute  # noqa: PLC0415
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    step = "open netlink"
    try:
        with IPRoute() as route:
            warnings: list[str] = []
            if own:
                route.link("set", index=_index("lo"), state="up")
            else:
                step = "look at the other links"
                warnings += _check_other_links(route, tun.name)
            step = f"bring up {tun.name}"
            _link_up(route, tun)
            step = f"add the addresses {', '.join(tun.addresses)}"
            for v4 in addresses.v4:
                route.addr("add", index=_index(tun.name), address=str(v4.ip), prefixlen=v4.network.prefixlen)
            has_v6 = bool(addresses.v6) and _add_v6(route, tun, addresses, warnings)
            step = f"add the default routes through {tun.name}"
            if addresses.v4:
                route.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=_index(tun.name), scope="link")
            if has_v6:
                route.route("add", family=socket.AF_INET6, dst="::/0", oif=_index(tun.name))
            return warnings
    except NetlinkError as error:
        remedy = " (in a container: --cap-add NET_ADMIN)" if error.code == errno.EPERM else ""
        raise SandboxError(f"cannot {step}: {error.args[1]}{remedy}") from None


def _link_up(route: "IPRoute", tun: Tun) -> None:
    # No link-local address, no router solicitations: only the command's own packets are to come out of the TUN.
    quiet = f"net/ipv6/conf/{tun.name}"
    write_setting(f"{quiet}/disable_ipv6", "0")
    write_setting(f"{quiet}/addr_gen_mode", str(_NO_LINK_LOCAL))
    write_setting(f"{quiet}/router_solicitations", "0")
    write_setting(f"{quiet}/accept_ra", "0")
    write_setting(f"{quiet}/autoconf", "0")
    route.link("set", index=_index(tun.name), mtu=tun.mtu, txqlen=QUEUE_LENGTH, state="up")


def _add_v6(route: "IPRoute", tun: Tun, addresses: Addresses, warnings: list[str]) -> bool:
    """Whether there is IPv6. Without it the namespace has none, which leaks nothing, but has to be said."""
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        for v6 in addresses.v6:
            route.addr(
                "add", index=_index(tun.name), address=str(v6.ip), prefixlen=v6.network.prefixlen, flags=_IFA_F_NODAD
            )
    except NetlinkError as error:
        if error.code not in _NO_IPV6 or not addresses.v4:
            raise
        warnings.append(
            f"no IPv6 in the captured namespace: {', '.join(map(str, addresses.v6))}: {error.args[1]} "
            "(the kernel has IPv6 disabled; in a container: --sysctl net.ipv6.conf.all.disable_ipv6=0)"
        )
        return False
    return True


def _check_other_links(route: "IPRoute", name: str) -> list[str]:
    """SandboxError where a default route leads elsewhere; the names of other links that are up, for those leak."""
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in route.get_links()}
    for entry in route.get_default_routes():
        other = names.get(entry.get_attr("RTA_OIF"), "another link")
        raise SandboxError(
            f"the namespace already has a default route, through {other}: its packets would not be captured. "
            f"Remove it with `ip route del default dev {other}`, or join a namespace that has no network of its own"
        )
    up = [link.get_attr("IFLA_IFNAME") for link in route.get_links() if link["flags"] & _IFF_UP]
    others = sorted(set(up) - {"lo", name})
    return [f"not captured: what is reached directly through {', '.join(others)} of that namespace"] if others else []


def _index(name: str) -> int:
    return socket.if_nametoindex(name)
