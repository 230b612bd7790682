"""The recent requests: how many are kept, and for how long."""

import pytest

from bridge.errors import DocumentError
from bridge.inspector.store import KEPT_BODY_BYTES, KEPT_STATES, KEPT_VALUE_BYTES, Entry
from bridge.inspector.views import MAX_RELATED, MAX_RELATED_IDS, others
from bridge.model import InvalidState, Message, Outcome, Received, Result, State
from bridge.observability.requests import Disposition
from tests.inspector.observed import OK, course, seen, state, store_of
from tests.support.counted import calls_of


def invalid(id_sms: str = "", reason: str = "missing_id") -> InvalidState:
    return InvalidState(id_sms, reason, "why", Received({}, ""))


def numbers(entries: list[Entry]) -> list[int]:
    return [entry.number for entry in entries]


def test_the_oldest_go_where_there_are_too_many() -> None:
    store = store_of(*[seen()] * 5, documents=3)
    assert numbers(store.entries()) == [5, 4, 3]
    assert store.number == 5
    assert store.counts == {"published": 5}  # counted, though gone
    assert store.get(1) is None


def test_the_oldest_go_where_they_take_too_many_bytes() -> None:
    store = store_of(*[seen(course((state(), OK), body=b"x" * 10_000))] * 20, limit_bytes=50_000)
    assert 1 < len(store) < 6
    assert store.size <= 50_000


def test_ids_and_reasons_of_any_length_count_as_well() -> None:
    """Where no topic takes dead letters there is no value to count, and texts can be long."""
    smiles = "\U0001f600" * 2000
    states = [InvalidState(smiles[:500] + str(n), "x", smiles, Received({}, "")) for n in range(50)]
    what = course(*[(each, Outcome(Result.DROPPED, error=smiles)) for each in states])
    for item in what["receipt"].items:
        item.message = None
    (entry,) = store_of(seen(what)).entries()
    assert entry.size > 50 * 3 * 4 * 500


def test_a_page_makes_requests_wait_for_next_to_nothing() -> None:
    """What is looked for on the loop does not grow with what is kept."""
    states = [(state(str(n)), OK) for n in range(200)]
    store, fuller = (
        store_of(*[seen(course(*states)) for _ in range(documents)], documents=300)
        for documents in (50, 200)
    )
    assert calls_of(others, fuller, fuller.entries()[0]) == calls_of(
        others, store, store.entries()[0]
    )
    found = others(store, store.entries()[0])
    assert len(found) == MAX_RELATED_IDS
    assert {len(each.entries) for each in found} == {MAX_RELATED}


def test_trouble_outlasts_what_is_fine() -> None:
    """A busy gateway's good documents must not push out the one that somebody looks for."""
    bad = seen(course((state("bad"), Outcome(Result.FAILED, error="no"))), status=503)
    store = store_of(bad, *[seen()] * 50, documents=3)
    assert numbers(store.entries()) == [51, 50, 49, 1]


def test_what_is_large_is_cut_and_says_how_large_it_was() -> None:
    large = course((state(), OK), body=b"x" * 4_000_000)
    large["receipt"].items[0].message = Message("t", b"k", b"y" * 900_000, [], 0, "e")
    (entry,) = store_of(seen(large, answer=b"z" * 99_999)).entries()
    assert (len(entry.body), entry.body_size) == (KEPT_BODY_BYTES, 4_000_000)
    assert (len(entry.rows[0].value), entry.rows[0].value_size) == (KEPT_VALUE_BYTES, 900_000)
    assert len(entry.answer) < entry.answer_size == 99_999
    assert entry.size < 100_000


def test_of_many_states_those_with_trouble_are_kept() -> None:
    pairs = [(state(str(n)), OK) for n in range(1000)]
    pairs[777] = state("777"), Outcome(Result.UNKNOWN, error="late")
    (entry,) = store_of(seen(course(*pairs))).entries()
    assert len(entry.rows) == KEPT_STATES
    assert entry.rows[-1].id_sms == "777"
    assert entry.counts == {"published": 999, "unknown": 1}
    assert entry.states == 1000


