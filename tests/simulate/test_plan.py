"""Plans that cannot be carried out are refused."""

from typing import Any

import pytest

from bridge.simulate import (
    Plan,
)


# Plans.
@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"messages": 0}, "messages"),
        ({"per_post": 0}, "per_post"),
        ({"rate": 0.0}, "rate"),
        ({"concurrency": 0}, "concurrency"),
        ({"attempts": 0}, "attempts"),
        ({"attempts": 256}, "attempts"),
        ({"retry_seconds": -1.0}, "retry_seconds"),
        ({"retry_seconds": float("nan")}, "retry_seconds"),
        ({"timeout_seconds": 0.0}, "timeout_seconds"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"first_id": -1}, "first_id"),
        ({"first_id": 2**63}, "first_id"),
        ({"url": "ftp://secret@h/"}, "url"),
        ({"url": "http:///secret"}, "url"),
        ({"url": "http://h:port/secret"}, "url"),
        ({"url": "http://a..b/secret"}, "url"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(changes: dict[str, Any], word: str) -> None:
    """By name of the field, and without the URL's secrets."""
    with pytest.raises(ValueError, match=word) as caught:
        Plan(**{"url": "http://h/", "messages": 1, **changes})
    assert "secret" not in str(caught.value)


def test_the_url_is_in_no_repr_and_no_report() -> None:
    assert "secret" not in repr(Plan("http://u:secret@h/?token=secret", 1))
