"""The monitor's own end: it says why it could not build, and builds nothing for a supervisor that is gone."""

import os
import socket

from netstack.cli.identity import Identity
from netstack.cli.sandbox_messages import Failed, decode_report
from netstack.cli.sandbox_monitor import Blueprint, run
from netstack.runtime.config import Tun

USER = Identity(os.getuid(), os.getgid(), (), privileged=False)


def reported(blueprint: Blueprint) -> bytes:
    """What a monitor says, up to its end, empty for nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        child = os.fork()
        if child == 0:
            run(blueprint, theirs)
        theirs.close()
        said = ours.recv(4096)
        assert os.waitpid(child, 0) == (child, 0)
        return said


def test_what_cannot_be_built_is_reported() -> None:
    tun = Tun(addresses=["10.0.0.2/24"], dns="10.0.0.2")
    report = decode_report(reported(Blueprint(tun, (), USER, supervisor=os.getpid(), ignored=(), hidden=())))
    assert isinstance(report, Failed)
    assert "tun.dns 10.0.0.2 is one of tun.addresses" in report.why


def test_a_supervisor_that_died_before_it_could_be_watched_gets_nothing() -> None:
    assert reported(Blueprint(Tun(), (), USER, supervisor=1, ignored=(), hidden=())) == b""
