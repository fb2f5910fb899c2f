"""What the tracker tells commands: structs that travel as JSON in `Told`, and are what --json prints.

Times are Unix time in seconds, so that they mean something outside of the host; durations are seconds from now.
"""

from typing import Final, TypeVar

import msgspec

LEASES_PER_PART: Final = 500
"""Leases in one `Told`: some 100 KiB."""


class LeaseReport(msgspec.Struct, kw_only=True):
    """One address's lease."""

    address: str
    names: list[str]
    """What it was answered for, oldest first."""
    chain: list[str] = []
    """The names that the last of them is an alias of, in order (CNAME)."""
    client: str = ""
    """Who asked for that one."""
    learned_at: float = 0.0
    """When it was answered; 0 where that is not known."""
    rule: str = ""
    """Why it was leased: answer, allow.names, dns.private_names, `netstack allow`."""
    expires_in: float = 0.0
    clients: list[str] = []
    """With whitelist.scope = "client", those for whom it is open."""


class LeaseReports(msgspec.Struct, kw_only=True):
    """Some of the leases."""

    leases: list[LeaseReport]


class RefusalReport(msgspec.Struct, kw_only=True):
    """The last time that something was refused."""

    reason: str
    detail: str
    client: str
    at: float
    count: int


class WhyReport(msgspec.Struct, kw_only=True):
    """Whether a name or an endpoint is open, and why."""

    target: str
    open: bool
    reason: str = ""
    """The slug of the refusal, where it is closed."""
    because: str
    """In words: the rule."""
    expires_in: float | None = None
    """How long it stays open; None where that has no end."""
    leases: list[LeaseReport] = []
    refused: RefusalReport | None = None
    notes: list[str] = []
    """What else is to be known, one sentence each."""
    remedies: list[str] = []
    """What to type to open it, or to close it where it is open; the best first."""


class DoneReport(msgspec.Struct, kw_only=True):
    """What a command has done."""

    done: str
    """In words."""
    target: str = ""
    expires_in: float | None = None
    """None where it has no end, or is over."""
    revoked: list[str] = []
    """Addresses that lost their lease by it."""


_Report = TypeVar("_Report", LeaseReports, WhyReport, DoneReport)


def encode(report: LeaseReports | WhyReport | DoneReport) -> str:
    """The text that travels."""
    return msgspec.json.encode(report).decode()


def decode(text: str, kind: type[_Report]) -> _Report:
    """Raises msgspec.DecodeError for a text that is no such report."""
    return msgspec.json.decode(text, type=kind)
