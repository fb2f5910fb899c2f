"""What a connection makes of each event in each state, found out by trying: the table of docs/tcp-states.md.

    python -m tests.services.tcp_fwd.state_table > docs/tcp-states.md

writes it anew.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from netstack.packet import tcp
from netstack.packet.reason import Reason
from services.tcp_fwd.commands import Command, Emit
from services.tcp_fwd.segment import parse
from services.tcp_fwd.states import State
from tests.services.tcp_fwd.builders import (
    IRS,
    ISS,
    Bench,
    connecting,
    established,
    segment,
    syn,
    syn_received,
    waiting,
)

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "tcp-states.md"
FIN_ACK: Final = tcp.FIN | tcp.ACK


def _closing() -> Bench:
    return established().host_ends().receive(segment(flags=FIN_ACK, data=b"x"))


STATES: Final[dict[State, Callable[[], Bench]]] = {
    State.VERDICT: waiting,
    State.CONNECTING: connecting,
    State.SYN_RECEIVED: syn_received,
    State.ESTABLISHED: lambda: established().host_sends(b"data"),
    State.FIN_WAIT_1: lambda: established().host_sends(b"data").host_ends(),
    State.FIN_WAIT_2: lambda: established().host_ends().receive(segment(ack=ISS + 2)),
    # The client's last octet waits for the host socket, so that what comes then is seen too.
    State.CLOSE_WAIT: lambda: established().receive(segment(flags=FIN_ACK, data=b"x")).host_sends(b"data"),
    State.CLOSING: _closing,
    State.LAST_ACK: lambda: established().receive(segment(flags=FIN_ACK, data=b"x")).host_ends(),
    State.TIME_WAIT: lambda: _closing().receive(segment(seq=IRS + 3, ack=ISS + 2)),
    State.CLOSED: lambda: (
        established().receive(segment(flags=FIN_ACK, data=b"x")).host_ends().receive(segment(seq=IRS + 3, ack=ISS + 2))
    ),
}
"""A connection in each state, with something to acknowledge where there can be."""


def _segment(**changes) -> Callable[[Bench], object]:
    """A segment whose numbers are the connection's own but for the changes, which are relative to them."""

    def event(bench: Bench) -> object:
        receiver, sender = bench.connection.receiver, bench.connection.sender
        one = segment(
            seq=receiver.rcv_nxt + changes.get("seq", 0), ack=sender.snd_nxt + changes.get("ack", 0),
            flags=changes.get("flags", tcp.ACK), data=changes.get("data", b""), window=changes.get("window", 0xFFFF),
        )  # fmt: skip
        return bench.receive(one)

    return event


EVENTS: Final[dict[str, Callable[[Bench], object]]] = {
    "verdict: allowed": lambda bench: bench.do(bench.connection.verdict(None)),
    "verdict: refused": lambda bench: bench.do(bench.connection.verdict(Reason.NOT_WHITELISTED)),
    "socket connected": lambda bench: bench.do(bench.connection.socket_connected(bench.now)),
    "socket refused": lambda bench: bench.do(bench.connection.socket_refused(Reason.CONNECTION_REFUSED)),
    "socket unreachable": lambda bench: bench.do(bench.connection.socket_refused(Reason.HOST_UNREACHABLE)),
    "socket data": lambda bench: bench.host_sends(b"more"),
    "socket ended": lambda bench: bench.host_ends(),
    "socket took all": lambda bench: bench.host_takes(bench.connection.receiver.pending),
    "socket reset": lambda bench: bench.do(bench.connection.socket_reset(Reason.SOCKET_ERROR)),
    "abort": lambda bench: bench.do(bench.connection.abort(Reason.REVOKED)),
    "path MTU of 1280": lambda bench: bench.do(bench.connection.path_mtu(1280, bench.now)),
    "the SYN again": lambda bench: bench.receive(syn()),
    "another SYN": lambda bench: bench.receive(syn(seq=IRS + 50)),
    "SYN-ACK": _segment(flags=tcp.SYN | tcp.ACK),
    "ACK of all": _segment(),
    "ACK of nothing new": lambda bench: bench.receive(
        segment(seq=bench.connection.receiver.rcv_nxt, ack=bench.connection.sender.snd_una)
    ),
    "ACK of what was never sent": _segment(ack=1000),
    "ACK too old": _segment(ack=-(1 << 30)),
    "no ACK flag": _segment(flags=tcp.PSH, data=b"y"),
    "data": _segment(data=b"y"),
    "data that came before": _segment(seq=-1, data=b"x"),
    "data after a hole": _segment(seq=10, data=b"y"),
    "data beyond the window": _segment(seq=1 << 24, data=b"y"),
    "FIN": _segment(flags=FIN_ACK),
    "FIN that came before": _segment(seq=-1, flags=FIN_ACK),
    "FIN after a hole": _segment(seq=10, flags=FIN_ACK),
    "RST, exact": _segment(flags=tcp.RST),
    "RST in the window": _segment(seq=10, flags=tcp.RST),
    "RST elsewhere": _segment(seq=-10, flags=tcp.RST),
    "a second passes": lambda bench: bench.wait(1.0),
    "the client is gone": lambda bench: bench.wait(20000.0),
}

_FLAGS: Final = {tcp.SYN: "SYN", tcp.FIN: "FIN", tcp.RST: "RST", tcp.ACK: "ACK"}


def _sent(frame: bytes) -> str:
    one = parse(frame)
    names = [name for flag, name in _FLAGS.items() if one.flags & flag]
    return "-".join(names) + (" data" if one.payload else "")


def answer(state: State, event: str) -> str:
    """What the event does to a connection in the state: what is sent, what is commanded, and the next state."""
    bench = STATES[state]()
    assert bench.connection.state is state
    bench.frames.clear()
    bench.others.clear()
    log: list[str] = []
    do = bench.do

    def logging(commands: list[Command]) -> Bench:
        log.extend(
            f"send {_sent(one.head + bytes(one.payload))}" if isinstance(one, Emit) else type(one).__name__
            for one in commands
        )
        return do(commands)

    bench.do = logging
    EVENTS[event](bench)
    parts = list(dict.fromkeys(log))
    after = bench.connection.state
    if after is not state:
        parts.append(f"→ {after.value}")
    return ", ".join(parts) or "·"


def document() -> str:
    lines = [
        "# States and events of a TCP connection",
        "",
        "What `services/tcp_fwd/connection.py` makes of each event in each state, found out by trying each; a",
        "test compares. `python -m tests.services.tcp_fwd.state_table > docs/tcp-states.md` writes it anew. A",
        "dot: nothing is sent and nothing changes. `Connect`, `Write`, `ShutdownWrite`, `Abort`, `Unreachable`",
        "and `Finish` are commands to the shell (`services/tcp_fwd/commands.py`). Where there can be, one octet",
        "of the client waits for the host socket, and four octets of the host are unacknowledged; in time-wait",
        "and closed the shell is still writing the last octet of the client. A segment of no connection at all is",
        "answered by the service.",
        "",
    ]
    for state in STATES:
        lines += [f"## {state.value}", "", "| event | answer |", "|---|---|"]
        lines += [f"| {event} | {answer(state, event)} |" for event in EVENTS]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
