"""Filtering an answer, and the form in which it is kept."""

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.answer import Answer, filter_answer
from services.dns_filter.message import MalformedMessageError
from services.dns_filter.policy import Policy
from services.dns_filter.query import emit_upstream
from services.dns_filter.reply import emit_answer
from tests.services.dns_filter.messages import address, ask, policy, query, read, respond, texts

SOA = "example.com. 300 SOA ns.example.com. admin.example.com. 1 2 3 4 60"
PUBLIC = address("198.18.1.1")


def filtered(*records: str, rtype: str = "A", rules: Policy | None = None, **options: object) -> Answer:
    asked = query(rtype=rtype)
    octets = respond(emit_upstream(asked, 1), *records, **options)  # type: ignore[arg-type]
    return filter_answer(octets, asked, rules or policy())


def test_ordinary_answer_is_kept_octet_by_octet() -> None:
    asked = query()
    octets = respond(emit_upstream(asked, 1), "www.example.com. 30 CNAME b.test.", "b.test. 60 A 198.18.1.1")
    got = filter_answer(octets, asked, policy())
    assert got.body == octets[33:-11]  # between the question and OPT
    assert got.counts == (2, 0, 0)
    assert (got.addresses, got.lease_ttl, got.removed) == ((PUBLIC,), 30, ())
    assert [ttl for _, ttl in got.ttls] == [30, 60]
    assert all(int.from_bytes(got.body[at : at + 4], "big") == ttl for at, ttl in got.ttls)
    assert got.cuts[-1] == len(got.body)


@pytest.mark.parametrize(
    ("records", "rules", "kept", "leased", "removed"),
    [
        (["10.1.2.3", "198.18.1.1"], policy(), ["198.18.1.1"], ["198.18.1.1"], ["10.1.2.3"]),
        (["10.1.2.3"], policy(), [], [], ["10.1.2.3"]),
        (["10.1.2.3"], policy(private=("example.com",)), ["10.1.2.3"], ["10.1.2.3"], []),
        (["10.1.2.3", "10.9.9.9"], policy(networks=("10.1.0.0/16:80",)), ["10.1.2.3"], [], ["10.9.9.9"]),
    ],
    ids=[
        "a private address is removed", "and leaves nothing", "a private name keeps and leases it",
        "an allowed network keeps it, and needs no lease",
    ],
)  # fmt: skip
def test_rebinding(records: list[str], rules: Policy, kept: list[str], leased: list[str], removed: list[str]) -> None:
    got = filtered(*(f"www.example.com. 60 A {text}" for text in records), rules=rules)
    reply = emit_answer(query(), got, udp=True)
    assert texts(reply) == [f"www.example.com. 60 A {text}" for text in kept]
    assert got.addresses == tuple(map(address, leased))
    assert got.removed == tuple(map(address, removed))


def test_encrypted_client_hello_is_removed_where_server_names_are_enforced() -> None:
    record = "www.example.com. 60 HTTPS 1 . alpn=h2 ech=AARBQkNE"
    assert b"ABCD" in filtered(record, rtype="HTTPS").body
    enforced = filtered(record, rtype="HTTPS", rules=policy(sni="enforce"))
    assert b"ABCD" not in enforced.body
    assert texts(emit_answer(query(rtype="HTTPS"), enforced, udp=True)) == ['www.example.com. 60 HTTPS 1 . alpn="h2"']


@pytest.mark.parametrize("text", ["64:ff9b::a01:203", "::ffff:10.1.2.3", "2002:a01:203::1", "64:ff9b:1::a01:203"])
def test_private_address_within_another_is_removed(text: str) -> None:
    got = filtered(f"www.example.com. 60 AAAA {text}", "www.example.com. 60 AAAA 2001:db8::1", rtype="AAAA")
    assert got.addresses == (address("2001:db8::1"),)
    assert got.removed == (address(text),)


def test_public_address_within_the_well_known_prefix_stays() -> None:
    assert filtered("www.example.com. 60 AAAA 64:ff9b::808:808", rtype="AAAA").addresses == (
        address("64:ff9b::808:808"),
    )


def test_http3_is_removed_where_quic_is_blocked() -> None:
    record = "www.example.com. 60 HTTPS 1 . alpn=h3,h2 ipv4hint=198.18.1.1"
    blocked = filtered(record, rtype="HTTPS")
    assert b"h3" not in blocked.body
    assert blocked.addresses == (PUBLIC,)
    assert b"h3" in filtered(record, rtype="HTTPS", rules=policy(block_quic=False)).body


@pytest.mark.parametrize(
    ("records", "options", "seconds"),
    [
        (["www.example.com. 60 A 198.18.1.1", "www.example.com. 60 A 198.18.1.2"], {}, 60),
        (["www.example.com. 30 CNAME b.test.", "b.test. 60 A 198.18.1.1"], {}, 30),
        (["www.example.com. 604800 A 198.18.1.1"], {}, 86400),
        (["www.example.com. 0 A 198.18.1.1"], {}, 0),
        ([], {"rcode": "NXDOMAIN", "authority": (SOA,)}, 60),
        ([], {"authority": (SOA,)}, 60),
        (["www.example.com. 20 CNAME b.test."], {"authority": (SOA,)}, 20),
        ([], {"rcode": "NXDOMAIN"}, 0),
        (["www.example.com. 20 CNAME b.test."], {}, 0),
        ([], {"authority": (SOA.replace(" 60", " 100000").replace(" 300 ", " 100000 "),)}, 3600),
        ([], {"rcode": "SERVFAIL", "authority": (SOA,)}, 0),
        ([], {"rcode": "REFUSED"}, 0),
        (["www.example.com. 60 A 198.18.1.1"], {"flags": "QR TC"}, 0),
    ],
    ids=[
        "the shortest TTL", "of the whole chain", "a day at most", "TTL 0", "NXDOMAIN: the SOA's minimum", "no data",
        "an alias to nothing", "NXDOMAIN without SOA is not kept", "nor no data without SOA", "an hour at most",
        "SERVFAIL is not kept", "nor REFUSED", "nor what was truncated",
    ],
)  # fmt: skip
def test_how_long_it_is_kept(records: list[str], options: dict[str, object], seconds: int) -> None:
    assert filtered(*records, **options).cache_ttl == seconds  # type: ignore[arg-type]


def test_extended_errors_of_the_upstream_are_kept() -> None:
    got = filtered(rcode="NXDOMAIN", errors=((15, "on a list"),))
    assert (got.rcode, got.errors) == (3, (b"\x00\x0fon a list",))


def test_upper_bits_of_the_rcode_are_kept() -> None:
    assert filtered(rcode="BADVERS").rcode == 16


def test_bad_record_does_not_lose_the_message() -> None:
    asked = query()
    good = bytes.fromhex("c00c 0001 0001 0000003c 0004 c6120101")
    bad = bytes.fromhex("c00c 0001 0001 0000003c 0005 c612010199")
    octets = respond(ask())[:6] + bytes.fromhex("0002 0000 0000") + asked.question + bad + good
    got = filter_answer(octets, asked, policy())
    assert texts(emit_answer(asked, got, udp=True)) == ["www.example.com. 60 A 198.18.1.1"]
    assert got.addresses == (PUBLIC,)


def test_opt_that_is_not_the_last_record() -> None:
    asked = query()
    opt = bytes.fromhex("00 0029 04d0 00000000 0000")
    octets = respond(ask())[:6] + bytes.fromhex("0000 0000 0002") + asked.question + opt
    octets += bytes.fromhex("c00c 0001 0001 0000003c 0004 c6120101")
    got = filter_answer(octets, asked, policy())
    assert got.counts == (0, 0, 1)
    assert [str(rrset) for rrset in read(emit_answer(asked, got, udp=True)).additional] == [
        "www.example.com. 60 IN A 198.18.1.1"
    ]


