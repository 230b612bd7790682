"""The programs of docs/examples, and the site of the documents."""

from pathlib import Path

import pytest

from tests.inspector.conftest import chromium
from tests.subscribers.programs import LANGUAGES, Program, RuntimeUnavailableError, program
from tests.support.needs import skipped_without
from tests.support.site import BUILD_TIMEOUT_SECONDS, SiteUnavailableError, make, set_up

__all__ = ["chromium", "site", "subscriber"]


@pytest.fixture(scope="session", params=LANGUAGES)
def subscriber(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program of docs/examples, one language after the other."""
    with skipped_without(request.param, RuntimeUnavailableError):
        return program(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the site, built anew."""
    with skipped_without("MkDocs", SiteUnavailableError):
        set_up()
    directory = tmp_path_factory.mktemp("site")
    done = make("docs", f"ARGS=--site-dir {directory}", timeout=BUILD_TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory
