"""What the tracker answers, over its links, in this process."""

import asyncio
import logging

import pytest

from netstack.packet.reason import Reason
from netstack.wire.messages import VERSION, Bye, Check, Learn, Message, Revoke, Touch, Verdict
from tests.services.tracker.links import CLIENT, TCP, World, run

UDP = 17
WEB = bytes([198, 18, 0, 1])
WEB_6 = bytes.fromhex("20010db8000000000000000000000001")
OTHER = bytes([198, 18, 0, 2])
GOOGLE = bytes([8, 8, 8, 8])
PRIVATE = bytes([192, 168, 1, 5])


def test_who_joins_is_told_the_version_and_which_tracker_this_is() -> None:
    async def story(world: World) -> None:
        first, second = await world.fwd.join(), await world.dns.join()
        assert first == second
        assert first.version == VERSION
        assert first.instance

    run(story)


def test_an_address_is_reached_after_it_was_an_answer_and_not_before() -> None:
    async def story(world: World) -> None:
        before = await world.fwd.check(WEB)
        assert before[1:5] == (False, "not-whitelisted", [], 0.0)
        learned = await world.dns.learn("WWW.Example.", WEB, WEB_6, ttl=60)
        assert learned[1:] == (True, "", 240, 300.0)
        for address in (WEB, WEB_6):
            after = await world.fwd.check(address)
            assert after[1:4] == (True, "", ["www.example"])
            assert 299 < after.expires_in <= 300
        assert world.drops == {"not-whitelisted": 1}
        assert world.gauges() == {"leases": 2, "names": 1, "asked": 3, "learned": 1}

    run(story)


def test_the_forwarders_are_told_of_a_lease_before_the_answer_is_released() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, ttl=3600)
        assert (await world.changes.get())[:3] == ([WEB], ["www.example"], 3660.0)

    run(story)


def test_touch_extends_an_address_and_its_siblings_and_the_forwarders_are_told() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, WEB_6)
        await world.changes.get()
        clock = asyncio.get_running_loop().time
        before = clock()
        world.fwd.say(Touch([WEB, OTHER]))
        change = await world.changes.get()
        assert (set(change.addresses), change.names, change.expires_in) == ({WEB, WEB_6}, ["www.example"] * 2, 300.0)
        assert (await world.fwd.check(WEB_6)).expires_in >= before + 300.0 - clock()

    run(story)


@pytest.mark.parametrize(
    ("target", "ended"),
    [("www.example", {WEB, WEB_6}), ("WWW.EXAMPLE.", {WEB, WEB_6}), ("198.18.0.1", {WEB}), ("[2001:db8::1]", {WEB_6})],
    ids=["a name", "however it is written", "an address", "an IPv6 address in brackets"],
)
def test_revoke_ends_leases_and_the_forwarders_are_told_to_cut_flows(target: str, ended: set[bytes]) -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, WEB_6)
        await world.changes.get()
        assert await world.dns.revoke(target) == len(ended)
        change = await world.changes.get()
        assert (set(change.addresses), change.expires_in) == (ended, 0.0)
        for address in (WEB, WEB_6):
            assert (await world.fwd.check(address)).allowed is (address not in ended)

    run(story)


def test_revoking_an_address_cuts_flows_that_outlived_their_lease() -> None:
    async def story(world: World) -> None:
        assert await world.dns.revoke("198.18.0.2") == 0
        assert (await world.changes.get())[:3] == ([OTHER], [], 0.0)
        assert await world.dns.revoke("nobody.example") == 0
        assert world.changes.empty()

    run(story)


def test_encrypted_dns_is_refused_and_never_left_to_the_forwarders() -> None:
    async def story(world: World) -> None:
        assert (await world.fwd.check(GOOGLE)).reason == "encrypted-dns"
        assert (await world.dns.learn("tricky.example", GOOGLE, WEB)).ok
        assert (await world.changes.get()).addresses == [WEB]
        assert (await world.fwd.check(GOOGLE)).reason == "encrypted-dns"
        assert (await world.fwd.check(GOOGLE, 443, UDP)).reason == "encrypted-dns"
        assert (await world.fwd.check(WEB, 853)).reason == "encrypted-dns"
        assert (await world.fwd.check(GOOGLE, 80)).allowed
        world.fwd.say(Touch([WEB, GOOGLE]))
        assert (await world.changes.get()).addresses == [WEB]
        assert world.drops == {"encrypted-dns": 4}

    run(story)


