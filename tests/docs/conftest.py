"""The programs of docs/examples."""

import pytest

from tests.subscribers.programs import LANGUAGES, Program, RuntimeUnavailableError, program
from tests.support.needs import skipped_without


@pytest.fixture(scope="session", params=LANGUAGES)
def subscriber(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program of docs/examples, one language after the other."""
    with skipped_without(request.param, RuntimeUnavailableError):
        return program(request.param, tmp_path_factory.mktemp(request.param))
