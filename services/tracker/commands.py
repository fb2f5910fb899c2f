"""What commands ask of the tracker: leases, why, allow, deny, revoke, pause."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from typing import Protocol

from netstack.runtime.namerulings import covers
from netstack.runtime.values import parse_name
from netstack.wire.messages import Explain, Forbid, ListLeases, Message, Pause, Permit, Revoke, Revoked, Told
from netstack.wire.reports import (
    LEASES_PER_PART,
    DoneReport,
    LeaseReports,
    WhyReport,
    encode,
)
from services.tracker.endpoints import parse_rule, rule_text
from services.tracker.explain import Explainer, Facts, Target, lease_report, parse_target
from services.tracker.leases import Lease
from services.tracker.names import normalize
from services.tracker.policy import COMMANDED
from services.tracker.refused import RefusedTable
from services.tracker.rules import Ended, Rules, RulesFullError
from services.tracker.store import ANSWER_WITHIN, Store, StoreDownError

MAX_SECONDS = 365 * 86400.0

_AT_ONCE = 1024  # leases looked at in one go; 2 ms or so

_log = logging.getLogger(__name__)

Reply = Callable[[Told | Revoked], None]


class Surroundings(Protocol):
    """What a command needs of the tracker."""

    def now(self) -> float:
        """In the clock of leases."""

    def end(self, addresses: Sequence[bytes], *, cut: bool) -> None:
        """Tell the forwarders that these leases are over, and whether to cut flows."""

    def rules_changed(self) -> None:
        """Keep the rules, and tell dns_filter and `netstack status`."""

    def is_withheld(self, address: bytes) -> bool:
        """Whether it was the answer for a resolver's name."""

    def is_store_down(self) -> bool:
        """Whether the store does not answer."""


