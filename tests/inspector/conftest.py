"""A real browser."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser

from tests.support.browser import ChromiumUnavailableError, launched_chromium
from tests.support.needs import skipped_without


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window.

    Its driver has a loop running in this thread, which other modules' tests must not meet.
    """
    with ExitStack() as stack:
        with skipped_without("browser", ChromiumUnavailableError):
            browser = stack.enter_context(launched_chromium())
        yield browser
