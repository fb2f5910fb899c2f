"""Keepalive: probes of a silent client that end when the idle timeout does."""

import pytest

from services.tcp_fwd.keepalive import IDLE_TIMEOUT, PROBES, Keepalive


def test_a_client_that_is_gone_is_given_up_when_the_idle_timeout_ends():
    one, now, sent = Keepalive(100.0), 0.0, []
    while True:
        now = one.due(0.0)
        if not one.probe(0.0, now):
            break
        sent.append(now)
    assert len(sent) == PROBES
    assert sent[0] == pytest.approx(90.0)
    assert 98.0 < now <= 100.0


def test_one_that_answers_is_left_alone_for_as_long_again():
    one = Keepalive(100.0)
    for _ in range(5):
        assert one.probe(0.0, 90.0)
    assert one.due(91.0) == 91.0 + 90.0
    assert all(one.probe(91.0, 181.0 + number) for number in range(PROBES))


def test_by_default_the_first_probe_comes_after_nearly_two_hours():
    assert 6600 < Keepalive(IDLE_TIMEOUT).due(0.0) < 7200