class Commands:
    """Carries them out."""

    def __init__(
        self, around: Surroundings, store: Store, rules: Rules, explainer: Explainer, refused: RefusedTable
    ) -> None:
        self._around = around
        self._store = store
        self._rules = rules
        self._explainer = explainer
        self._refused = refused

    async def carry_out(self, asked: Message, reply: Reply) -> None:
        """Do what a command asks, and tell it what came of it."""
        match asked:
            case Permit():
                self.permit(asked, reply)
            case Pause():
                self.pause(asked, reply)
            case Forbid():
                await self.forbid(asked, reply)
            case Revoke():
                await self.revoke(asked, reply)
            case Explain():
                await self.explain(asked, reply)
            case ListLeases():
                await self.list_leases(asked, reply)

    async def explain(self, asked: Explain, reply: Reply) -> None:
        """`netstack why`."""
        try:
            target = parse_target(asked.target)
        except ValueError as error:
            reply(_failed(asked.request, asked.target, str(error)))
            return
        facts = Facts(
            leases=await self._leases_of(target),
            refused=self._refused.get(target.name if target.endpoint is None else target.endpoint.address),
            withheld=target.endpoint is not None and self._around.is_withheld(target.endpoint.address),
            store_down=self._around.is_store_down(),
            now=self._around.now(),
        )
        reply(_done(asked.request, self._explainer.explain(target, facts)))

    async def list_leases(self, asked: ListLeases, reply: Reply) -> None:
        """`netstack leases`."""
        if asked.target:
            try:
                parts = iter([await self._leases_of(parse_target(asked.target))])
            except ValueError as error:
                reply(_failed(asked.request, asked.target, str(error)))
                return
        else:
            parts = self._parts(LEASES_PER_PART)
        for part in parts:
            for at in range(0, len(part), LEASES_PER_PART):
                self._report(asked.request, part[at : at + LEASES_PER_PART], reply, more=True)
                await asyncio.sleep(0)  # others get their turn between
        self._report(asked.request, [], reply, more=False)

    def permit(self, asked: Permit, reply: Reply) -> None:
        """`netstack allow`."""
        try:
            until = self._until(asked.seconds)
            name = _name(asked.target)
            if name:
                self._rules.rule_name(name, allowed=True, until=until)
                self._refused.forget(name)
                text, what = name, "its addresses open when it is asked for the next time"
            else:
                rule = parse_rule(asked.target)
                self._rules.permit_endpoint(rule, until)
                self._refused.forget(rule.network.network_address.packed)
                text, what = rule_text(rule), "it is open now"
        except (ValueError, RulesFullError) as error:
            reply(_failed(asked.request, asked.target, str(error)))
            return
        self._around.rules_changed()
        _log.info("a command allowed a name or an endpoint")
        done = DoneReport(done=f"allowed {text}: {what}", target=text, expires_in=asked.seconds or None)
        reply(_done(asked.request, done))

    async def forbid(self, asked: Forbid, reply: Reply) -> None:
        """`netstack deny`."""
        try:
            until = self._until(asked.seconds)
            pattern = _deniable(asked.target)
            self._rules.rule_name(pattern, allowed=False, until=until)
        except (ValueError, RulesFullError) as error:
            reply(_failed(asked.request, asked.target, str(error)))
            return
        # dns_filter first, and the tracker by its own copy: from here on nothing of it is leased any more.
        self._around.rules_changed()
        ended = await self.denied([pattern])
        _log.info("a command denied a name; %d leases revoked", len(ended))
        done = DoneReport(
            done=f"denied {pattern} and all names below it: NXDOMAIN from now on",
            target=pattern,
            expires_in=asked.seconds or None,
            revoked=list(map(_text, ended)),
        )
        reply(_done(asked.request, done))

    def pause(self, asked: Pause, reply: Reply) -> None:
        """`netstack pause`."""
        if not 0 <= asked.seconds <= MAX_SECONDS:
            reply(_failed(asked.request, str(asked.seconds), "must be from 0 to 365 days"))
            return
        was = self._rules.paused_until > self._around.now()
        self._rules.paused_until = self._around.now() + asked.seconds if asked.seconds else 0.0
        self._around.rules_changed()
        if asked.seconds:
            _log.warning("paused for %g s: nothing is refused", asked.seconds)
            done = DoneReport(done="paused: this instance refuses nothing but QUIC", expires_in=asked.seconds)
        else:
            _log.info("a command ended the pause")
            done = DoneReport(done="the pause is over" if was else "there was no pause")
        reply(_done(asked.request, done))

    async def revoke(self, asked: Revoke, reply: Reply) -> None:
        """`netstack revoke`: rules of commands and leases, and the flows that use them."""
        try:
            address = ip_address(asked.target.strip("[]")).packed
        except ValueError:
            ended = await self._revoke_name_or_endpoint(asked.target)
        else:
            self._forget(_text(address))
            ended = await self._store.revoke(address)
            # A flow may outlive its lease: where an address was named, flows to it are cut in any case.
            self._around.end(list(dict.fromkeys([*ended, address])), cut=True)
        _log.info("%d leases revoked", len(ended))
        reply(Revoked(asked.request, len(ended)))

    async def denied(self, patterns: Sequence[str]) -> list[bytes]:
        """These names are denied from now on: their leases end, with the flows that use them."""
        about = (
            await self._leased(lambda lease: any(_is_about(lease, pattern) for pattern in patterns)) if patterns else []
        )
        return await self._revoke_each(about, cut=True)

    async def over(self, ended: Ended) -> None:
        """What a command allowed is over: its leases end, and established flows go on."""
        for pattern in ended.allowed_names:
            await self._end_commanded(pattern, cut=False)

    async def _revoke_name_or_endpoint(self, text: str) -> list[bytes]:
        try:
            rule = parse_rule(text)
        except ValueError:
            return await self._revoke_name(normalize(text))
        if self._forget(rule_text(rule)):
            self._around.end([rule.network.network_address.packed], cut=True)
        return []

    async def _revoke_name(self, name: str) -> list[bytes]:
        ended: dict[bytes, None] = {}
        was_allowed = name in self._rules.names.patterns(allowed=True)
        if self._forget(name) and was_allowed:
            ended.update(dict.fromkeys(await self._end_commanded(name, cut=True)))
        named = await self._store.revoke(name)
        if named:
            self._around.end(named, cut=True)
        return [*ended, *(address for address in named if address not in ended)]

    async def _end_commanded(self, pattern: str, *, cut: bool) -> list[bytes]:
        about = await self._leased(
            lambda lease: lease.origin.rule == COMMANDED and any(covers(pattern, name) for name in lease.names)
        )
        return await self._revoke_each(about, cut=cut)

    async def _revoke_each(self, addresses: Iterable[bytes], *, cut: bool) -> list[bytes]:
        ended: dict[bytes, None] = {}
        for each in await asyncio.gather(*map(self._store.revoke, addresses)):
            ended.update(dict.fromkeys(each))
        if ended:
            self._around.end(list(ended), cut=cut)
        return list(ended)

    def _forget(self, target: str) -> bool:
        had = self._rules.forget(target)
        if had:
            self._around.rules_changed()
        return had

    async def _leases_of(self, target: Target) -> list[tuple[bytes, Lease]]:
        if target.endpoint is None:
            addresses = self._store.leases.siblings(target.name)
        else:
            addresses = [target.endpoint.address]
        found = []
        for address in addresses:
            lease = self._store.live(address)
            if lease is None and not self._store.complete:
                try:
                    async with asyncio.timeout(ANSWER_WITHIN):
                        lease = await self._store.find(address)
                except (StoreDownError, TimeoutError):
                    lease = None
            if lease is not None:
                found.append((address, lease))
        return found

    async def _leased(self, is_meant: Callable[[Lease], bool]) -> list[bytes]:
        """The addresses of some of the leases."""
        meant: list[bytes] = []
        for part in self._parts(_AT_ONCE):
            meant += [address for address, lease in part if is_meant(lease)]
            await asyncio.sleep(0)
        return meant

    def _parts(self, size: int) -> Iterator[list[tuple[bytes, Lease]]]:
        """All live leases, some at a time: there may be a million, and others must get their turn between."""
        known = self._store.leases.addresses()
        for at in range(0, len(known), size):
            found = ((address, self._store.live(address)) for address in known[at : at + size])
            yield [(address, lease) for address, lease in found if lease is not None]

    def _report(self, request: int, part: Iterable[tuple[bytes, Lease]], reply: Reply, *, more: bool) -> None:
        now = self._around.now()
        reports = LeaseReports(leases=[lease_report(address, lease, now) for address, lease in part])
        reply(Told(request, ok=True, more=more, report=encode(reports)))

    def _until(self, seconds: float) -> float:
        if not 0 <= seconds <= MAX_SECONDS:
            raise ValueError("--for must be from 1 s to 365 days")
        return self._around.now() + seconds if seconds else math.inf


def _is_about(lease: Lease, pattern: str) -> bool:
    return any(covers(pattern, name) for name in (*lease.names, *lease.origin.chain))


def _name(text: str) -> str:
    """The name that a text is; empty where it is an address. Raises ValueError for a name that cannot stand so."""
    try:
        return parse_target(text).name
    except ValueError:
        if _is_about_addresses(text):
            return ""
        raise


def _deniable(text: str) -> str:
    try:
        is_address = parse_target(text).endpoint is not None
    except ValueError:
        is_address = False  # it is a wildcard, or wrong
    if is_address:
        raise ValueError(
            "an address is closed unless a name was answered with it; deny the name, or revoke the address"
        )
    return normalize(parse_name(text))


def _is_about_addresses(text: str) -> bool:
    try:
        parse_rule(text)
    except ValueError:
        return text[:1] == "[" or text[:1].isdigit()
    return True


def _done(request: int, report: WhyReport | DoneReport) -> Told:
    return Told(request, ok=True, more=False, report=encode(report))


def _failed(request: int, target: str, why: str) -> Told:
    return Told(request, ok=False, more=False, report=f"{target[:100]}: {why}")


def _text(address: bytes) -> str:
    return str(ip_address(address))
