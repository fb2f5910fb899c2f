"""The descriptors handed over, and what happens without one."""

import os
import socket

import pytest

from services.tun_io.device import NoDeviceError, receive_descriptors


def test_the_descriptor_comes_over_the_inherited_socket():
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, os.fdopen(writing, "wb") as pipe:
        socket.send_fds(ours, [b"T"], [reading])
        os.close(reading)
        (descriptor,) = receive_descriptors(theirs.detach())
        assert not os.get_blocking(descriptor)
        pipe.write(b"packet")
        pipe.flush()
        assert os.read(descriptor, 10) == b"packet"
        os.close(descriptor)


def test_a_supervisor_that_goes_away_without_one_is_an_error():
    ours, theirs = socket.socketpair()
    ours.close()
    with pytest.raises(NoDeviceError):
        receive_descriptors(theirs.detach())
