"""Lists put together."""

from services.dns_filter.lists.builder import ALLOW, DENY, EXCEPT, Builder
from services.dns_filter.lists.rules import AT
from services.dns_filter.names import to_wire
from tests.services.dns_filter.lists.reading import names


def test_each_kind_has_a_table_of_its_own() -> None:
    builder = Builder()
    builder.read([b"a.example\n@@||b.example^\n"], 0, allows=False)
    builder.read([b"c.example\n@@||d.example^\n"], 1, allows=True)
    listed = {
        kind: [name for name in "abcd" if found.match(to_wire(f"{name}.example"))]
        for kind in (ALLOW, DENY, EXCEPT)
        for found in [names(builder, kind)]
    }
    assert listed == {ALLOW: ["c", "d"], DENY: ["a"], EXCEPT: ["b"]}


def test_form_is_told_by_each_list() -> None:
    builder = Builder()
    zone = builder.read([b"$TTL 60\n@ SOA a. b. 1 2 3 4 5\n", b"a.example CNAME .\n"], 0, allows=False)
    hosts = builder.read([b"0.0.0.0 b.example\n", b"", b"0.0.0.0 c.example\n"], 1, allows=False)
    assert (zone.entries, hosts.entries) == (1, 2)
    found = names(builder)
    assert found.match(to_wire("a.example"))[:2] == (0, 3)
    assert found.match(to_wire("c.example"))[:2] == (1, 2)


def test_name_of_several_lists_is_that_of_the_first() -> None:
    builder = Builder()
    for source in range(3):
        builder.read([b"0.0.0.0 x.example\n" * 3], source, allows=False)
    octets: list[bytes] = []
    builder.build(DENY, octets.append)
    assert b"".join(octets) == b"\nx.example/%x" % (1 << 2 | AT)


def test_nothing_listed_is_no_table() -> None:
    builder = Builder()
    builder.read([], 0, allows=False)
    builder.read([b"# nothing\n"], 1, allows=False)
    assert [names(builder, kind) for kind in (ALLOW, DENY, EXCEPT)] == [None, None, None]
