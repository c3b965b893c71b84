"""One managed node for the contracts' tests; every test has a deployment of its own on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledgers import Chain, Deployed, a_key


@pytest.fixture(scope="session")
def chain(anvil_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A managed node in this process."""
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture
def deployed(chain: Chain, request: pytest.FixtureRequest) -> Deployed:
    """The contracts, with three founders."""
    founders = [a_key(f"founder {number}") for number in range(3)]
    return chain.deploy(request.node.nodeid, *founders)
