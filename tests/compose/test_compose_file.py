"""docker-compose.yml as it is written: who may do what. tests/compose/on_engine.py runs it (`make test-compose`)."""

import re
from pathlib import Path

import pytest
import yaml

from netstack.runtime.load import load
from netstack.wire.topology import STAGES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
FILE = yaml.safe_load(TEXT)
SERVICES = FILE["services"]
OURS = [*STAGES, "demo"]


def test_there_are_the_five_services_redis_and_a_demo_that_up_does_not_start():
    assert set(SERVICES) == {*STAGES, "redis", "demo"}
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["demo"]


def test_all_of_ours_are_one_image_that_is_built_here_once_and_never_pulled():
    assert {(SERVICES[name]["image"], SERVICES[name]["pull_policy"]) for name in OURS} == {("netstack:local", "never")}
    assert [name for name, service in SERVICES.items() if "build" in service] == ["tun_io"]


@pytest.mark.parametrize("name", SERVICES)
def test_everybody_gives_up_every_capability_and_any_way_to_more(name):
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert "ports" not in service


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "tun_io"])
def test_who_does_not_open_the_tun_is_no_root_and_gets_no_capability_and_no_device(name):
    uid, _, gid = SERVICES[name]["user"].partition(":")

    assert int(uid) > 0
    assert int(gid) > 0
    assert "cap_add" not in SERVICES[name]
    assert "devices" not in SERVICES[name]


def test_who_opens_the_tun_gets_what_that_takes_and_no_network():
    service = SERVICES["tun_io"]

    assert service["cap_add"] == ["NET_ADMIN", "SETUID", "SETGID"]
    assert service["devices"] == ["/dev/net/tun"]
    assert service["network_mode"] == "none"


@pytest.mark.parametrize("key", ["user", "cap_add", "devices"])
def test_each_exception_has_its_reason_on_the_line(key):
    tun_io = re.search(r"^  tun_io:\n(.*?)^  \w", TEXT, re.MULTILINE | re.DOTALL)[1]
    value = re.search(rf"^    {key}:(.*\n(?:      .*\n)*)", tun_io, re.MULTILINE)[1]

    lines = [line for line in value.splitlines() if line.strip()]
    assert [line for line in lines if "  # " not in line] == []


def test_redis_and_the_tracker_reach_nobody_outside_and_the_forwarders_not_redis():
    networks = {name: service.get("networks") for name, service in SERVICES.items()}

    assert FILE["networks"]["store"] == {"internal": True}
    assert [name for name, of in networks.items() if of == ["store"]] == ["redis", "tracker"]
    assert [name for name, of in networks.items() if of == ["default"]] == ["dns_filter", "tcp_fwd", "udp_fwd"]


def test_the_demo_has_the_captured_network_and_none_of_our_sockets():
    demo = SERVICES["demo"]

    assert demo["network_mode"] == "service:tun_io"
    assert "volumes" not in demo
    assert demo["user"] != SERVICES["tracker"]["user"]


def test_the_links_are_in_memory_and_for_their_user_alone():
    options = FILE["volumes"]["links"]["driver_opts"]

    assert options["type"] == "tmpfs"
    assert options["o"].split(",") == ["mode=0700", "uid=65532", "gid=65532"]
    assert SERVICES["tracker"]["user"] == "65532:65532"


def test_the_services_configuration_is_one_that_is_accepted():
    environment = {key: value for key, value in SERVICES["tracker"]["environment"].items() if value is not None}

    config = load(None, [], environment)

    assert config.whitelist.store == "redis://redis:6379/0"
    assert config.tun.dns == SERVICES["tun_io"]["dns"][0]


@pytest.mark.parametrize(
    "name",
    [name for name, value in SERVICES["tracker"]["environment"].items() if value is None],
)
def test_what_is_taken_from_the_callers_environment_are_keys_that_there_are(name):
    values = {"DNS__BOOTSTRAP": '{"a.example" = ["198.18.0.1"]}', "WHITELIST__MODE": "audit", "LOG__LEVEL": "debug"}
    key = name.removeprefix("NETSTACK_")
    value = values.get(key, "uid" if key.endswith("CONTROLD") else '["udp://198.18.0.1:53"]')
    if key.startswith(("ALLOW", "DENY")):
        value = "[]"

    load(None, [], {name: value})
