"""What PID 1 of a sandbox decides."""

import signal

import pytest

from netstack.cli import sandbox_init


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0x0000, 0),  # exited: the code is in the second octet
        (0x2A00, 42),
        (0xFF00, 255),
        (signal.SIGINT, 130),  # killed: the signal is in the low seven bits
        (signal.SIGKILL, 137),
        (signal.SIGSEGV | 0x80, 139),  # with a core file
    ],
    ids=["success", "42", "the largest", "interrupted", "killed", "crashed"],
)
def test_exit_code_is_a_shells(status: int, code: int) -> None:
    assert sandbox_init.exit_code(status) == code


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        (b"ls", {b"PATH": b"/a:/b"}, [b"/a/ls", b"/b/ls"]),
        (b"ls", {b"PATH": b"/a::/b"}, [b"/a/ls", b"./ls", b"/b/ls"]),
        (b"./ls", {b"PATH": b"/a"}, [b"./ls"]),
        (b"ls", {}, [b"/bin/ls", b"/usr/bin/ls"]),
    ],
    ids=["each of PATH", "an empty entry is the current directory", "a path is taken as it is", "no PATH"],
)
def test_candidates_are_execvps(name: bytes, environment: dict[bytes, bytes], expected: list[bytes]) -> None:
    assert sandbox_init.candidates(name, environment) == expected
