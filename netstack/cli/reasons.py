"""Reports of the tracker as people read them. No I/O, no clock."""

import time
from collections.abc import Sequence

from netstack.cli.words import duration
from netstack.wire.reports import DoneReport, LeaseReport, WhyReport

_HEADINGS = ["ADDRESS", "NAME", "VIA", "LEFT", "CLIENT", "RULE"]
_MAX_NAMES = 3  # shown of each lease in the table; --json has them all


def lease_rows(leases: Sequence[LeaseReport]) -> list[list[str]]:
    """A table: headings, then a row per lease by the newest of its names."""
    rows = sorted(leases, key=lambda lease: (lease.names[-1:], lease.address))
    return [_HEADINGS, *map(_row, rows)]


def render_why(why: WhyReport, now: float) -> str:
    """Open or closed, why, what is known of it, and what to type; now is Unix time."""
    verdict = "open" if why.open else f"closed ({why.reason})"
    lines = [f"{why.target}: {verdict}", f"  {why.because}"]
    if why.expires_in is not None:
        lines.append(f"  for {duration(why.expires_in)} more, until {_clock(now + why.expires_in)}")
    for lease in why.leases:
        lines += _lease_lines(lease, now)
    if why.refused is not None:
        refused = why.refused
        times = "once" if refused.count == 1 else f"{refused.count} times"
        lines.append(
            f"  refused {times}, last {duration(now - refused.at)} ago to {refused.client}: {refused.reason}, "
            f"{refused.detail}"
        )
    lines += [f"  {note}" for note in why.notes]
    if why.remedies:
        lines.append("  to close it:" if why.open else "  to open it:")
        lines += [f"    {remedy}" for remedy in why.remedies]
    return "\n".join(lines)


def render_done(done: DoneReport) -> str:
    """What was done, for how long, and what that closed."""
    until = "" if done.expires_in is None else f", for {duration(done.expires_in)}"
    text = done.done + until
    if done.target and done.expires_in is None:
        text += ", until the instance ends"
    if done.revoked:
        count = "1 lease" if len(done.revoked) == 1 else f"{len(done.revoked)} leases"
        text += f"; {count} ended, flows cut"
    return text


def _row(lease: LeaseReport) -> list[str]:
    names = lease.names[-_MAX_NAMES:][::-1]
    more = len(lease.names) - len(names)
    name = ", ".join(names) + (f" and {more} more" if more else "")
    via = " > ".join(lease.chain)
    return [lease.address, name, via, duration(lease.expires_in), lease.client or "-", lease.rule or "-"]


def _lease_lines(lease: LeaseReport, now: float) -> list[str]:
    name = lease.names[-1] if lease.names else "a name"
    when = f" {duration(now - lease.learned_at)} ago, at {_clock(lease.learned_at)}" if lease.learned_at else ""
    lines = [f"  {lease.address}: {lease.client or 'somebody'} asked for {name}{when}"]
    if lease.chain:
        lines.append(f"    through {' > '.join([name, *lease.chain])}")
    lines.append(f"    by the rule: {lease.rule or 'not known'}; {duration(lease.expires_in)} left")
    if len(lease.names) > 1:
        lines.append(f"    also an answer to {', '.join(lease.names[:-1])}")
    if lease.clients:
        lines.append(f"    open for {', '.join(lease.clients)} alone")
    return lines


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))
