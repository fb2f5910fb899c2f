"""The scripts: Redis takes them, under our names for them. What they do: test_store.py, test_redis_store.py."""

import pytest

from services.tracker.redis_scripts import ALL, LEASE_PREFIX, NAME_PREFIX, Script


@pytest.mark.parametrize("script", ALL, ids=["learn", "find", "touch", "revoke"])
def test_redis_keeps_it_under_our_name_for_it(redis, script: Script) -> None:
    assert redis.ask("SCRIPT", "LOAD", script.text) == script.digest


@pytest.mark.parametrize("script", ALL, ids=["learn", "find", "touch", "revoke"])
def test_it_uses_the_keys_that_python_names(script: Script) -> None:
    assert f"'{LEASE_PREFIX}', '{NAME_PREFIX}'" in script.text
