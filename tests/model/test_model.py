"""The models hold within the bounds of the quick runs, and each control is broken as it says."""

import re

import pytest

from tests.model.runs import CONTROLS, LONG, QUICK, Run
from tests.model.spin import MODELS, SpinError, search

ROOT = MODELS.parents[1]
NAMED = re.compile(r"\bA\d+\b")
PATIENCE = 300.0  # seconds, whatever else the machine does
ALL = (*QUICK, *LONG, *CONTROLS)


@pytest.mark.usefixtures("spin")
@pytest.mark.parametrize("run", QUICK, ids=lambda run: run.name)
def test_it_holds(run: Run) -> None:
    """Every way that the bounds allow was gone."""
    found = search(run, PATIENCE)
    assert found.broken is None, "\n".join(found.story)
    assert found.states > 1000


@pytest.mark.usefixtures("spin")
@pytest.mark.parametrize("run", CONTROLS, ids=lambda run: run.name)
def test_a_control_is_broken(run: Run) -> None:
    """And its story ends with the invariant."""
    found = search(run, PATIENCE)
    assert found.broken == run.breaks
    assert f"BROKEN {run.breaks}" in found.story[-1]


@pytest.mark.usefixtures("spin")
def test_a_search_without_an_end_is_no_proof() -> None:
    """Time that is too short is an error, not a run that holds."""
    with pytest.raises(SpinError, match="did not end"):
        search(Run("all faults", "replication", {}), 0.001)


@pytest.mark.parametrize("run", ALL, ids=lambda run: run.name)
def test_a_run_sets_constants_of_its_model(run: Run) -> None:
    """A name that the model does not know would change nothing."""
    known = re.findall(r"^#ifndef (\w+)$", source(run.model), re.MULTILINE)
    assert run.constants.keys() <= {*known}


def source(model: str) -> str:
    return (MODELS / f"{model}.pml").read_text("utf-8")


@pytest.mark.parametrize("model", ["replication", "suppression"])
def test_what_the_model_names_of_the_code_is_there(model: str) -> None:
    """Each file of the bridge that is named, and in these each method."""
    text = source(model)
    files = {*re.findall(r"bridge/\w+(?:/\w+)*\.py", text)}
    methods = {*re.findall(r"\b(?!Partition\b)([A-Z]\w+\.\w+)", text)}
    assert files
    assert methods
    code = "\n".join((ROOT / file).read_text("utf-8") for file in sorted(files))
    names = {name for method in methods for name in method.split(".")}
    assert not [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)]


def test_the_page_has_every_run_and_control() -> None:
    """docs/model.md: runs with their number of states, controls with what they break."""
    page = (ROOT / "docs/model.md").read_text("utf-8")
    held = re.findall(r"^\| (.+) \| [0-9,]+ \|$", page, re.MULTILINE)
    broken = re.findall(r"^\| (.+) \| (I\d+) \|$", page, re.MULTILINE)
    assert held == [run.name for run in (*QUICK, *LONG)]
    assert broken == [(run.name, run.breaks) for run in CONTROLS]


def test_the_page_says_what_each_assumption_is() -> None:
    """Each that a model names has its row, with a source."""
    page = (ROOT / "docs/model.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (A\d+) \| .+ \| (.+) \|$", page, re.MULTILINE))
    named = {n for model in ("replication", "suppression") for n in NAMED.findall(source(model))}
    assert named <= rows.keys()
    assert all(rows.values())
