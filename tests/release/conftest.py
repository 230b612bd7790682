"""The programs that package the chart, and read workflows."""

from pathlib import Path

import pytest

from tests.helm.binaries import MAJORS, HelmUnavailableError, helm_binary
from tests.subscribers.programs import RuntimeUnavailableError, go_program
from tests.support.needs import skipped_without

MODULE = "github.com/rhysd/actionlint/cmd/actionlint"


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Built from the sources that go.sum pins: on the Python index it is a download."""
    with skipped_without("Go", RuntimeUnavailableError):
        scratch = tmp_path_factory.mktemp("actionlint")
        return go_program(Path(__file__).parent / "actionlint", scratch, MODULE)


@pytest.fixture
def helm4() -> Path:
    """The newest major's program."""
    with skipped_without("Helm", HelmUnavailableError):
        return helm_binary(MAJORS[-1])
