"""The scripts: Redis takes them, under our names for them. What they do: test_store.py, test_redis_store.py."""

import pytest

from services.tracker.redis_scripts import ALL, CHANGES, LEARNED, LEASE, NAME, REVOKED, RULED, Script

IDS = ["learn", "find", "touch", "revoke", "rule", "rules"]


@pytest.mark.parametrize("script", ALL, ids=IDS)
def test_redis_keeps_it_under_our_name_for_it(redis, script: Script) -> None:
    assert redis.ask("SCRIPT", "LOAD", script.text) == script.digest


@pytest.mark.parametrize("script", ALL, ids=IDS)
def test_it_uses_the_keys_that_python_names_behind_the_prefix(script: Script) -> None:
    keys = ", ".join(f"KEYS[1] .. '{suffix}'" for suffix in (LEASE, NAME, CHANGES))
    assert f"local LEASE, NAME, CHANGES = {keys}\n" in script.text


def test_changes_are_called_as_python_calls_them() -> None:
    texts = "".join(script.text for script in ALL)
    assert f"{{'{LEARNED}', " in texts
    assert f"{{'{REVOKED}', " in texts
    assert f"{{'{RULED}', " in texts