def test_a_resolvers_name_resolves_and_leads_nowhere() -> None:
    async def story(world: World) -> None:
        learned = await world.dns.learn("mozilla.cloudflare-dns.com", WEB, ttl=60)
        assert learned[1:] == (True, "", 240, 300.0)
        assert (await world.fwd.check(WEB, 80)).reason == "encrypted-dns"
        assert world.changes.empty()
        await world.dns.learn("www.example", WEB)
        assert (await world.fwd.check(WEB, 80)).allowed

    run(story)


def test_a_lease_with_time_to_spare_is_as_much_longer_and_the_ttl_is_not() -> None:
    async def story(world: World) -> None:
        assert (await world.dns.learn("www.example", WEB, spare=30))[1:] == (True, "", 240, 330.0)
        assert (await world.changes.get()).expires_in == 330.0

    run(story)


def test_a_resolver_is_reached_when_its_name_is_allowed() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("dns.google", GOOGLE)
        assert (await world.changes.get()).addresses == [GOOGLE]
        assert (await world.fwd.check(GOOGLE)).allowed
        assert (await world.fwd.check(GOOGLE, 853)).allowed

    run(story, allow={"names": ["dns.google"]})


def test_networks_are_allowed_as_configured_and_no_further() -> None:
    async def story(world: World) -> None:
        verdict = await world.fwd.check(PRIVATE, 443)
        assert (verdict.allowed, verdict.names, verdict.expires_in) == (True, [], 300.0)
        assert (await world.fwd.check(PRIVATE, 80)).reason == "not-whitelisted"
        assert (await world.fwd.check(PRIVATE, 443, UDP)).reason == "not-whitelisted"
        assert (await world.fwd.check(WEB_6, 53, UDP)).allowed

    run(story, allow={"networks": ["192.168.0.0/16:443/tcp", "[2001:db8::/32]:53/udp"]})


def test_a_static_verdict_says_the_names_where_they_are_known() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB)
        assert (await world.fwd.check(WEB)).names == ["www.example"]

    run(story, allow={"networks": ["198.18.0.0/15"]})


def test_private_addresses_are_leased_to_private_names_only() -> None:
    async def story(world: World) -> None:
        assert (await world.dns.learn("www.example", PRIVATE, bytes(4), b"\x7f\x00\x00\x01")).ok
        assert (await world.fwd.check(PRIVATE)).reason == "not-whitelisted"
        assert world.drops["rebind"] == 3
        assert (await world.dns.learn("nas.lan", PRIVATE)).ok
        assert (await world.fwd.check(PRIVATE)).names == ["nas.lan"]

    run(story, dns={"private_names": ["lan"]})


def test_multicast_is_refused_as_such() -> None:
    async def story(world: World) -> None:
        assert (await world.fwd.check(bytes([224, 0, 0, 251]), 5353, UDP)).reason == "multicast"

    run(story)


def test_off_asks_for_nothing() -> None:
    async def story(world: World) -> None:
        verdict = await world.fwd.check(OTHER, 853)
        assert (verdict.allowed, verdict.expires_in) == (True, 60.0)
        assert world.drops == {}

    run(story, whitelist={"mode": "off"})


