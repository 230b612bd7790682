"""docs/reload.md is held against the tables that the program goes by."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.config.changes import RELOADED, RESTART

PAGE = (Path(__file__).parents[2] / "docs/reload.md").read_text("utf-8")


def keys(heading: str) -> Iterator[str]:
    """The settings of the table under a heading."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for section, names in re.findall(r"^\| `(.+?)` \| (.+) \|$", part, re.MULTILINE):
        yield from (f"{section}.{name}" for name in re.findall(r"`(\w+)`", names))


@pytest.mark.parametrize(
    ("heading", "table"),
    [("What is taken up", RELOADED), ("What needs a restart", RESTART)],
)
def test_the_tables_are_the_program_s(heading: str, table: frozenset[str]) -> None:
    found = list(keys(heading))
    assert len(found) == len(set(found))
    assert set(found) == table
