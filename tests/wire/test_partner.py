"""How another process sees an arena."""

import os

import pytest

from netstack.wire.arena import HEADROOM, SLOT, Arena
from netstack.wire.partner import ArenaError, Partner


@pytest.fixture
def arena(tmp_path):
    return Arena(tmp_path / "arena", 4)


def test_a_partner_reads_what_was_put_into_a_slot(arena, tmp_path):
    slot = arena.take()
    slot.payload[:5] = b"hello"
    slot.view[HEADROOM - 2 : HEADROOM] = b"> "
    partner = Partner(tmp_path, "arena")
    assert partner.packet([slot.position + HEADROOM - 2, 7]) == b"> hello"
    slot.payload[:5] = b"again"
    assert partner.packet([slot.position + HEADROOM, 5]) == b"again"


def test_a_partner_cannot_write(arena, tmp_path):
    with pytest.raises(TypeError):
        Partner(tmp_path, "arena").packet([0, 5])[:] = b"wrote"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../arena", "/etc/passwd", "missing", "folder", "fifo", "link", "empty", "a\0b"]
)
def test_what_is_no_arena_is_not_mapped(arena, tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(arena.path)
    (tmp_path / "empty").touch()
    with pytest.raises(ArenaError):
        Partner(tmp_path, name)


@pytest.mark.parametrize(
    "reference",
    [[], [0], [0, 1, 2], [0, 0], [-1, 5], [0, -5], [0, 4 * SLOT + 1], [4 * SLOT, 1], [1 << 70, 1], ["0", 1],
     [0.0, 1], [True, 5]],
)  # fmt: skip
def test_a_reference_that_lies_nowhere_is_refused(arena, tmp_path, reference):
    with pytest.raises(ArenaError):
        Partner(tmp_path, "arena").packet(reference)
