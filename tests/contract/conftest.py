"""AsyncAPI's official parser, and generators of types."""

import pytest

from tests.contract import asyncapi, generators
from tests.support.needs import skipped_without
from tests.support.npm import NpmUnavailableError, Packages


@pytest.fixture(scope="session")
def asyncapi_parser() -> asyncapi.Parser:
    """The parser, in Node."""
    with skipped_without("AsyncAPI parser", NpmUnavailableError):
        return asyncapi.parser()


@pytest.fixture(scope="session")
def generators_of_npm() -> Packages:
    """The generators of types that npm has."""
    with skipped_without("generators of types", NpmUnavailableError):
        return generators.installed()
