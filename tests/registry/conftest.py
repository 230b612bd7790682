"""Apicurio's schema registry."""

from collections.abc import Iterator

import pytest

from tests.support.maven import JarsUnavailableError
from tests.support.needs import skipped_without
from tests.support.registry import SchemaRegistry


@pytest.fixture(scope="session")
def schema_registry() -> Iterator[SchemaRegistry]:
    """One for all tests, of which each takes subjects of its own."""
    with skipped_without("schema registry", JarsUnavailableError):
        registry = SchemaRegistry()
    with registry:
        yield registry
