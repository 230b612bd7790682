import json
import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import ack
from bridge.ack import answer, problem
from bridge.model import Form, InvalidState, Item, Outcome, Received, Result, State

NOTHING = Received({}, "")
# What an XML 1.0 document can hold (its production 2, Char).
XML_TEXT = st.text(
    st.one_of(
        st.sampled_from("\t\n\r<>&\"']"),
        st.characters(min_codepoint=0x20, max_codepoint=0xD7FF),
        st.characters(min_codepoint=0xE000, max_codepoint=0xFFFD),
        st.characters(min_codepoint=0x10000, max_codepoint=0x10FFFF),
    ),
    max_size=40,
)


def state(id_sms: str) -> State:
    return State(id_sms, "read", {}, {}, None, {})


def invalid(id_sms: str) -> InvalidState:
    return InvalidState(id_sms, "invalid_id", "detail", NOTHING)


def acknowledged(
    states: Sequence[State | InvalidState],
    durable: Sequence[bool],
    unprocessed_ids: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """What is listed and not, of states of which each is in Kafka or not."""
    items = [
        Item(one, None, Outcome(Result.PUBLISHED if taken else Result.UNKNOWN))
        for one, taken in zip(states, durable, strict=True)
    ]
    return ack.acknowledged(items, unprocessed_ids)


def ids_in(body: bytes) -> list[str]:
    root = ET.fromstring(body)
    assert root.tag == "response"
    assert {child.tag for child in root} <= {"id_sms"}
    return [child.text or "" for child in root]


# --- which ids ---------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [(True, False), (False, True), (False, False)])
def test_an_id_with_two_states_of_which_one_failed_is_not_listed(
    durable: tuple[bool, bool],
) -> None:
    """Whichever of the two it is: listing it would lose the other for good."""
    listed, unlisted = acknowledged([state("1"), state("1")], durable)

    assert listed == []
    assert unlisted == ["1"]


def test_an_id_whose_states_are_all_durable_is_listed_once() -> None:
    assert acknowledged([state("1")] * 3, [True] * 3) == (["1"], [])


def test_one_failed_state_costs_no_other_id() -> None:
    states = [state("1"), state("2"), state("3")]

    assert acknowledged(states, [True, False, True]) == (["1", "3"], ["2"])


def test_ids_stand_in_order_of_first_appearance() -> None:
    states = [state(i) for i in ("9", "1", "5", "1", "9")]

    assert acknowledged(states, [True] * 5) == (["9", "1", "5"], [])


def test_a_failure_long_after_a_success_takes_the_id_back() -> None:
    states = [state("1"), *[state(str(n)) for n in range(2, 50)], state("1")]

    listed, unlisted = acknowledged(states, [True] * 49 + [False])

    assert "1" not in listed
    assert unlisted == ["1"]


def test_a_success_after_a_failure_does_not_bring_the_id_back() -> None:
    assert acknowledged([state("1")] * 3, [True, False, True]) == ([], ["1"])


def test_an_invalid_state_counts_like_any_other() -> None:
    """Its dead letter is what has to be durable."""
    assert acknowledged([state("1"), invalid("1")], [True, False]) == ([], ["1"])
    assert acknowledged([state("1"), invalid("1")], [True, True]) == (["1"], [])
    assert acknowledged([invalid("a/b")], [True]) == (["a/b"], [])


@pytest.mark.parametrize("durable", [True, False])
def test_a_blank_id_is_neither_listed_nor_unlisted(durable: bool) -> None:
    assert acknowledged([invalid("")], [durable]) == ([], [])
    assert acknowledged([], [], {""}) == ([], [])


def test_an_unprocessed_id_is_not_listed_even_if_its_other_states_are_durable() -> None:
    assert acknowledged([state("1"), state("2")], [True, True], {"2"}) == (["1"], ["2"])


def test_an_unprocessed_id_without_any_processed_state_is_not_listed() -> None:
    assert acknowledged([state("1")], [True], {"7"}) == (["1"], ["7"])


def test_a_state_without_an_outcome_is_not_acknowledged() -> None:
    assert ack.acknowledged([Item(state("1"), None)]) == ([], ["1"])


@dataclass(frozen=True, slots=True)
class Case:
    states: Sequence[State | InvalidState]
    durable: Sequence[bool]
    unprocessed: frozenset[str]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ids = st.sampled_from(["", "1", "2", "3", "a/b"])
    drawn = draw(st.lists(st.tuples(ids, st.booleans(), st.booleans()), max_size=12))
    return Case(
        states=[state(i) if valid and i else invalid(i) for i, valid, _ in drawn],
        durable=[durable for _, _, durable in drawn],
        unprocessed=draw(st.frozensets(ids, max_size=3)),
    )


@settings(deadline=None)  # a loaded machine is no failure
@given(cases())
def test_an_id_is_listed_if_and_only_if_all_its_states_are_durable(case: Case) -> None:
    """The one promise, over every mix of states, outcomes and limits."""
    listed, unlisted = acknowledged(case.states, case.durable, case.unprocessed)

    fates: dict[str, list[bool]] = {}
    for one, durable in zip(case.states, case.durable, strict=True):
        fates.setdefault(one.id_sms, []).append(durable)
    expected = [i for i, all_of in fates.items() if i and all(all_of) and i not in case.unprocessed]
    assert listed == expected
    assert set(unlisted) == ({*fates, *case.unprocessed} - {*expected, ""})
    assert len(unlisted) == len(set(unlisted))


@pytest.mark.parametrize(("length", "is_listed"), [(256, True), (257, False), (4_000_000, False)])
def test_an_id_of_over_256_characters_is_never_listed(length: int, is_listed: bool) -> None:
    """An answer that repeats what it was sent could be as large as a body."""
    long = "x" * length
    listed, unlisted = acknowledged([invalid(long), state("1")], [True, True])

    assert listed == ([long, "1"] if is_listed else ["1"])
    assert unlisted == ([] if is_listed else [long])


# --- the answer --------------------------------------------------------------------------


def test_the_answer_is_the_document_that_the_provider_shows() -> None:
    body = answer(["3234", "3235"])

    assert body.startswith(b'<?xml version="1.0" encoding="utf-8"?>\n<response>')
    assert b"<id_sms>3234</id_sms>" in body
    assert ids_in(body) == ["3234", "3235"]


def test_an_answer_without_ids_is_an_empty_response() -> None:
    root = ET.fromstring(answer([]))

    assert root.tag == "response"
    assert len(root) == 0
    assert not (root.text or "").strip()


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(XML_TEXT.filter(bool), max_size=5))
def test_ids_come_back_from_the_answer_as_they_went_in(ids: list[str]) -> None:
    """Whatever XML can hold, line ends and markup included, survives any XML reader."""
    assert ids_in(answer(ids)) == ids


