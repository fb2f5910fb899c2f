"""Hours of clients that keep to DNS and of others that do not: who is refused, and who would be without leases."""

import pytest

from tests.sim.whitelist import HOUR, Client, Leased, Plain, Whitelist, World

OF_EACH = 60  # clients of each habit
SHORT, LONG = 30, 1800  # seconds: the TTL of a name that rotates, and of one that seldom does
TEN_MINUTES = 600.0


def obeys(world: World, number: int, ttl: int) -> Client:
    """It asks again when the TTL it was told has passed, and connects whenever it likes within it."""
    while True:
        addresses, believed = world.resolve(number, ttl)
        end = world.now + believed
        yield world.random.uniform(0, believed)
        while world.now < end:
            world.connect(f"obeys a TTL of {ttl} s", world.random.choice(addresses), world.random.uniform(0, 5))
            yield world.random.uniform(1, 400)


def ignores(world: World, number: int) -> Client:
    """It asks once in ten minutes, like many a connection pool, and connects all the time, never long."""
    while True:
        addresses, _ = world.resolve(number, SHORT)
        end = world.now + TEN_MINUTES
        while world.now < end:
            yield world.random.uniform(5, 250)
            world.connect("ignores the TTL for ten minutes", world.random.choice(addresses), 0.1)


def holds(world: World, number: int) -> Client:
    """It holds an idle connection for two hours, and then opens another to the addresses that it knows."""
    while True:
        addresses, _ = world.resolve(number, SHORT)
        yield 1.0
        world.connect("first connection of a pool", addresses[0], 2 * HOUR)
        yield 2 * HOUR - 1
        for address in addresses:
            world.connect("holds an idle connection for two hours", address)
        yield world.random.uniform(0, 60)


def forgets(world: World, number: int) -> Client:
    """It comes back after ten minutes of nothing with addresses that it should have asked for again."""
    while True:
        addresses, _ = world.resolve(number, SHORT)
        yield TEN_MINUTES
        world.connect("comes back after ten minutes of nothing", addresses[0])


def played(whitelist: Whitelist, hours: float) -> World:
    """Each client has a name that nobody else uses: nobody keeps a lease alive for another."""
    world = World(whitelist, seed=4)
    numbers = iter(range(5 * OF_EACH))
    for _ in range(OF_EACH):
        clients = [
            obeys(world, next(numbers), SHORT),
            obeys(world, next(numbers), LONG),
            ignores(world, next(numbers)),
            holds(world, next(numbers)),
            forgets(world, next(numbers)),
        ]
        for client in clients:
            world.start(client, world.random.uniform(0, 60))
    world.run(hours * HOUR)
    return world


LEGITIMATE = {
    "obeys a TTL of 30 s",
    "obeys a TTL of 1800 s",
    "ignores the TTL for ten minutes",
    "first connection of a pool",
    "holds an idle connection for two hours",
}


@pytest.fixture(scope="module")
def ours() -> World:
    return played(Leased(), 2.5)


def test_no_connection_is_refused_that_must_not_be(ours: World) -> None:
    assert all(ours.connected[habit] >= OF_EACH for habit in LEGITIMATE), ours.connected
    assert not LEGITIMATE & set(ours.refused), ours.refused


def test_what_is_neither_an_answer_of_late_nor_in_use_is_closed(ours: World) -> None:
    assert ours.refused["comes back after ten minutes of nothing"] > 0
    assert ours.connected["comes back after ten minutes of nothing"] == 0


def test_three_hundred_seconds_from_the_last_answer_would_have_refused_thousands() -> None:
    plain = played(Plain(), 2.5)
    refused = {habit: plain.refused[habit] for habit in LEGITIMATE}
    # With this seed: 1,278 of 1,355, 2,603 of 4,196, and 120 of 120.
    assert refused["obeys a TTL of 1800 s"] > 1000, refused
    assert refused["ignores the TTL for ten minutes"] > 2000, refused
    assert refused["holds an idle connection for two hours"] == 2 * OF_EACH, refused
    # Who comes with a new answer is let in by it too.
    assert refused["obeys a TTL of 30 s"] == refused["first connection of a pool"] == 0


def test_the_forwarder_never_believes_in_a_lease_longer_than_the_tracker(ours: World) -> None:
    assert isinstance(ours.whitelist, Leased)
    for address in (tracker := ours.whitelist.tracker).addresses():
        just_over = tracker.get(address).until + 0.001
        assert not ours.whitelist.replica.allows((b"", address, 443, 6), just_over)
