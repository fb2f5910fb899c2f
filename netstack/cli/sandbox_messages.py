"""What the supervisor and the processes of a sandbox say to each other, over a SOCK_SEQPACKET socket."""

import array
import socket
from typing import Final

import msgspec

MESSAGE: Final = 4096  # octets; the largest is a list of warnings
_DESCRIPTORS: Final = 64  # with one message; a TUN has one for each of its queues


class SandboxError(Exception):
    """The captured namespace could not be made; the message says what, why and, where there is one, the remedy."""


class Built(msgspec.Struct, frozen=True, tag=True):
    """init -> supervisor: the namespace stands; the TUN's descriptors come with this message."""

    warnings: list[str]  # what could not be had, though the command can run without


class Failed(msgspec.Struct, frozen=True, tag=True):
    """monitor or init -> supervisor: the namespace could not be made."""

    why: str


class Exited(msgspec.Struct, frozen=True, tag=True):
    """init -> supervisor: the command ended. End of file follows when everything else in the sandbox is dead."""

    code: int  # as a shell gives it


class Start(msgspec.Struct, frozen=True, tag=True):
    """supervisor -> init: run the Program in the memory file that comes with this message."""


class Signal(msgspec.Struct, frozen=True, tag=True):
    """supervisor -> init: send the command this signal."""

    number: int


class Program(msgspec.Struct, frozen=True):
    """What to run. In a file, for the environment may be larger than a message may be."""

    argv: list[bytes]
    environment: dict[bytes, bytes]


Report = Built | Failed | Exited
Order = Start | Signal

encode = msgspec.msgpack.Encoder().encode
decode_report = msgspec.msgpack.Decoder(Report).decode
decode_order = msgspec.msgpack.Decoder(Order).decode
decode_program = msgspec.msgpack.Decoder(Program).decode


def receive(sender: socket.socket) -> tuple[bytes, list[int]]:
    """A message, empty at end of file, and the descriptors that came with it, which are closed on exec."""
    # Not socket.recv_fds, which drops its flags.
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    data, ancillary, _, _ = sender.recvmsg(MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, octets in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(octets)
    return data, list(descriptors)