def test_markup_in_an_id_acknowledges_nothing_else() -> None:
    forged = "1</id_sms><id_sms>2"

    assert ids_in(answer([forged])) == [forged]


# --- problems ----------------------------------------------------------------------------


@settings(deadline=None)  # a loaded machine is no failure
@given(XML_TEXT)
def test_a_problem_is_well_formed_and_holds_no_ids(detail: str) -> None:
    """RFC 9457, appendix B: its elements in its namespace; nothing that a sender could count."""
    body = problem(400, "Bad Request", f"<id_sms>1</id_sms>{detail}")

    root = ET.fromstring(body)
    assert root.tag == "{urn:ietf:rfc:7807}problem"
    assert [child.tag.rpartition("}")[2] for child in root] == ["title", "status", "detail"]
    assert root.findtext("{urn:ietf:rfc:7807}status") == "400"
    assert b"<id_sms" not in body


# --- the answer in JSON ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id_sms", "written"),
    [
        ("3234", b"3234"),
        ("0", b"0"),
        ("9223372036854775807", b"9223372036854775807"),
        ("9223372036854775808", b'"9223372036854775808"'),
        ("1234567890123456789012", b'"1234567890123456789012"'),
        ("0042", b'"0042"'),
        ("00", b'"00"'),
        ("-5", b'"-5"'),
        ("1e3", b'"1e3"'),
        ("1.0", b'"1.0"'),
        ("a-1", b'"a-1"'),
        ("\u0661", '"\u0661"'.encode()),
        ('"}]', rb'"\"}]"'),
        ("1\n", rb'"1\n"'),
    ],
)
def test_an_id_is_a_number_in_json_where_every_reader_can_hold_it(
    id_sms: str, written: bytes
) -> None:
    assert answer([id_sms], Form.JSON) == b'[{"id_sms":' + written + b"}]"


def test_no_ids_are_an_empty_array_in_json() -> None:
    assert answer([], Form.JSON) == b"[]"


@settings(deadline=None)  # a loaded machine is no failure
@given(st.lists(XML_TEXT.filter(bool), unique=True))
def test_an_answer_in_json_lists_exactly_its_ids(ids: list[str]) -> None:
    assert [str(item["id_sms"]) for item in json.loads(answer(ids, Form.JSON))] == ids


def test_a_problem_in_json_is_rfc_9457_s() -> None:
    assert json.loads(problem(400, "Bad Request", 'not "JSON"', Form.JSON)) == {
        "title": "Bad Request",
        "status": 400,
        "detail": 'not "JSON"',
    }
