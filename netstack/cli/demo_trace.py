"""The demo's last step: `netstack trace` beside a command, and what it printed."""

import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Final

from netstack.cli.options import write

_PATIENCE: Final = 6.0  # seconds until the trace must have shown something
_INTERVAL: Final = 0.3  # seconds between the fetches; a new flow each
_EXPECTED: Final = ("tun_io", "dns_filter", "tracker", "tcp_fwd")


def trace(number: int, fetch: list[str], environment: Mapping[str, str]) -> bool:
    """Show the journey of a few packets; whether it led through the processes it should."""
    command = ["netstack", "exec", "--", *fetch]
    write(f"\n{number}. The journey of its packets through the processes, each queue on the way measured\n")
    write(f"$ netstack trace &\n$ {shlex.join(command)}")
    # The same command, several times in one captured network, for the trace reaches each process in its own time.
    again = ["netstack", "exec", "--", "sh", "-c", f"while read line; do {shlex.join(fetch)} >/dev/null 2>&1; done"]
    with subprocess.Popen(again, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as captured:
        assert captured.stdin is not None
        try:
            lines = _collect(captured, environment)
        finally:
            captured.stdin.close()
    shown = journeys(lines)
    write("\n".join(line for journey in shown for line in journey))
    write(f"(and {sum(not line.startswith(' ') for line in lines) - len(shown)} other packets)")
    lacks = [stage for stage in _EXPECTED if not any(stage in line for line in lines)]
    verdict = f"✗ {', '.join(lacks)} did not appear" if lacks else f"✓ {', '.join(_EXPECTED)}, and back"
    write(verdict)
    return not lacks


def journeys(lines: list[str]) -> list[list[str]]:
    """Of all packets those worth showing: the first that was a query, the first that opened a connection."""
    packets: list[list[str]] = []
    for line in lines:
        if not line.startswith(" "):
            packets.append([])
        if packets:
            packets[-1].append(line)
    wanted = (("dns_filter", "learned"), ("tcp_fwd", "connected"))
    found = [
        next((packet for packet in packets if all(word in "\n".join(packet) for word in words)), []) for words in wanted
    ]
    return [packet for packet in found if packet]


def _collect(captured: "subprocess.Popen[bytes]", environment: Mapping[str, str]) -> list[str]:
    """Run `netstack trace` until it has shown all processes, making flows meanwhile; what it printed."""
    lines: list[str] = []
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and not _complete(lines):
        with subprocess.Popen(
            ["netstack", "trace"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as tracing:
            lines += _follow(tracing, captured, until)
    return lines


def _follow(tracing: "subprocess.Popen[str]", captured: "subprocess.Popen[bytes]", until: float) -> list[str]:
    lines: list[str] = []
    complete = threading.Event()

    def read() -> None:
        assert tracing.stdout is not None
        for line in tracing.stdout:
            lines.append(line.rstrip("\n"))
            if _complete(lines):
                complete.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert captured.stdin is not None
    try:
        while tracing.poll() is None and captured.poll() is None and time.monotonic() < until:
            captured.stdin.write(b"\n")
            captured.stdin.flush()
            if complete.wait(_INTERVAL):
                break
    finally:
        tracing.send_signal(signal.SIGINT)
        tracing.wait(_PATIENCE)
        reader.join(_PATIENCE)
    return lines


def _complete(lines: list[str]) -> bool:
    return all(any(stage in line for line in lines) for stage in _EXPECTED)
