"""Where a key was written."""

from pathlib import Path

import pytest

from netstack.runtime.places import Places, key_text, line_of

TEXT = '''\
# a comment with [brackets]
mode = "firewall"

[dns]
# another
upstreams = [
  "udp://192.0.2.1",  # ]
  "udp://192.0.2.2",
]
timeout = 3
bootstrap = { "dns.example" = ["192.0.2.1"] }
tls_ca = """
[quic]
block = false
"""

[allow]
names = []

[ log ]
level = "info"
[tcp]
max_flows = 1
'''


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        pytest.param(("mode",), 2, id="a key at the top"),
        pytest.param(("dns",), 4, id="a table's header"),
        pytest.param(("dns", "upstreams"), 6, id="an array over several lines counts from its first"),
        pytest.param(("dns", "timeout"), 10, id="a key behind such an array"),
        pytest.param(("dns", "bootstrap", "dns.example"), 11, id="a key within an inline table"),
        pytest.param(("dns", "tls_ca"), 12, id="a text of several lines"),
        pytest.param(("quic", "block"), 0, id="what only looks like a key within a text is none"),
        pytest.param(("log", "level"), 21, id="blanks within a header"),
        pytest.param(("tcp", "max_flows"), 23, id="the last line"),
        pytest.param(("tcp", "idle_timeout"), 22, id="a key that is not written: its table"),
        pytest.param(("udp", "idle_timeout"), 0, id="a table that is not written"),
    ],
)
def test_the_line_of_a_key_is_found(keys: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, keys) == line


@pytest.mark.parametrize(
    "text", ["tcp.max_flows = 1", "tcp = { max_flows = 1 }", '"tcp"."max_flows" = 1', "[[tcp]]\nmax_flows = 1"]
)
def test_every_way_to_write_a_key_is_understood(text: str) -> None:
    assert line_of(f"\r\n# x\n{text}\n", ("tcp", "max_flows")) == 2 + len(text.split("\n"))


def test_a_table_written_through_its_keys_is_found() -> None:
    assert line_of("\n[dns.bootstrap]\na = []", ("dns",)) == 2


def test_a_later_note_goes_before_the_file() -> None:
    places = Places(Path("n.toml"), "[dns]\ntimeout = 3\n")
    assert places.of(("dns", "timeout")) == "n.toml, line 2"
    places.note(("dns", "timeout"), "-s")
    assert places.of(("dns", "timeout")) == "-s"
    assert places.of(("mode",)) == "default"


def test_a_table_is_where_what_is_in_it_was_noted() -> None:
    places = Places(None, "")
    places.note(("dns", "bootstrap", "a"), "-s")
    assert places.of(("dns", "bootstrap")) == "-s"


def test_a_key_that_needs_quotes_gets_them() -> None:
    assert key_text(("dns", "bootstrap", "dns.example")) == 'dns.bootstrap."dns.example"'
