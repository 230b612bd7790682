"""The provider's API in tests: what it knows, and an account of it."""

from collections.abc import Iterable
from typing import Any

from bridge.config.settings import Provider
from bridge.simulate.api import Api
from bridge.simulate.documents import SentState

TOKEN = 't0ken&<"that-no-line-may-show'
TIME = "2026-01-05 12:00:00"


def known(ids: Iterable[object], status: str = "deliver", time: str = TIME) -> dict[str, SentState]:
    """The same state of each message."""
    return {str(i): SentState(str(i), status, time, status, None) for i in ids}


def account(api: Api, form: str = "xml", **changes: Any) -> Provider:
    """An account whose API is there."""
    given = {"url": f"{api.url}/{form}", "format": form, "token": TOKEN} | changes
    return Provider.model_validate(given)