def test_error_without_a_question() -> None:
    got = filter_answer(bytes.fromhex("1234 8185 0000 0000 0000 0000"), query(), policy())
    assert (got.rcode, got.counts, got.body) == (5, (0, 0, 0), b"")


def test_octets_of_which_nothing_can_be_made() -> None:
    with pytest.raises(MalformedMessageError):
        filter_answer(b"\x12\x34", query(), policy())


def test_four_thousand_addresses() -> None:
    addresses = [f"198.18.{index // 250}.{index % 250}" for index in range(4000)]
    got = filtered(*(f"www.example.com. 60 A {text}" for text in addresses))
    assert len(got.addresses) == 4000


HEAD = respond(ask())[:6]
RECORDS = [
    bytes.fromhex("c00c 0001 0001 0000003c 0004 c6120101"),
    bytes.fromhex("c00c 0001 0001 0000003c 0004 0a010203"),
    bytes.fromhex("c00c 0041 0001 0000003c 000a 0001 00 0001 0003 02 6833"),
    bytes.fromhex("00 0029 04d0 00000000 0000"),
]


@given(st.lists(st.one_of(st.sampled_from(RECORDS), st.binary(max_size=30)), max_size=5), st.integers(0, 5))
def test_any_octets_are_filtered_or_refused(parts: list[bytes], count: int) -> None:
    asked = query()
    octets = HEAD + bytes([0, count, 0, 0, 0, 1]) + asked.question + b"".join(parts)
    try:
        got = filter_answer(octets, asked, policy())
    except MalformedMessageError:
        return
    assert address("10.1.2.3") not in got.addresses
    reply = emit_answer(asked, got, udp=True, age=1, max_ttl=5)
    assert reply[:2] == b"\x12\x34"
    assert len(reply) <= 512


@given(
    st.sampled_from([1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41, 43, 46, 47, 48, 50, 52, 64, 65, 250, 257, 65280]),
    st.binary(max_size=24),
    st.integers(0, 2),
)
def test_record_of_any_octets_loses_no_other(rtype: int, data: bytes, before: int) -> None:
    asked = query()
    octets = respond(emit_upstream(asked, 1), "www.example.com. 60 A 198.18.1.1", "www.example.com. 60 A 198.18.1.2")
    start = 33  # behind the question; each address record has 16 octets
    odd = b"\xc0\x0c" + rtype.to_bytes(2, "big") + b"\x00\x01\x00\x00\x00\x3c" + len(data).to_bytes(2, "big") + data
    at = start + 16 * before
    mixed = octets[:6] + b"\x00\x03\x00\x00\x00\x00" + octets[12:at] + odd + octets[at : start + 32]
    got = filter_answer(mixed, asked, policy())
    assert set(got.addresses) >= {address("198.18.1.1"), address("198.18.1.2")}
    # Of types that are of no concern here, the record is passed on as it is.
    reply = dns.message.from_wire(emit_answer(asked, got, udp=False), continue_on_error=True)
    kept = {str(rdata) for rrset in reply.answer for rdata in rrset}
    assert kept >= {"198.18.1.1", "198.18.1.2"}


@pytest.mark.parametrize("section", [6, 8], ids=["among the answers", "in the authority section"])
def test_misplaced_opt_record_loses_nothing_and_is_gone(section: int) -> None:
    asked = query(edns=True)
    octets = respond(emit_upstream(asked, 1), "www.example.com. 60 A 198.18.1.1")[:49]
    counts = bytearray(octets[:12])
    counts[section + 1] += 1
    counts[11] = 0
    got = filter_answer(bytes(counts) + octets[12:] + bytes.fromhex("00 0029 04d0 00000000 0000"), asked, policy())
    assert got.addresses == (PUBLIC,)
    assert texts(emit_answer(asked, got, udp=True)) == ["www.example.com. 60 A 198.18.1.1"]
