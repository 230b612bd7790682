"""Proxies before the gateway, and a wall clock to move."""

from pathlib import Path

import pytest

from tests.support.clock import FaketimeUnavailableError, WallClock
from tests.support.needs import program, skipped_without


@pytest.fixture(scope="session")
def haproxy() -> str:
    """HAProxy: the program."""
    return program("haproxy", "haproxy")


@pytest.fixture(scope="session")
def nginx() -> str:
    """The web server nginx, which is a proxy here: the program."""
    return program("nginx", "nginx")


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A wall clock for a program that is started with it, to move while that runs."""
    with skipped_without("wall clock to move", FaketimeUnavailableError):
        return WallClock(tmp_path / "offset")
