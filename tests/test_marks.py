"""What a test needs is marked, so that `make check` starts nothing from outside."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
BROKER = re.compile(r"\bEmbeddedBroker\(")


def test_the_in_memory_broker_is_started_through_its_fixture() -> None:
    """By the fixture the test is marked. The broker's own tests start some that cannot start."""
    starting = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("test_*.py")
        if BROKER.search(path.read_text(encoding="utf-8"))
    }
    assert starting == {"demo/test_embedded_broker.py"}


def test_the_fast_tests_import_no_helper_of_browser_helm_or_npm() -> None:
    """A unit test's run stays short: these come with the folder that needs them."""
    code = "import sys; import tests.conftest; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS.parent, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not [name for name in loaded if re.search(r"playwright|helm|npm|trustme", name)]


LEAVING = """
import signal

def test_that_leaves_a_handler_behind():
    signal.signal(signal.{}, lambda *_: None)

def test_after_it():
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_handler_left_behind_fails_its_test_and_is_removed(name: str, tmp_path: Path) -> None:
    """Ctrl-C and a runner's SIGTERM end a run at once, whatever a test did."""
    (tmp_path / "test_handlers.py").write_text(LEAVING.format(name))
    options = ["-q", "-c", "pyproject.toml", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed, 1 error" in run.stdout, run.stdout
    assert f"['{name}']" in run.stdout
