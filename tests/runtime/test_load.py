"""The three layers of the configuration, and what is said about each mistake."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.runtime.config import Config, ConfigError
from netstack.runtime.load import dump, load


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "n.toml"
    path.write_text(text)
    return path


def _refused(
    path: Path | None = None, settings: tuple[str, ...] = (), environment: dict[str, str] | None = None
) -> str:
    with pytest.raises(ConfigError) as raised:
        load(path, settings, environment or {})
    return str(raised.value)


def test_nothing_written_gives_the_defaults() -> None:
    assert load(None, [], {"PATH": "/bin"}) == Config()


def test_the_environment_is_laid_over_the_file_and_settings_over_both(tmp_path: Path) -> None:
    path = _written(tmp_path, "[dns]\ntimeout = 1\ncache = false\n[tcp]\nmax_flows = 5\n")
    environment = {"NETSTACK_DNS__TIMEOUT": "2", "NETSTACK_TCP__MAX_FLOWS": "6", "NETSTACK_RUN_DIR": "/run/x"}
    config = load(path, ["tcp.max_flows=7"], environment)
    assert (config.dns.timeout, config.dns.cache, config.tcp.max_flows) == (2.0, False, 7)


@pytest.mark.parametrize(
    ("setting", "upstreams"),
    [
        pytest.param('dns.upstreams=["udp://198.18.0.2:53"]', ["udp://198.18.0.2:53"], id="a TOML value"),
        pytest.param('dns = {upstreams = ["udp://198.18.0.3"]}', ["udp://198.18.0.3"], id="a whole table"),
        pytest.param('"dns".upstreams=[\n"udp://198.18.0.4"\n]', ["udp://198.18.0.4"], id="over several lines"),
    ],
)
def test_a_setting_takes_a_toml_value(setting: str, upstreams: list[str]) -> None:
    assert load(None, [setting], {}).dns.upstreams == upstreams


@pytest.mark.parametrize(
    ("value", "name"),
    [("web", "web"), ('"web"', "web"), ("12", "12"), ("1.5", "1.5"), ("true", "true"), ("2020-01-01", "2020-01-01")],
)
def test_a_bare_word_is_a_string_where_one_belongs(value: str, name: str) -> None:
    assert load(None, [f"capture.name={value}"], {}).capture.name == name


def test_a_table_is_laid_over_key_by_key(tmp_path: Path) -> None:
    path = _written(tmp_path, '[dns.bootstrap]\na = ["192.0.2.1"]\nb = ["192.0.2.2"]\n')
    config = load(path, ['dns.bootstrap={b=["192.0.2.3"]}', 'dns.bootstrap."c.d"=["192.0.2.4"]'], {})
    assert config.dns.bootstrap == {"a": ["192.0.2.1"], "b": ["192.0.2.3"], "c.d": ["192.0.2.4"]}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param(["dns.timeut=3"], "dns.timeut (-s): unknown key; did you mean dns.timeout?", id="a misspelt key"),
        pytest.param(
            ["upstreams=3"], "upstreams (-s): unknown key; did you mean dns.upstreams?", id="a section forgotten"
        ),
        pytest.param(["quic.zzz=1"], "allowed in quic: block, ports, answer", id="an unknown key like none"),
        pytest.param(["mode=x"], 'mode = "x" (-s): must be one of "dns", "firewall"', id="none of the allowed words"),
        pytest.param(["whitelist.ttl=-1"], "whitelist.ttl = -1 (-s): must be an integer from 1 to 604800", id="TTL -1"),
        pytest.param(
            ["quic.ports=[443,70000]"], "quic.ports[1] = 70000 (-s): must be an integer from 1", id="port 70000"
        ),
        pytest.param(["quic.block=3"], "must be true or false", id="a number for a switch"),
        pytest.param(["tcp=3"], "tcp = 3 (-s): must be a table with connect_timeout", id="a number for a section"),
        pytest.param(
            ["tcp=3", "tcp.max_flows=4"], "tcp.max_flows (-s): tcp is no table but 3 (-s)", id="through a number"
        ),
        pytest.param(["dns.upstreams=udp://x"], '; one element is written dns.upstreams=["udp://x"]', id="no brackets"),
        pytest.param(["dns.upstreams=[udp://x]"], "not valid TOML", id="brackets without quotes"),
        pytest.param(["dns.timeout"], "must be KEY=VALUE", id="no value"),
        pytest.param(["=3"], "is no key", id="no key"),
        pytest.param(["a\nb=3"], "is no key", id="two lines as a key"),
        pytest.param(["dns.timeout=nan"], "must be a number above 0 and at most 60", id="not a number"),
        pytest.param(["tcp.max_flows=" + "9" * 5000], "tcp.max_flows = ", id="more digits than Python reads"),
        pytest.param(["tcp.max_flows=0x" + "f" * 9000], "a very large number", id="more digits than Python writes"),
        pytest.param(["dns.upstreams=" + "[" * 9999], "not valid TOML", id="nested deeper than Python recurses"),
        pytest.param(['dns.bootstrap.a="192.0.2.1"'], "dns.bootstrap = ", id="a string for a list in a free table"),
        pytest.param(["tun.name=abcdefghijklmnop"], "tun.name", id="a name longer than an interface may have"),
    ],
)
def test_a_mistake_is_refused_with_key_place_value_and_what_is_allowed(settings: list[str], said: str) -> None:
    assert said in _refused(settings=tuple(settings))


def test_a_mistake_in_the_file_has_its_line(tmp_path: Path) -> None:
    path = _written(tmp_path, "[dns]\n\ntimeout = 99\n")
    assert _refused(path).startswith(f"dns.timeout = 99 ({path}, line 3): must be")


def test_a_mistake_in_the_environment_has_its_variable() -> None:
    said = _refused(environment={"NETSTACK_QUIC__PORTS": "[0]", "NETSTACK_QUIC__BLOCK": "true"})
    assert "quic.ports[0] = 0 (environment variable NETSTACK_QUIC__PORTS): must be" in said
    assert "environment variable NETSTACK_FOO" in _refused(environment={"NETSTACK_FOO": "1"})


def test_the_place_of_a_value_is_that_of_the_layer_on_top(tmp_path: Path) -> None:
    path = _written(tmp_path, "[dns]\ntimeout = 99\n")
    assert "(-s)" in _refused(path, ("dns.timeout=98",))


def test_several_impossible_values_are_named_together() -> None:
    said = _refused(settings=('allow.networks=["10.0.0.1/8", "x"]', "tun.dns=y"))
    assert len(said.splitlines()) == 3
    assert 'allow.networks[0] = "10.0.0.1/8" (-s): 10.0.0.1/8 has host bits set; write 10.0.0.0/8' in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"mode = ", "not valid TOML: Invalid value (at end of document)"),
        (b"\xff\xfe", "is UTF-8 text"),
        (b"x = " + b"[" * 9999, "not valid TOML"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "n.toml"
    path.write_bytes(content)
    refused = _refused(path)
    assert said in refused
    assert str(path) in refused


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert "No such file" in _refused(tmp_path / "missing.toml")
    assert "Is a directory" in _refused(tmp_path)


def test_what_is_dumped_is_loaded_again(tmp_path: Path) -> None:
    config = load(None, ['dns.bootstrap."a.b"=["192.0.2.1"]', 'deny.names=["x.example"]', "capture.name=1"], {})
    assert load(_written(tmp_path, dump(config)), [], {}) == config


_TEXTS = st.text() | st.from_regex(r'[a-z_."]{1,12}=[\[\]{}"0-9a-z:/.,=\n -]{0,30}', fullmatch=True)
_KEYS = st.sampled_from(
    ["dns.upstreams", "tun", "tcp.max_flows", "dns.bootstrap", "quic.ports", "capture.name", "mode"]
)
_VALUES = st.text() | st.from_regex(r'[\[{"]?[0-9a-z:/.,="-]{0,20}[\]}"]?', fullmatch=True)


@given(settings=st.lists(_TEXTS | st.builds("{}={}".format, _KEYS, _VALUES), max_size=3))
def test_any_text_as_setting_gives_a_config_or_a_config_error(settings: list[str]) -> None:
    with suppress(ConfigError):
        load(None, settings, {})


@given(name=st.text() | st.sampled_from(["DNS__UPSTREAMS", "TUN", "MODE", "DNS____X", ""]), value=_VALUES)
def test_any_text_in_the_environment_gives_a_config_or_a_config_error(name: str, value: str) -> None:
    with suppress(ConfigError):
        load(None, [], {f"NETSTACK_{name}": value})


@given(lines=st.lists(_TEXTS | st.builds("[{}]".format, _KEYS) | st.builds("{} = {}".format, _KEYS, _VALUES)))
def test_any_text_as_file_gives_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    with suppress(ConfigError):
        load(path, [], {})