@pytest.mark.parametrize(
    ("what", "outcome", "word"),
    [
        (state(), OK, "published"),
        (state(), Outcome(Result.PUBLISHED, repeated=True), "repeated"),
        (invalid(), OK, "rejected"),
        (invalid(), Outcome(Result.DROPPED), "dropped"),
        (state(), Outcome(Result.FAILED), "failed"),
        (invalid(), Outcome(Result.UNKNOWN), "unknown"),
    ],
)
def test_every_outcome_has_its_word(
    what: State | InvalidState, outcome: Outcome, word: str
) -> None:
    (entry,) = store_of(seen(course((what, outcome)))).entries()
    assert entry.rows[0].outcome == word
    assert entry.troubled == (word not in {"published", "repeated"})


def test_what_is_published_and_says_less_than_it_might_is_no_plain_success() -> None:
    """A time that is none and an unknown word make events all the same, with null in them."""
    document = course((state(status="blocked"), OK), (state("2"), OK))
    receipt = document["receipt"]
    receipt.unknown_statuses, receipt.unreadable_times = {"blocked": 1}, 2
    doubtful, plain = sorted(
        store_of(seen(), seen(document)).entries(), key=lambda entry: -entry.number
    )

    assert (plain.troubled, plain.doubts) == (False, {})
    assert doubtful.troubled
    assert doubtful.doubts == {"unknown word": 1, "unreadable time": 2}


def test_a_retry_is_linked_to_what_it_repeats() -> None:
    """The same state again; another status of the same id is no retry, but is found by the id."""
    failed = course((state("7"), Outcome(Result.FAILED)))
    store = store_of(
        seen(failed, status=503),
        seen(course((state("7", "deliver"), OK))),
        seen(course((state("7"), OK), (state("8"), OK))),
    )
    newest, other, first = store.entries()
    assert (newest.retry_of, newest.retried) == (1, 1)
    assert (other.retry_of, first.retry_of) == (None, None)
    found, more = store.others("7", 3, 5)
    assert (numbers(found), more) == ([1, 2], 0)
    found, more = store.others("7", 3, 1)
    assert (numbers(found), more) == ([2], 1)
    assert store.others("8", 3, 5) == ([], 0)


def test_states_without_an_id_are_no_retries_of_each_other() -> None:
    store = store_of(seen(course((invalid(), OK))), seen(course((invalid(), OK))))
    assert store.entries()[0].retry_of is None


def test_the_same_unreadable_body_is_a_retry() -> None:
    bad = {"body": b"<r", "error": DocumentError("not_xml", "no", 1), "dead_letter": OK}
    store = store_of(*[seen(bad, status=400)] * 2)
    newest, _ = store.entries()
    assert newest.retry_of == 1
    assert newest.line == 1
    assert newest.rows[0].outcome == "unreadable"


def test_the_indexes_forget_with_the_documents() -> None:
    pairs = [(state("1"), OK), (state("1"), OK), (state("2"), OK)]
    store = store_of(seen(course(*pairs)), seen(course((state("3"), OK))), documents=1)
    assert set(store._by_id) == {"3"}
    assert set(store._by_event) == {"3.read"}


def test_what_is_turned_away_is_counted_and_pushes_nothing_out() -> None:
    away = [
        seen({}, status=401, disposition=Disposition.CREDENTIALS, credentials="wrong"),
        seen({}, status=None, disposition=Disposition.LEFT),
    ]
    store = store_of(seen(), *away * 100, documents=2)
    assert numbers(store.entries()) == [1]
    assert {(d.status, d.credentials): t.count for d, t in store.refusals.items()} == {
        (401, "wrong"): 100,
        (None, ""): 100,
    }
