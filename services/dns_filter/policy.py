"""What the configuration says about names and addresses. No I/O, no clock."""

from collections.abc import Sequence
from ipaddress import ip_address

from netstack.packet.scope import is_public
from netstack.runtime.config import Config
from netstack.runtime.values import Network, parse_allowed_network
from services.dns_filter.canary import Canary, canary
from services.dns_filter.lists.lookup import Lists
from services.dns_filter.names import NameSet


class Policy:
    """Which names are denied, and which addresses an answer may hold."""

    def __init__(self, config: Config) -> None:
        self._denied = NameSet(config.deny.names)
        self._allowed = NameSet(config.allow.names)
        self._private_names = NameSet(config.dns.private_names)
        self.lists = Lists()
        """What `allow.lists` and `deny.lists` say; replaced as a whole (use) when one of them changes."""
        self.is_loaded = not (config.allow.lists or config.deny.lists)
        """Whether the lists have been looked at: before that nothing can be said about a name."""
        self._canaries = config.dns.canaries
        self._networks: list[Network] = [parse_allowed_network(text).network for text in config.allow.networks]
        self.lenient = False
        """Nothing is removed, only counted (whitelist.mode audit, `netstack pause`)."""
        self.let_through = 0
        """Addresses that would have been removed."""
        self.remove_h3 = config.quic.block
        """Whether HTTPS records must not offer HTTP/3, which could only run into a refusal."""
        self.remove_ech = config.tcp.sni == "enforce"
        """Whether HTTPS records must not offer to hide the server's name, which is to be checked."""

    def denied_by(self, names: Sequence[bytes]) -> str | None:
        """The rule that denies a name or one of those it is an alias of (wire form, lower case), the asked one first.

        `allow.names` and `allow.lists` win over `deny.names` and `deny.lists`; an exception that stands in one of
        deny.lists wins over deny.lists alone. Where they cover the name that was asked, its aliases do not matter.
        """
        asked = names[0]
        lists = self.lists
        for name in names:
            rule = self._denied.match(name)
            if rule is not None:
                found: str | None = f'deny.names "{rule}"'
            else:
                found = lists.denied_by(name)
                if found is not None and lists.excepted(asked):
                    continue
            if found is not None and not self._is_allowed(name) and not self._is_allowed(asked):
                return found
        return None

    def use(self, lists: Lists) -> None:
        """Look names up in these lists from now on."""
        self.lists = lists
        self.is_loaded = True

    def canary(self, qname: bytes) -> Canary | None:
        """How to answer a name by which software asks whether to leave DNS to us; None where it is passed on."""
        found = canary(qname) if self._canaries else None
        return None if found is None or self._is_allowed(qname) else found

    def may_be_private(self, qname: bytes) -> bool:
        """Whether answers to this question may hold private addresses (`dns.private_names`).

        Only the name that was asked counts, not those it is an alias of: a stranger's alias for a printer is rebinding.
        """
        return self._private_names.match(qname) is not None

    def is_removed(self, address: bytes) -> bool:
        """Whether an address must not be in an answer to a name that may not be private (DESIGN: rebinding)."""
        removed = not is_public(address) and not self._is_listed(address)
        if removed and self.lenient:
            self.let_through += 1
            return False
        return removed

    def is_leased(self, address: bytes, *, private_name: bool) -> bool:
        """Whether an address that stays in an answer is to be leased.

        A private one that is there only because of `allow.networks` is not: that key allows it already, on the ports it
        says, and a lease would open the others.
        """
        return private_name or is_public(address)

    def _is_allowed(self, name: bytes) -> bool:
        return self._allowed.match(name) is not None or self.lists.allowed(name)

    def _is_listed(self, address: bytes) -> bool:
        if not self._networks:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)
