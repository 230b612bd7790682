"""AsyncAPI's official parser."""

import pytest

from tests.contract import asyncapi
from tests.support.needs import skipped_without
from tests.support.npm import NpmUnavailableError


@pytest.fixture(scope="session")
def asyncapi_parser() -> asyncapi.Parser:
    """The parser, in Node."""
    with skipped_without("AsyncAPI parser", NpmUnavailableError):
        return asyncapi.parser()
