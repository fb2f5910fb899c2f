"""The file that keeps what commands allowed and denied for a tracker that starts anew; it ends with the instance."""

import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from services.tracker.endpoints import parse_rule
from services.tracker.rules import Rules, RulesFullError, SavedRules

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # random(4); the times are of this boot's clock

_log = logging.getLogger(__name__)


class _Content(msgspec.Struct):
    boot: str
    rules: SavedRules


def read_rules(path: Path) -> Rules:
    """The rules of the process before this one; none where there was none, or it was before a reboot."""
    rules = Rules()
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Content)
        if content.boot == _boot_id():
            rules.restore(content.rules, map(parse_rule, content.rules.endpoints))
    except FileNotFoundError:
        pass
    except (OSError, msgspec.MsgspecError, ValueError, RulesFullError) as error:
        _log.warning("what commands allowed and denied before is forgotten: %s: %s", path, error)
        return Rules()
    return rules


def write_rules(path: Path, rules: Rules) -> str | None:
    """Replace the file; where that fails, why."""
    new = path.with_suffix(".new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(_Content(_boot_id(), rules.save())))
        new.replace(path)
    except OSError as error:
        _log.warning("what commands allow and deny is not kept for a restart of the tracker: %s: %s", path, error)
        return str(error)
    return None


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip()
