"""Hosts files, plain names, wildcards and AdBlock rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists.lines import Lines, parse_line
from services.dns_filter.lists.rules import AT, BELOW, Entry, ListLineError, Tally
from tests.services.dns_filter.lists.reading import naive, read_lines, said

BOTH = AT | BELOW


@pytest.mark.parametrize(
    ("line", "entries"),
    [
        ("0.0.0.0 ads.example", [Entry(b"ads.example", AT)]),
        ("127.0.0.1\tads.example # why", [Entry(b"ads.example", AT)]),
        (":: ads.example", [Entry(b"ads.example", AT)]),
        ("::1 ads.example", [Entry(b"ads.example", AT)]),
        ("0 ads.example", [Entry(b"ads.example", AT)]),
        ("0.0.0.0 a.example b.example", [Entry(b"a.example", AT), Entry(b"b.example", AT)]),
        ("127.0.0.1 localhost", []),
        ("255.255.255.255 broadcasthost", []),
        ("fe80::1%lo0 localhost", []),
        ("0.0.0.0 0.0.0.0", []),
        ("ads.example", [Entry(b"ads.example", BOTH)]),
        ("ads.example.", [Entry(b"ads.example", BOTH)]),
        ("ads.example # why", [Entry(b"ads.example", BOTH)]),
        ("ads.example#why", [Entry(b"ads.example", BOTH)]),
        ("*.ads.example", [Entry(b"ads.example", BOTH)]),
        (".ads.example", [Entry(b"ads.example", BOTH)]),
        ("*.zip", [Entry(b"zip", BOTH)]),
        ("||ads.example^", [Entry(b"ads.example", BOTH)]),
        ("||ads.example", [Entry(b"ads.example", BOTH)]),
        ("||ads.example^|", [Entry(b"ads.example", BOTH)]),
        ("||zip^", [Entry(b"zip", BOTH)]),
        ("|ads.example^", [Entry(b"ads.example", AT)]),
        ("||*.ads.example^", [Entry(b"ads.example", BELOW)]),
        ("@@||good.example^", [Entry(b"good.example", BOTH, exception=True)]),
        ("@@|good.example^|", [Entry(b"good.example", AT, exception=True)]),
        ("||ads.example^$third-party,important", [Entry(b"ads.example", BOTH)]),
        ("@@||good.example^$important", [Entry(b"good.example", BOTH, exception=True)]),
        ("", []), ("  ", []), ("! a", []), ("# a", []), ("; a", []), ("[adblock plus 2.0]", []), ("\ufeff# a", []),
    ],
)  # fmt: skip
def test_what_a_line_says(line: str, entries: list[Entry]) -> None:
    tally = Tally()
    assert parse_line(line.encode(), tally) == entries
    assert tally.ignored == 0
    assert tally.options == ("$" in line)


@pytest.mark.parametrize(
    "line",
    [
        "example.com##.banner", ".banner##x", "example.com#@#.banner", "example.com#?#x", "example.com#$#x",
        "/banner[0-9]+/", "||ads.example/path^", "||ads.example:8080^", "||ads.*^", "||ads.", "||ads",
        "|https://ads.example^", "|ads.example", "ads.example^", "||192.0.2.1^",
        "||ads.example^$script", "||ads.example^$domain=a.example",
        "@@||good.example^$document", "@@||good.example^$domain=a.example", "@@good.example",
        "||ads.example^$dnstype=AAAA", "-banner-$image",
    ],
)  # fmt: skip
def test_what_no_dns_filter_can_do_is_ignored_and_counted(line: str) -> None:
    tally = Tally()
    assert parse_line(line.encode(), tally) == []
    assert (tally.ignored, tally.options) == (1, 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("192.168.1.5 nas.example", "a hosts line for"),
        ("192.0.2.1", "is an address"),
        ("2001:db8::1", "is an address"),
        ("0.0.0.0 192.0.2.1", "is an address"),
        ("0.0.0.0 a..b", "is no domain name"),
        ("com", "is a single label"),
        ("<title>not found</title>", "neither a name"),
        ("<html>", "is no domain name"),
        ("two words", "neither a name"),
        ("münchen.example", "is no domain name"),
        ("*ads.example", "is no domain name"),
        ("||ads,example^", "is no domain name"),
        ("x" * 5000, "a line of 5000 octets"),
    ],
    ids=str,
)
def test_what_is_wrong(line: str, said: str) -> None:
    with pytest.raises(ListLineError, match=said):
        parse_line(line.encode(), Tally())


def test_file_of_one_form() -> None:
    hosts = b"# hosts\n127.0.0.1 localhost\n0.0.0.0 a.example\n0.0.0.0\tB.Example  # why\r\n\n0.0.0.0 c.example"
    listed, exceptions, tally = read_lines(hosts)
    assert listed == [(3, "a.example", AT), (4, "b.example", AT), (6, "c.example", AT)]
    assert (exceptions, tally.entries, tally.errors) == ([], 3, 0)


def test_forms_may_be_mixed_and_errors_are_named_by_line() -> None:
    text = b"||a.example^\n@@||b.example^\n0.0.0.0 c.example\nwhat is this\nd.example\n-.example\n||e.example^$script\n"
    listed, exceptions, tally = read_lines(text)
    assert listed == [(1, "a.example", BOTH), (3, "c.example", AT), (5, "d.example", BOTH)]
    assert exceptions == [(2, "b.example", BOTH)]
    assert [line for line, _ in tally.first_errors] == [4, 6]
    assert (tally.entries, tally.ignored, tally.errors) == (4, 1, 2)


def test_lines_are_counted_across_chunks() -> None:
    tally = Tally()
    reader = Lines(5, tally)
    reader.read(b"a.example\nb.example\n")
    listed, _ = reader.read(b"what is this\nc.example")
    assert said(listed) == [(4, "c.example", BOTH)]
    assert [line for line, _ in tally.first_errors] == [3]


LINES = st.one_of(
    st.text(st.sampled_from("ab.-_1 |^@#!$*\r\t:0"), max_size=12),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "0.0.0.0 ", "127.0.0.1  ", ":: ", "||", "|", "@@||", "*.", ".", "||*."]),
        st.sampled_from(
            ["a.b", "A.b.c", "a..b", "a-.b", "a.-b", "a.b.", "1.2", "1.2.3.4", "a", f"{'x' * 64}.b", "a.b1"]
        ),
        st.sampled_from(["", "^", "^|", " # x", "#x", "^$important", "^$script", "\r", " ", " c.d"]),
    ),
)


@given(st.lists(LINES, max_size=30))
def test_a_file_says_what_its_lines_say(lines: list[str]) -> None:
    text = "\n".join(lines).encode()
    listed, exceptions, tally = read_lines(text)
    entries = naive(text)
    assert sorted((name, coverage) for _, name, coverage in listed) == sorted(
        (entry.name.decode(), entry.coverage) for entry in entries if not entry.exception
    )
    assert sorted((name, coverage) for _, name, coverage in exceptions) == sorted(
        (entry.name.decode(), entry.coverage) for entry in entries if entry.exception
    )
    assert tally.entries == len(entries)


@given(st.binary(max_size=300))
def test_any_octets_are_a_list(octets: bytes) -> None:
    listed, exceptions, tally = read_lines(octets)
    assert tally.entries == len(listed) + len(exceptions)
    assert len(listed) + len(exceptions) + tally.errors <= 151
