"""What goes over the socket between the supervisor and a sandbox."""

import os
import socket

import pytest

from netstack.cli.sandbox_messages import (
    Built,
    Exited,
    Failed,
    Program,
    Report,
    Signal,
    Start,
    decode_order,
    decode_program,
    decode_report,
    encode,
    receive,
)


@pytest.mark.parametrize("report", [Built(["no IPv6"]), Failed("why"), Exited(42)])
def test_a_report_arrives_as_it_was(report: Report) -> None:
    assert decode_report(encode(report)) == report


@pytest.mark.parametrize("order", [Start(), Signal(15)])
def test_an_order_arrives_as_it_was(order: Start | Signal) -> None:
    assert decode_order(encode(order)) == order


def test_a_program_may_hold_octets_that_are_no_text() -> None:
    program = Program([b"cat", b"\xff"], {b"NAME": b"\xfe"})
    assert decode_program(encode(program)) == program


def test_a_descriptor_comes_with_its_message_and_is_closed_on_exec() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(theirs, [b"first"], [theirs.fileno()])
        theirs.send(b"second")
        data, descriptors = receive(ours)
        assert data == b"first"
        (descriptor,) = descriptors
        assert os.get_inheritable(descriptor) is False
        os.close(descriptor)
        assert receive(ours) == (b"second", [])
        theirs.close()
        assert receive(ours) == (b"", [])
