"""What holds for all tests: how many examples hypothesis tries, and that nothing is skipped where it could have run."""

import os
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

E2E = Path(__file__).parent / "e2e"
CI = bool(os.environ.get("CI"))
MUST_RUN = os.geteuid() == 0 or CI
"""Where an end-to-end test can run, skipping it would make the run green without having shown anything."""

# A shared machine stalls at times: no deadline, and slow generation is no failure.
settings.register_profile("default", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DEFAULT = settings.get_profile("default")
settings.register_profile("ci", DEFAULT, derandomize=True, database=None, print_blob=True)
settings.register_profile("nightly", DEFAULT, max_examples=100_000, print_blob=True)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if CI else "default")
settings.load_profile(PROFILE)

# A shell without job control starts what it puts in the background with these ignored, and programs inherit it: the
# tests of ^C would see nothing. pytest's own handler of SIGINT is Python's.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

_NIGHTLY_TIMEOUT = 3600  # seconds a test


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies in tests/e2e is end to end; without root it says how it is run."""
    for item in items:
        if E2E in item.path.parents:
            item.add_marker("e2e")
        if item.get_closest_marker("e2e") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="makes network namespaces: run `make test` as root or with sudo"))
        if PROFILE == "nightly" and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_NIGHTLY_TIMEOUT))


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory for an instance's sockets: their paths must be short, and those of tmp_path may not be."""
    with tempfile.TemporaryDirectory(prefix="netstack-") as directory:
        yield Path(directory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped end-to-end test fails where it must run."""
    report = yield
    if MUST_RUN and report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("e2e"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Nor may a whole file of them be skipped."""
    report = yield
    if MUST_RUN and report.skipped and E2E in collector.path.parents:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"skipped where it must run: {why}"
