"""Messages of a process, on stderr: `HH:MM:SS level stage/worker message`, or one JSON object a line."""

import logging
import sys
from typing import Any

import msgspec


class _Text(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)-7s {worker} %(message)s", datefmt="%H:%M:%S")


class _Json(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "worker": self._worker,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up(level: str, style: str, worker: str) -> None:
    """Send everything from `level` up to stderr, as text or JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(worker) if style == "json" else _Text(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpx2", "httpcore", "httpcore2", "hpack", "asyncio", "pyroute2.netlink"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
