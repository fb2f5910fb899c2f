"""How much memory this process holds, for tests that nothing is left behind."""

import gc
from pathlib import Path


def resident() -> int:
    """KiB of its own."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")
