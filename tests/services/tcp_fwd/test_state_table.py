"""Every event has a defined answer in every state, and docs/tcp-states.md is the table of them."""

import pytest

from services.tcp_fwd.states import State
from tests.services.tcp_fwd.state_table import DOCUMENT, EVENTS, STATES, answer, document


def test_the_document_is_what_the_code_does():
    assert DOCUMENT.read_text() == document(), "python -m tests.services.tcp_fwd.state_table > docs/tcp-states.md"


def test_no_state_is_left_out():
    assert set(STATES) == set(State)


@pytest.mark.parametrize("state", [one for one in State if one is not State.CLOSED], ids=lambda one: one.value)
def test_every_state_ends_when_told_to(state):
    assert answer(state, "abort").endswith("→ closed")


@pytest.mark.parametrize("event", [event for event in EVENTS if "RST elsewhere" in event or "too old" in event])
@pytest.mark.parametrize("state", State, ids=lambda one: one.value)
def test_what_a_stranger_can_guess_changes_no_state_after_the_handshake(state, event):
    if state not in {State.VERDICT, State.CONNECTING, State.SYN_RECEIVED}:
        assert answer(state, event) in {"·", "send ACK"}
