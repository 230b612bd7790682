"""The gate: it measures the tree that it is given, and says which is slower."""

import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.commits import before_the_change
from benchmarks.figures import Spread
from benchmarks.gate import Found, GateError
from benchmarks.programs import ROOT

# At the end of the module that every body passes through: a millisecond more for each.
COSTLY = """
_quick = prepare
def prepare(*arguments, **options):
    sum(range(100_000))
    return _quick(*arguments, **options)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the working tree's packages."""
    for package in ("bridge", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


@pytest.mark.slow
def test_a_request_that_costs_more_is_found(tree: Path) -> None:
    """In the tree where it is, with every size."""
    with (tree / "bridge/pipeline.py").open("a") as pipeline:
        pipeline.write(COSTLY)

    found = gate.compare(ROOT, tree, pairs=1, turns=2)

    assert [size.states for size in found] == [1, 10, 100]
    assert all(size.slower(20) for size in found)
    assert all(size.after_us > size.before_us > 0 for size in found)


@pytest.mark.slow
def test_a_tree_that_cannot_be_measured_says_why(tree: Path) -> None:
    (tree / "bridge/pipeline.py").write_text("this is no Python")

    with pytest.raises(GateError, match="SyntaxError"):
        gate.compare(ROOT, tree, pairs=1, turns=1)


def test_the_verdict_is_on_the_median_of_the_pairs_and_on_every_size() -> None:
    found = [
        Found(1, 100.0, 104.0, Spread(0.9, 1.04, 1.5)),
        Found(100, 2000.0, 2300.0, Spread(1.1, 1.15, 1.2)),
    ]

    assert [size.slower(5) for size in found] == [False, True]
    table = list(gate.lines("abc1234", found, 5))
    assert table[-1] == "The working tree is slower with 100 a document (limit: 5 %)."
    assert table[2] == "| 1 | 100 | 104 | 1.040 (0.900 to 1.500) |"
    assert list(gate.lines("abc1234", found[:1], 5))[-1].startswith("The working tree is no slower")


def test_it_compares_with_where_the_branch_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On main with what was there before: the last commit, or its parent if nothing is new."""
    monkeypatch.setattr("benchmarks.commits.ROOT", tmp_path)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        command = ["git", *identity, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--initial-branch=main")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--message=1")
    on_main = before_the_change()
    (tmp_path / "file").write_text("2")
    changed = before_the_change()
    git("switch", "--create=branch")
    git("commit", "--all", "--message=2")

    assert (on_main, changed) == ("HEAD~1", "HEAD")
    assert before_the_change() == git("rev-parse", "main")
    assert gate.main(["no-such-commit"]) == gate.EXIT_FAILED
