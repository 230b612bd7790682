"""What a filter finds."""

from collections.abc import Mapping

import pytest

from bridge.inspector.filters import Filter
from bridge.inspector.store import KEPT_STATES
from bridge.model import Outcome, Result
from tests.inspector.observed import OK, course, seen, state, store_of

PAIRS = [(state("3234"), OK), (state("99", "send"), Outcome(Result.FAILED))]


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({}, True),
        ({"id": "3234"}, True),
        ({"id": " 23 "}, True),
        ({"id": "5"}, False),
        ({"status": "READ"}, True),
        ({"status": "rea"}, False),
        ({"outcome": "failed"}, True),
        ({"outcome": "rejected"}, False),
        ({"outcome": "nonsense"}, True),
        ({"id": "3234", "outcome": "failed"}, False),  # not of one state
        ({"id": "99", "status": "send", "outcome": "failed"}, True),
        ({"answer": "200"}, True),
        ({"answer": "503"}, False),
        ({"endpoint": "main", "since": "x"}, True),
        ({"endpoint": "other"}, False),
    ],
)
def test_filters(query: Mapping[str, str], matches: bool) -> None:
    (entry,) = store_of(seen(course(*PAIRS))).entries()
    assert Filter.of(query).matches(entry) == matches


def test_an_outcome_is_found_though_its_state_is_not_kept() -> None:
    pairs = [(state(str(n)), Outcome(Result.FAILED)) for n in range(KEPT_STATES)]
    (entry,) = store_of(seen(course(*pairs, (state("x"), OK)))).entries()
    assert Filter.of({"outcome": "published"}).matches(entry)


def test_a_filter_survives_its_own_query() -> None:
    wanted = Filter(id="a&b=c", outcome="failed")
    assert wanted.query == "id=a%26b%3Dc&outcome=failed"
