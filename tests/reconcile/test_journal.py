"""The file to go on with survives whatever ends the run."""

from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.reconcile.journal import Journal, Run
from bridge.reconcile.report import Settled

RUN = Run(
    wanted={"endpoint": None},
    ids={"main": ["1", "2", "3"]},
    topic_since=None,
    invalid=[],
    unreadable_lines=[],
    dropped_lines=0,
    missing_ids=0,
    left_out={},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "place"


def found(path: Path) -> Journal:
    journal = Journal.found(path)
    assert journal is not None
    return journal


def test_there_is_none_at_first(path: Path) -> None:
    assert Journal.found(path) is None


def test_what_was_settled_is_there_again(path: Path) -> None:
    with Journal.begun(path, RUN) as journal:
        journal.settle(Settled("main", published=["1"], foreign=["9"]))
        journal.settle(Settled("main", unchanged=["2"]))
    with found(path) as again:
        assert again.run == RUN
        assert [Settled(**batch) for batch in again.batches] == [
            Settled("main", published=["1"], foreign=["9"]),
            Settled("main", unchanged=["2"]),
        ]
        again.settle(Settled("main", unknown=["3"]))
    with found(path) as last:
        assert [batch["unknown"] for batch in last.batches] == [[], [], ["3"]]


def test_a_torn_line_is_as_good_as_not_there_wherever_it_is_torn(path: Path) -> None:
    with Journal.begun(path, RUN) as journal:
        journal.settle(Settled("main", published=["1"]))
    whole = path.read_bytes()
    with found(path) as journal:
        journal.settle(Settled("main", published=["2"]))
    torn = path.read_bytes()
    for end in range(len(whole), len(torn)):
        path.write_bytes(torn[:end])
        with found(path) as journal:
            assert [batch["published"] for batch in journal.batches] == [["1"]]
            journal.settle(Settled("main", published=["3"]))
        with found(path) as journal:
            assert [batch["published"] for batch in journal.batches] == [["1"], ["3"]]


def test_a_second_run_is_kept_out(path: Path) -> None:
    with Journal.begun(path, RUN), pytest.raises(BridgeError, match="in use by another run"):
        Journal.found(path)
    with found(path):
        pass


@pytest.mark.parametrize("content", [b"", b"3234\n3235\n", b'{"ids": {}}\n', b"[]\n", b"\xff\n"])
def test_another_file_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BridgeError, match="is no file of an interrupted run"):
        Journal.found(path)
    assert path.read_bytes() == content


def test_what_the_file_system_refuses_is_said(path: Path) -> None:
    with pytest.raises(BridgeError, match=r"cannot write .*: No such file or directory"):
        Journal.begun(path / "below", RUN)
    path.mkdir()
    with pytest.raises(BridgeError, match=r"cannot open .*: Is a directory"):
        Journal.found(path)


def test_nothing_is_left_of_a_finished_run(path: Path) -> None:
    with Journal.begun(path, RUN) as journal:
        journal.remove()
    assert list(path.parent.iterdir()) == []
