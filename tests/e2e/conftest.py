"""The small internet, one for all tests here, and one captured network that most of them share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.calls import Client, client_in
from tests.internet import Internet, Sandbox, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here, and say why."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    lacks = missing() if ours else []
    if lacks:
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=f"end-to-end tests need {', '.join(lacks)}"))


@pytest.fixture(scope="session")
def internet() -> Iterator[Internet]:
    """The user's machine and the rest of the world."""
    with Internet() as internet:
        yield internet


@pytest.fixture(scope="session")
def sandbox(internet: Internet) -> Iterator[Sandbox]:
    """A captured network as it comes, but for the resolver. Addresses learned in it stay learned."""
    with internet.sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def folder(internet: Internet) -> Iterator[Path]:
    """A folder that the machines of the small internet see too."""
    with internet.folder() as folder:
        yield folder


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    """Run client.py in the shared captured network."""
    return client_in(sandbox)