def test_audit_lets_through_counts_and_logs_without_saying_where_to(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def story(world: World) -> None:
        verdict = await world.fwd.check(OTHER)
        assert verdict[1:5] == (True, "", [], 60.0)
        assert world.drops == {}
        assert world.gauges()["audit"] == 1

    run(story, whitelist={"mode": "audit"})
    said = [record.getMessage() for record in caplog.records if "would be" in record.getMessage()]
    assert said == ["would be refused: not-whitelisted"]


def test_the_ttl_and_the_grace_are_those_of_the_configuration() -> None:
    async def story(world: World) -> None:
        assert (await world.dns.learn("www.example", WEB, ttl=5)).max_ttl == 90
        assert (await world.changes.get()).expires_in == 100.0
        assert (await world.dns.learn("www.example", WEB, ttl=200)).max_ttl == 200
        assert (await world.changes.get()).expires_in == 210.0

    run(story, whitelist={"ttl": 100, "grace": 10})


def test_a_peer_of_another_version_is_told_ours_and_refused_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def story(world: World) -> None:
        for _ in range(3):
            assert (await world.fwd.join(VERSION + 1)).version == VERSION
        world.fwd.say(Check(1, CLIENT, WEB, 443, TCP, 0))
        await world.fwd.join(VERSION)
        assert world.fwd.heard.empty(), "its question was not answered"
        assert world.drops == {"wrong-version": 4}
        assert not (await world.fwd.check(WEB)).allowed, "of our version it is answered"

    run(story)
    refused = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(refused) == 1
    assert f"speaks version {VERSION + 1}, this tracker {VERSION}" in refused[0].getMessage()


MALFORMED = {
    "a message of another link": Bye("tcp_fwd-1"),
    "an address of three octets": Check(1, CLIENT, b"abc", 443, TCP, 0),
    "a port beyond 65535": Check(1, CLIENT, WEB, 65536, TCP, 0),
    "a negative port": Check(1, CLIENT, WEB, -1, TCP, 0),
    "a protocol beyond 255": Check(1, CLIENT, WEB, 443, 256, 0),
    "a negative TTL": Learn(1, "www.example", [WEB], -1, CLIENT, 0, []),
    "an address of a name that is none": Learn(1, "www.example", [b""], 60, CLIENT, 0, []),
    "more addresses than a message holds": Learn(1, "www.example", [WEB] * 4097, 60, CLIENT, 0, []),
    "a name without end": Learn(1, "x" * 1025, [WEB], 60, CLIENT, 0, []),
    "a touched address that is none": Touch([WEB, b"\x00"]),
    "nothing to revoke": Revoke(1, ""),
    "too much to revoke": Revoke(1, "x" * 1025),
    "what only the tracker says": Verdict(1, True, "", [], 1.0, 0),
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_makes_no_sense_is_counted_and_not_answered(message: Message) -> None:
    async def story(world: World) -> None:
        world.fwd.say(message)
        await world.fwd.join()
        assert world.fwd.heard.empty()
        assert world.drops == {"malformed-frame": 1}

    run(story)


def test_an_answer_without_addresses_is_confirmed_and_leases_nothing() -> None:
    async def story(world: World) -> None:
        assert (await world.dns.learn("www.example")).ok
        assert world.gauges()["leases"] == 0

    run(story)


def test_a_full_table_confirms_nothing() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB)
        tracker = world.runtime.before_sample.__self__  # type: ignore[attr-defined]
        tracker._store.leases._max_addresses = 1
        learned = await world.dns.learn("other.example", OTHER)
        assert (learned.ok, learned.reason) == (False, Reason.WHITELIST_FULL)
        assert world.drops == {"whitelist-full": 1}

    run(story)


def test_traced_messages_leave_a_hop() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, WEB_6, trace_id=7)
        await world.fwd.check(WEB, trace_id=8)
        await world.fwd.check(OTHER, trace_id=9)
        await world.fwd.check(OTHER)
        hops = [await world.hops.get() for _ in range(3)]
        assert [(hop.trace_id, hop.event, hop.detail) for hop in hops] == [
            (7, "learned", "www.example 2 addresses"),
            (8, "checked", "allowed www.example"),
            (9, "checked", "refused not-whitelisted"),
        ]
        assert all(hop.stage == "tracker" and 0 <= hop.service < 1 for hop in hops)

    run(story)


def test_leases_that_ended_are_forgotten_without_being_asked_for() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, ttl=0)
        while world.gauges()["leases"]:
            await asyncio.sleep(0.02)
        assert (await world.fwd.check(WEB)).reason == "not-whitelisted"

    run(story, whitelist={"ttl": 1, "grace": 0})


