"""Commands that are called in the tests' own process leave its logging as it was."""

import logging
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Iterator[None]:
    root, client = logging.getLogger(), logging.getLogger("aiokafka")
    handlers, level, client_level = root.handlers[:], root.level, client.level
    yield
    root.handlers[:], root.level = handlers, level
    client.setLevel(client_level)
    structlog.reset_defaults()
