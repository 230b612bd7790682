"""Each invariant of the promise has a check that is there, and the page says so."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.check import Finding, statuses
from tests.invariants import CHAOS, EXHAUSTIVE, INVARIANTS, Invariant, table

ROOT = Path(__file__).parents[1]
NAMES = {each.name for each in INVARIANTS}


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda each: each.name)
def test_an_invariant_has_a_check_that_is_there(invariant: Invariant) -> None:
    assert invariant.checks or invariant.is_exhaustive or invariant.is_chaos_s
    for check in invariant.checks:
        file, _, function = check.partition("::")
        assert function in functions(ROOT / file), check


def broken_by(folder: str) -> Iterator[str]:
    """The invariants that the code of the search names where it finds one broken."""
    for file in (ROOT / folder).glob("*.py"):
        yield from re.findall(r'(?:break_|BrokenError)\(\s*"(I\d+)"', file.read_text("utf-8"))


def test_the_exhaustive_search_judges_what_is_said_of_it() -> None:
    assert {*broken_by("tests/exhaustive")} == EXHAUSTIVE
    assert EXHAUSTIVE <= NAMES


def test_the_chaos_run_judges_what_is_said_of_it() -> None:
    """Each finding of a run has invariants to speak for, and no other is named."""
    source = (ROOT / "tests/chaos/check.py").read_text("utf-8")
    findings = set(re.findall(r'Finding\(\s*"([^"]+)"', source))
    assert findings == CHAOS.keys()
    assert {name for names in CHAOS.values() for name in names} <= NAMES


def test_the_page_has_the_table() -> None:
    """As `tests.invariants.table` has it."""
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    assert "\n".join(table()) in page


def test_a_run_says_of_each_invariant_what_it_has_seen() -> None:
    """What nothing in the run spoke for is unchecked, also if its finding had nothing to see."""
    told = statuses(
        [
            Finding("acknowledged and missing", holds=False, detail="1 of 9"),
            Finding("every answer in time", holds=True, detail="0 later"),
            Finding("memory bounded", holds=True, detail="64 MiB"),
            Finding("sockets bounded", holds=False, detail="300"),
            Finding("one partition per message", holds=True, detail="0 of 0", seen=False),
        ]
    )
    assert told.keys() == NAMES
    assert {name: each["status"] for name, each in told.items() if each["findings"]} == {
        "I1": "violated",
        "I4": "unchecked",
        "I8": "satisfied",
        "I9": "violated",
    }
    assert told["I5"]["status"] == "unchecked"
