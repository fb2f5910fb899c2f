"""The table of goodput: what a transfer of 10 MiB both ways at once gets through links of every quality.

    python -m tests.sim.goodput > tests/sim/goodput.txt

writes it anew, after a change that is meant to change it.
"""

from itertools import product
from pathlib import Path
from typing import Final

from tests.sim.link import Quality
from tests.sim.transfer import Outcome, transfer

SIZE: Final = 10 << 20  # octets each way
SNAPSHOT: Final = Path(__file__).with_name("goodput.txt")
HEADINGS: Final = ("loss", "delay", "reordered", "download kB/s", "upload kB/s")
CASES: Final = {
    (f"{loss:.1%}", f"{delay * 1000:.0f} ms", f"{reorder:.0%}"): Quality(delay=delay, loss=loss, reorder=reorder)
    for loss, delay, reorder in product((0.0, 0.001, 0.01, 0.05), (0.001, 0.04, 0.2), (0.0, 0.01))
}


def row(case: tuple[str, ...], outcome: Outcome) -> str:
    down, up = outcome.goodput(SIZE)
    return "".join(text.rjust(15) for text in (*case, f"{down / 1000:.1f}", f"{up / 1000:.1f}")).rstrip()


def recorded() -> dict[tuple[str, ...], str]:
    """The rows of the snapshot by case."""
    lines = SNAPSHOT.read_text().splitlines()[1:]
    return dict(zip(CASES, lines, strict=True))


def main() -> None:
    print("".join(text.rjust(15) for text in HEADINGS))
    for case, quality in CASES.items():
        print(row(case, transfer(quality, size=SIZE)))


if __name__ == "__main__":
    main()