def test_with_redis_what_another_tracker_leased_is_found(redis) -> None:
    async def story(world: World) -> None:
        redis.ask("SET", "netstack:lease:198.18.0.2", '{"names": ["other.example"]}', "PX", "200000")
        verdict = await world.fwd.check(OTHER, trace_id=5)
        assert verdict[1:4] == (True, "", ["other.example"])
        assert 190 < verdict.expires_in <= 200
        assert (await world.fwd.check(WEB)).reason == "not-whitelisted"
        assert (await world.hops.get()).detail == "allowed other.example"

    run(story, whitelist={"store": redis.url})


def test_with_redis_away_what_is_known_goes_on_and_nothing_new_is_allowed(redis, caplog) -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB)
        redis.kill()
        for _ in range(3):
            learned = await world.dns.learn("other.example", OTHER)
            assert (learned.ok, learned.reason) == (False, "tracker-down")
        assert (await world.fwd.check(WEB)).allowed
        assert (await world.fwd.check(OTHER)).reason == "tracker-down"
        assert (await world.fwd.check(OTHER, 853)).reason == "encrypted-dns"
        assert world.drops == {"tracker-down": 4, "encrypted-dns": 1}
        assert "redis.sock cannot be reached" in world.runtime.counters.notes["store"]
        redis.start()
        while not (await world.dns.learn("other.example", OTHER)).ok:
            await asyncio.sleep(0.02)
        assert (await world.fwd.check(OTHER)).allowed
        assert world.runtime.counters.notes == {}

    caplog.set_level(logging.INFO)
    run(story, whitelist={"store": redis.url})
    said = [
        record.getMessage() for record in caplog.records if "reached" in record.getMessage() or "again" in record.msg
    ]
    assert len(said) == 2, said
    assert "nothing new is allowed" in said[0]


@pytest.mark.parametrize(
    ("ttl", "lease", "max_ttl"),
    [(0, 300, 240), (5, 300, 240), (240, 300, 240), (241, 301, 241), (3600, 3660, 3600), (10**6, 86460, 86400)],
)
def test_how_long_an_answer_is_leased_and_what_the_client_is_told(ttl: int, lease: int, max_ttl: int) -> None:
    async def story(world: World) -> None:
        assert (await world.dns.learn("www.example", WEB, ttl=ttl)).max_ttl == max_ttl
        assert lease - 1 < (await world.fwd.check(WEB)).expires_in <= lease

    run(story)


def test_a_lease_in_use_outlives_a_short_floor_since_its_use_is_said_each_half_minute() -> None:
    async def story(world: World) -> None:
        await world.dns.learn("www.example", WEB, WEB_6, ttl=0)
        world.fwd.say(Touch([WEB]))
        while (await world.fwd.check(WEB)).expires_in < 60:
            await asyncio.sleep(0.01)
        assert (await world.fwd.check(WEB_6)).expires_in > 60, "and so does that of its sibling"

    run(story, whitelist={"ttl": 5, "grace": 0})


def test_a_verdict_says_of_which_revocation_it_knows() -> None:
    async def story(world: World) -> None:
        before = (await world.fwd.check(WEB)).epoch
        await world.dns.revoke("198.18.0.1")
        assert (await world.fwd.check(WEB)).epoch == before + 1

    run(story)


def test_with_redis_what_another_tracker_revokes_is_told_to_the_forwarders_here(redis) -> None:
    async def story(world: World) -> None:
        while redis.ask("PUBSUB", "NUMSUB", "netstack:changes").split()[1] != "1":
            await asyncio.sleep(0.01)
        value = '{\\"names\\":[\\"www.example\\"]}'
        redis.ask("PUBLISH", "netstack:changes", f'["learned","another",300000,"198.18.0.1","{value}"]')
        assert (await world.changes.get())[:3] == ([WEB], ["www.example"], 300.0)
        assert (await world.fwd.check(WEB)).names == ["www.example"]
        redis.ask("PUBLISH", "netstack:changes", '["revoked","another",1,"198.18.0.1"]')
        assert (await world.changes.get())[:3] == ([WEB], [], 0.0)
        assert not (await world.fwd.check(WEB)).allowed

    run(story, whitelist={"store": redis.url})
