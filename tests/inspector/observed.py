"""Requests as the inspector observes them."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from bridge.inspector import Target
from bridge.inspector.store import Store
from bridge.model import InvalidState, Item, Message, Outcome, Result, State
from bridge.observability.requests import Disposition, Request

TOKEN = "s3cret-t0ken"
OK = Outcome(Result.PUBLISHED, 2, 7)


def state(id_sms: str = "1", status: str = "read") -> State:
    return State(id_sms, status, {}, {}, None, {})


def course(*pairs: tuple[State | InvalidState, Outcome], body: bytes = b"<r/>") -> dict[str, Any]:
    """What became of a document with these states."""
    items = [
        Item(
            each,
            Message(
                "t", b"k", b'{"id":"e"}', [], 0, f"{each.id_sms}.{getattr(each, 'status', 'x')}"
            ),
            outcome,
        )
        for each, outcome in pairs
    ]
    receipt = SimpleNamespace(
        items=items, listed=(), unlisted=(), unknown_statuses={}, unreadable_times=0
    )
    return {"body": body, "receipt": receipt}


def seen(what: dict[str, Any] | None = None, **changes: Any) -> Request:
    given: dict[str, Any] = {
        "endpoint": "main",
        "request_id": "r-1",
        "scope": {"client": ("192.0.2.1", 1)},
        "headers": {},
        "find_client": lambda: "192.0.2.1",
        "answered_at": datetime(2026, 1, 5, 12, 57, 46, tzinfo=UTC),
        "seconds": 0.001,
        "status": 200,
        "answer": b"<response/>",
        "disposition": Disposition.READ,
    }
    return Request(**given | (course((state(), OK)) if what is None else what) | changes)


def store_of(*observations: Request, **limits: int) -> Store:
    store = Store(**limits)
    for each in observations:
        store.add(each)
    return store


OPEN = Target("/webhook", "none")
