"""The corpus, input by input; what shows that it would notice; and that the guidance runs."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.fuzzing.targets
from bridge.config import loader
from bridge.config.settings import AS_FAR_AS_VALID, Settings
from bridge.gateway import framing
from tests.fuzzing import __main__ as command
from tests.fuzzing.corpus import CORPUS, MAX_BYTES, inputs, name_of
from tests.fuzzing.targets import TARGETS, bounded
from tests.gateway.test_fuzz import MUTANTS

MAX_FILES, MAX_TOTAL_BYTES = 300, 300_000


class BrokenError(Exception):
    """An input does not hold."""


def replay(target: str) -> None:
    """Try every input of a target's corpus; BrokenError names the first that does not hold."""
    with TARGETS[target]() as one:
        for name, data in inputs(target).items():
            try:
                bounded(one)(data)
            except Exception as exc:
                raise BrokenError(f"tests/fuzzing/corpus/{target}/{name}") from exc


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_of_the_corpus_holds(target: str) -> None:
    replay(target)


def test_the_corpus_is_small() -> None:
    """It is read by every test run, and kept for ever."""
    held = {target: inputs(target) for target in TARGETS}
    assert {path.name for path in CORPUS.iterdir()} == set(held)
    everything = [each for target in held.values() for each in target.items()]
    assert len(everything) < MAX_FILES
    assert sum(len(data) for _, data in everything) < MAX_TOTAL_BYTES
    unnamed = re.compile("[0-9a-f]{16}")
    assert [n for n, data in everything if unnamed.fullmatch(n) and n != name_of(data)] == []
    for target, of_target in held.items():
        assert max(map(len, of_target.values())) <= MAX_BYTES[target]


# --- what it would notice ----------------------------------------------------------------


@pytest.mark.parametrize(("module", "name", "mutant"), MUTANTS)
def test_the_corpus_of_bodies_notices_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Callable[..., Any]
) -> None:
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises(BrokenError):
        replay("body")


def _forgets_what_follows(data: bytes) -> tuple[framing.Head, bytes] | None:
    whole = framing.whole_head(data)
    return whole and (whole[0], b"")


@pytest.mark.parametrize(
    ("part", "name", "mutant"),
    [
        (framing._BlankLines, "passed", lambda *_: None),
        (framing.ChunkedBody, "_take_whole_chunks", lambda _self, _data, at, _content: at + 1),
        (framing.SizedBody, "take", lambda _, data: (data, b"")),
        (tests.fuzzing.targets, "whole_head", _forgets_what_follows),
    ],
)
def test_the_corpus_of_connections_notices_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, part: Any, name: str, mutant: Any
) -> None:
    monkeypatch.setattr(part, name, mutant)
    with pytest.raises(BrokenError):
        replay("framing")


def _as_far_as_valid(tree: object) -> Settings:
    return Settings.model_validate(tree, context=AS_FAR_AS_VALID)


@pytest.mark.parametrize(
    ("part", "name", "mutant"),
    [
        (loader, "_what", lambda error: f"{error['input']} is not valid"),
        (loader, "_validate", lambda tree, _: (_as_far_as_valid(tree), [])),
        (loader._Reader, "report", lambda *_: None),
    ],
)
def test_the_corpus_of_configurations_notices_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, part: Any, name: str, mutant: Any
) -> None:
    monkeypatch.setattr(part, name, mutant)
    with pytest.raises(BrokenError):
        replay("config")


# --- the guidance ------------------------------------------------------------------------

BROKEN = """
from tests.fuzzing import guided
from bridge.gateway import framing
framing._BlankLines.passed = lambda *_: None
guided.main()
"""


@pytest.mark.slow
def test_an_input_that_does_not_hold_ends_a_run_and_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    arguments = ["framing", "fuzz", "-runs=500", f"-artifact_prefix={tmp_path}/"]
    run = subprocess.run(
        [sys.executable, "-c", BROKEN, *arguments, CORPUS / "framing"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 77, run.stderr
    assert "AssertionError" in run.stdout
    (kept,) = tmp_path.glob("crash-*")
    with TARGETS["framing"]() as one:
        one(kept.read_bytes())


@pytest.mark.parametrize(("ended", "status"), [(0, 0), (77, 1), (-9, 1)])
def test_a_target_that_is_killed_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, ended: int, status: int
) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    monkeypatch.setattr(command, "fuzz", lambda name, *_: ended if name == "body" else 0)
    assert command.main(["--seconds", "1"]) == status
