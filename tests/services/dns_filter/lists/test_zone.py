"""Response policy zones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dns_filter.lists.rules import AT, BELOW, Tally
from services.dns_filter.lists.zone import Zone
from tests.services.dns_filter.lists.reading import Said, said

HEAD = """$TTL 60
@ IN SOA localhost. root.localhost. (
    1 ; serial
    3600 600 86400 60 )
  IN NS localhost.
"""  # five lines


def read(*chunks: str) -> tuple[list[Said], list[Said], Tally]:
    tally = Tally()
    zone = Zone(0, tally)
    listed: list[Said] = []
    exceptions: list[Said] = []
    for chunk in chunks:
        found = zone.read(chunk.encode())
        listed += said(found[0])
        exceptions += said(found[1])
    return listed, exceptions, tally


def test_policy_zone() -> None:
    listed, exceptions, tally = read(
        HEAD
        + "ads.example CNAME .\n"
        + "*.ads.example CNAME .\n"
        + "good.ads.example IN CNAME rpz-passthru.\n"
        + "nodata.example 30 IN CNAME *.\n"
        + "drop.example CNAME rpz-drop. ; why\n"
        + "sink.example A 0.0.0.0\n"
        + "sink6.example AAAA ::\n"
        + "Upper.Example CNAME .\n"
    )
    assert listed == [
        (6, "ads.example", AT), (7, "ads.example", BELOW), (9, "nodata.example", AT), (10, "drop.example", AT),
        (11, "sink.example", AT), (12, "sink6.example", AT), (13, "upper.example", AT),
    ]  # fmt: skip
    assert exceptions == [(8, "good.ads.example", AT)]
    assert (tally.entries, tally.ignored, tally.errors) == (8, 0, 0)


@pytest.mark.parametrize(
    "record",
    [
        "32.1.2.0.192.rpz-ip CNAME .", "ns.example.rpz-nsdname CNAME .",
        "24.0.0.0.10.rpz-client-ip CNAME rpz-passthru.", "a.example CNAME rpz-tcp-only.",
        "a.example CNAME walled.example.", "a.example A 192.0.2.1", "a.example TXT x",
        "$INCLUDE /etc/passwd", "$GENERATE 1-3 a$ CNAME .",
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_about_names_or_not_a_no_is_ignored_and_counted(record: str) -> None:
    listed, exceptions, tally = read(HEAD + record + "\nads.example CNAME .\n")
    assert (listed, exceptions) == ([(7, "ads.example", AT)], [])
    assert (tally.ignored, tally.errors) == (1, 0)


@pytest.mark.parametrize(
    "record", ["a..b CNAME .", "a.example", "a.example NONSENSE x", "a.example CNAME", "a.example A 1.2.3", 'a TXT "x']
)
def test_bad_record_is_named_and_loses_no_other(record: str) -> None:
    listed, _, tally = read(f"{HEAD}{record}\nads.example CNAME .\n")
    assert listed == [(7, "ads.example", AT)]
    assert [line for line, _ in tally.first_errors] == [6]


def test_parenthesis_that_is_never_closed_costs_a_hundred_lines() -> None:
    listed, _, tally = read(HEAD + "a TXT ( x\n" + "b.example CNAME .\n" * 150)
    assert tally.errors == 1
    assert len(listed) == 50


def test_names_may_be_written_with_their_zone() -> None:
    text = (
        "rpz.test. 60 IN SOA localhost. root.localhost. 1 2 3 4 5\nads.example.rpz.test. CNAME .\nb.example CNAME .\n"
    )
    assert read(text)[0] == [(2, "ads.example", AT), (3, "b.example", AT)]
    text = (
        "$ORIGIN rpz.test.\n@ SOA localhost. root.localhost. 1 2 3 4 5\n*.ads.example CNAME .\n"
        "$ORIGIN example.rpz.test.\nb CNAME .\n"
    )
    assert read(text)[0] == [(3, "ads.example", BELOW), (5, "b.example", AT)]


def test_name_out_of_the_zone_is_wrong() -> None:
    listed, _, tally = read("$ORIGIN rpz.test.\nads.example. CNAME .\n")
    assert listed == []
    assert "is not in the zone" in tally.first_errors[0][1]


def test_alias_for_itself_is_the_old_way_to_except() -> None:
    assert read(HEAD + "good.example CNAME good.example.\n")[1] == [(6, "good.example", AT)]


def test_record_may_leave_out_its_owner() -> None:
    assert read(HEAD + "ads.example TXT x\n CNAME .\n")[0] == [(7, "ads.example", AT)]


def test_chunks_and_line_by_line_are_the_same() -> None:
    records = "".join(f"{'*.' * (index % 2)}n{index}.example CNAME .\n" for index in range(50))
    listed, _, tally = read(HEAD, records, records)
    assert listed == read(HEAD + records + records)[0]
    assert (tally.entries, listed[0], listed[-1]) == (100, (6, "n0.example", AT), (105, "n49.example", BELOW))


@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_any_octets_are_read(chunks: list[bytes], head: bool) -> None:
    tally = Tally()
    zone = Zone(0, tally)
    if head:
        zone.read(HEAD.encode())
    for chunk in chunks:
        zone.read(chunk)


SIMPLE = st.builds(
    "{} {}CNAME {}".format,
    st.sampled_from(
        ["a.b", "*.a.b", "A.b.", "a..b", "a-.b", "a", "*.a", "x.rpz-ip", "1.2", f"{'x' * 64}.b", "*", "@", "a.b1"]
    ),
    st.sampled_from(["", "IN ", "60 ", "60 IN\t"]),
    st.sampled_from([".", "*.", "rpz-passthru.", "a.b.", ". ; x", ".\r", "rpz-drop."]),
)


@given(st.lists(SIMPLE, max_size=12))
def test_records_are_read_alike_at_once_and_one_by_one(records: list[str]) -> None:
    text = "".join(f"{record}\n" for record in records)
    at_once = read(text)
    one_by_one = read(f"{text}$TTL 60\n")  # a directive has the whole chunk looked at
    assert (at_once[0], at_once[1]) == (one_by_one[0], one_by_one[1])
    assert (at_once[2].errors, at_once[2].ignored) == (one_by_one[2].errors, one_by_one[2].ignored)


RECORD = st.text(st.sampled_from('ab.*@$()";\\ 01\tA'), max_size=20)


@given(st.lists(st.one_of(RECORD, st.builds("{} CNAME {}".format, RECORD, RECORD)), max_size=8))
def test_any_records_are_read(records: list[str]) -> None:
    tally = Tally()
    listed, exceptions = Zone(0, tally).read((HEAD + "\n".join(records)).encode())
    assert tally.entries == len(said(listed)) + len(said(exceptions))
