"""What was refused lately, for `netstack why`: the newest of each name and address. No I/O; times are Unix time."""

from dataclasses import dataclass
from typing import Final

MAX_KEPT: Final = 4096
"""Names, and as many addresses; beyond it the one that was refused longest ago is forgotten."""


@dataclass(slots=True)
class Refused:
    """The last refusal of one thing, and how many there were."""

    reason: str
    detail: str
    client: bytes
    at: float
    count: int = 0


class RefusedTable:
    """Refusals by name or by address."""

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self._max_kept = max_kept
        self._kept: dict[str | bytes, Refused] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, what: str | bytes, refused: Refused) -> None:
        """One more refusal."""
        before = self._kept.pop(what, None)
        refused.count = 1 if before is None else before.count + 1
        self._kept[what] = refused
        if len(self._kept) > self._max_kept:
            del self._kept[next(iter(self._kept))]

    def get(self, what: str | bytes) -> Refused | None:
        """The last refusal of a name or an address."""
        return self._kept.get(what)

    def forget(self, what: str | bytes) -> None:
        """It is allowed now."""
        self._kept.pop(what, None)
