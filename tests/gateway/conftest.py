"""A wall clock to move."""

from pathlib import Path

import pytest

from tests.support.clock import FaketimeUnavailableError, WallClock
from tests.support.needs import skipped_without


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A wall clock for a program that is started with it, to move while that runs."""
    with skipped_without("wall clock to move", FaketimeUnavailableError):
        return WallClock(tmp_path / "offset")
