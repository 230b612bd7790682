"""Programs that read what docs/deploy-hosts.md has."""

from pathlib import Path

import pytest

from tests.subscribers.programs import RuntimeUnavailableError, go_program
from tests.support.needs import program, skipped_without


@pytest.fixture(scope="session")
def systemd_analyze() -> str:
    """The program that checks units."""
    return program("systemd-analyze", "systemd")


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that reads compose files as `docker compose` does."""
    with skipped_without("Go", RuntimeUnavailableError):
        return go_program(Path(__file__).parent / "compose", tmp_path_factory.mktemp("compose"))
