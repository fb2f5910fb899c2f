"""The tests mirror the tree: each module has a test module of its own, so that one knows where to look and to add."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent

EXCEPTIONS: Final = {
    "netstack/cli/ask.py": "asks running processes: tests/e2e/test_observing.py",
    "netstack/cli/commands/allow_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/check_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_bad_input.py",
    "netstack/cli/commands/demo_command.py": "calls netstack.cli.demo: tests/cli/test_demo.py",
    "netstack/cli/commands/deny_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/exec_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_command.py",
    "netstack/cli/commands/keys_command.py": "a command: tests/cli/test_main.py",
    "netstack/cli/commands/leases_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/pause_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/recover_command.py": "a command: tests/cli/test_main.py and test_rundir.py beside it",
    "netstack/cli/commands/revoke_command.py": "tests/cli/test_reasons.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/status_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_observing.py",
    "netstack/cli/commands/trace_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_observing.py",
    "netstack/cli/commands/up_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_up.py",
    "netstack/cli/commands/why_command.py": "a command: tests/cli/test_main.py and tests/e2e/test_commands.py",
    "netstack/cli/commands/version_command.py": "a command: tests/cli/test_main.py",
    "netstack/cli/execute.py": "runs the whole pipeline: tests/e2e/test_command.py",
    "netstack/cli/foreground.py": "runs the whole pipeline: tests/e2e/test_up.py; which stages: tests/cli/test_main.py",
    "netstack/cli/options.py": "options of commands: tests/cli/test_main.py",
    "netstack/cli/pipeline.py": "starts the real services: tests/e2e/test_command.py",
    "netstack/cli/process.py": "real processes: tests/cli/test_supervisor.py",
    "netstack/cli/roster.py": "the supervisor's table: tests/cli/test_supervisor.py and tests/cli/test_health.py",
    "netstack/runtime/uncollected.py": "turns off what another turns on: tests/runtime/test_memory.py",
    "services/dns_filter/service.py": "the whole process: tests/pipeline/test_dns_filter.py",
    "services/dns_filter/upstreams/quic_connection.py": "its uses: tests/services/dns_filter/upstreams/test_quic.py",
    "services/dns_filter/upstreams/upstream.py": "what they share: tests/services/dns_filter/upstreams/test_tcp.py",
    "services/tcp_fwd/commands.py": "a vocabulary: tests/services/tcp_fwd/test_connection.py",
    "services/tcp_fwd/control_block.py": "what events have in common: tests/services/tcp_fwd/test_connection.py",
    "services/tcp_fwd/namer.py": "the whole process: tests/pipeline/test_tcp_fwd_names.py",
    "services/tcp_fwd/output.py": "what a connection sends: tests/services/tcp_fwd/test_connection.py",
    "services/tcp_fwd/service.py": "the whole process: tests/pipeline/test_tcp_fwd.py and those beside it",
    "services/tcp_fwd/session.py": "host sockets of the whole process: tests/pipeline/test_tcp_fwd.py",
    "services/tcp_fwd/states.py": "what a state makes of an event: tests/services/tcp_fwd/test_state_table.py",
    "services/tun_io/service.py": "the whole process: tests/pipeline/test_tun_io.py and test_tun_io_lifetime.py",
    "services/udp_fwd/forwarder.py": "the whole process: tests/pipeline/test_udp_fwd.py",
    "services/udp_fwd/kinds.py": "ping sockets: tests/pipeline/test_udp_fwd_outside.py",
    "services/udp_fwd/outgoing.py": "two records without behaviour",
}
"""Modules without a test module of their own, and where they are tested. `__init__` and `__main__` need none."""


def mirrored(module: Path) -> Path:
    """Where the tests of a module are: netstack/packet/ipv4.py is tested in tests/packet/test_ipv4.py."""
    parts = module.parts[1:] if module.parts[0] == "netstack" else module.parts
    return Path("tests", *parts[:-1], f"test_{module.name}")


def modules() -> list[Path]:
    """Every module that wants a test module, relative to the root."""
    found = [path.relative_to(ROOT) for folder in ("netstack", "services") for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if path.name not in {"__init__.py", "__main__.py"})


def test_every_module_has_its_test_module() -> None:
    missing = [str(path) for path in modules() if not (ROOT / mirrored(path)).exists()]
    assert [name for name in missing if name not in EXCEPTIONS] == []


def test_every_exception_is_one() -> None:
    assert [name for name in EXCEPTIONS if not (ROOT / name).exists() or (ROOT / mirrored(Path(name))).exists()] == []


def test_every_test_that_an_exception_names_is_there() -> None:
    named = {name for why in EXCEPTIONS.values() for name in re.findall(r"tests/[\w/]+\.py", why)}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_mirror_itself() -> None:
    assert mirrored(Path("netstack/packet/ipv4.py")) == Path("tests/packet/test_ipv4.py")
    assert mirrored(Path("services/tcp_fwd/host.py")) == Path("tests/services/tcp_fwd/test_host.py")
