"""Lists put together."""

from services.dns_filter.lists.builder import ALLOW, DENY, EXCEPT, Builder
from services.dns_filter.lists.lookup import Names
from services.dns_filter.lists.rules import AT
from services.dns_filter.names import to_wire


def test_each_kind_has_a_trie_of_its_own() -> None:
    builder = Builder()
    builder.read([b"a.example\n@@||b.example^\n"], 0, allows=False)
    builder.read([b"c.example\n@@||d.example^\n"], 1, allows=True)
    found = {kind: Names(*builder.build(kind)) for kind in (ALLOW, DENY, EXCEPT)}
    assert [len(found[kind]) for kind in (ALLOW, DENY, EXCEPT)] == [2, 1, 1]
    assert found[ALLOW].match(to_wire("d.example")).source == 1


def test_form_is_told_by_each_list() -> None:
    builder = Builder()
    zone = builder.read([b"$TTL 60\n@ SOA a. b. 1 2 3 4 5\n", b"a.example CNAME .\n"], 0, allows=False)
    hosts = builder.read([b"0.0.0.0 b.example\n", b"", b"0.0.0.0 c.example\n"], 1, allows=False)
    assert (zone.entries, hosts.entries) == (1, 2)
    names = Names(*builder.build(DENY))
    assert names.match(to_wire("a.example"))[:2] == (0, 3)
    assert names.match(to_wire("c.example"))[:2] == (1, 2)


def test_name_of_several_lists_is_that_of_the_first() -> None:
    builder = Builder()
    for source in range(3):
        builder.read([b"0.0.0.0 x.example\n" * 3], source, allows=False)
    trie, rules = builder.build(DENY)
    assert (len(trie), list(rules)) == (1, [1 << 2 | AT])


def test_nothing_listed_is_no_trie() -> None:
    builder = Builder()
    builder.read([], 0, allows=False)
    builder.read([b"# nothing\n"], 1, allows=False)
    assert [builder.build(kind) for kind in (ALLOW, DENY, EXCEPT)] == [None, None, None]
