"""What is a repeat, and what is not: two states that differ in anything are two records.

Any two states are drawn, most of them alike but for one thing, and go the whole way from bytes to
the publisher: in one document, and in two requests with the memory of recent events between them.
What they carry is told by an independent reading of the bytes.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.duplicates import Deduplicator, RecentEvents
from bridge.errors import DocumentError
from bridge.event import rejected_body
from bridge.model import Message
from bridge.pipeline import Pipeline, prepare
from tests.hostile import reading
from tests.support.event import AT, route
from tests.support.fakes import RecordingPublisher
from tests.test_duplicates import FakeCluster

ROUTE = replace(route(), topic="t", dead_letter_topic="u")  # those that the cluster has
PAIRS = 600
SAMPLES = Path(__file__).parent / "samples"

# Few and much alike: most of what could be mistaken for each other is among them.
NAMES = st.sampled_from(("id_sms", "time", "sms", "viber", "rcs", "err", "e", "rr", "xml:lang"))
VALUES = st.one_of(
    st.sampled_from(("read", "READ", " read ", "deliver", "seen", "", " ", "0", "00", "000")),
    st.sampled_from(("7", " 7", "07", "2011-01-01 12:57:46", "2011-01-01 12:57:47", "3:sms4:read")),
    st.text("ab1:\u00e9 ", max_size=3),
)
TEXTS = st.sampled_from(("read", "Read", " read\n", "deliver", "", "new_word", "a b", "re"))
CHILDREN = st.sampled_from(
    (*[""] * 16, "<p>1</p>", "<p>2</p>", "<p>1</p>ad", "<p/>", "<p></p>", "<q/>", "<p>&#49;</p>")
)
# A field in JSON as written: what is no text, and the same number in several ways.
ODD = st.sampled_from(("1", "1.0", "1e0", "true", "null", "[]", "[1]", "[ 1]", "NaN", r'"\ud800"'))


@st.composite
def in_xml(draw: st.DrawFn) -> tuple[str, str]:
    """Two states in XML; the second is the first with one thing changed, or another altogether."""
    one = (draw(st.dictionaries(NAMES, VALUES, max_size=5)), draw(TEXTS), draw(CHILDREN))
    if draw(st.integers(0, 3)):
        one[0]["id_sms"] = "7"
    attributes, text, children = dict(one[0]), one[1], one[2]
    name = draw(st.sampled_from(sorted(attributes))) if attributes else draw(NAMES)
    match draw(st.integers(0, 4)):
        case 0:
            attributes[draw(NAMES)] = draw(VALUES)
        case 1 if attributes:
            del attributes[name]
        case 2:
            attributes[name] = draw(st.sampled_from(near(attributes.get(name, ""))))
        case 3:
            text = draw(TEXTS)
        case _:
            children = draw(CHILDREN)
    return _element(*one), _element(attributes, text, children)


def near(value: str) -> tuple[str, ...]:
    """Values that a careless eye takes for this one."""
    return (value.swapcase(), f"{value} ", f"{value}0", value[:-1])


def _element(attributes: dict[str, str], text: str, children: str) -> str:
    written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<state{written}>{escape(text)}{children}</state>"


@st.composite
def in_json(draw: st.DrawFn) -> tuple[str, str]:
    """The same in JSON, as written."""
    written = st.one_of(VALUES.map(json.dumps), VALUES.map(json.dumps), ODD)
    names = st.one_of(NAMES, st.just("state"))
    fields = draw(st.lists(st.tuples(names, written), max_size=5, unique_by=lambda field: field[0]))
    fields += [("id_sms", '"7"'), ("state", '"read"')][: draw(st.integers(0, 2))]
    changed = list(fields)
    match draw(st.integers(0, 2)):
        case 0:
            changed.append((draw(names), draw(written)))
        case 1 if changed:
            del changed[draw(st.integers(0, len(changed) - 1))]
        case _ if changed:
            at = draw(st.integers(0, len(changed) - 1))
            changed[at] = (changed[at][0], draw(written))
    return _object(fields), _object(changed)


def _object(fields: list[tuple[str, str]]) -> str:
    """With its first id alone: a state with two has its body rejected."""
    ids = [field for field in fields if field[0] == "id_sms"][:1]
    fields = ids + [field for field in fields if field[0] != "id_sms"]
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in fields) + "}"


def document(*states: str) -> bytes:
    in_json = states[0].startswith("{")
    return (
        f"[{','.join(states)}]" if in_json else f"<request>{''.join(states)}</request>"
    ).encode()


def carried(state: str) -> object:
    """All that a state carries: of a valid one trimmed, its word in lower case; else as it came."""
    (element,) = reading.elements(document(state))
    meant = reading.meaning(element)
    if meant.defects:
        return sorted(element.attributes.items()), element.text, element.children
    others = [pair for pair in reading.carried(element.attributes) if pair[1]]
    return element.id_sms, meant.status, meant.raw_time, sorted(others)


async def published(*bodies: bytes) -> tuple[list[Message], list[list[str]]]:
    """The records of some requests, one after the other, and what each answer lists."""
    publisher = RecordingPublisher()
    pipeline = Pipeline(Deduplicator(publisher, FakeCluster(), RecentEvents(100, 600)))
    listed: list[list[str]] = []
    for body in bodies:
        deadline = asyncio.get_running_loop().time() + 60
        prepared = prepare(ROUTE, body, AT, max_states=10)
        listed.append((await pipeline.accept(ROUTE, prepared, AT, deadline)).listed)
    return publisher.messages, listed


def check(one: str, other: str) -> None:
    """Two records where they differ in anything, in one document or in two; else one."""
    expected = 1 if carried(one) == carried(other) else 2
    for bodies in ((document(one, other),), (document(one), document(other))):
        messages, _ = asyncio.run(published(*bodies))
        assert len(messages) == expected
        assert len({(m.topic, m.event_id) for m in messages}) == expected


def check_repeat(one: str) -> None:
    """One record, however often it comes; acknowledged each time alike."""
    messages, listed = asyncio.run(published(document(one), document(one, one), document(one)))
    assert len(messages) == 1
    assert listed[0] == listed[1] == listed[2]


@settings(deadline=None, max_examples=PAIRS)  # a loaded machine is no failure
@given(in_xml())
@example(('<state id_sms="7" sms="READ">read</state>', '<state id_sms="7" sms="read">read</state>'))
@example(('<state id_sms="7" err="0">read</state>', '<state id_sms="7" err="00">read</state>'))
@example(('<state id_sms="7">read<p>1</p></state>', '<state id_sms="7">read<p>2</p></state>'))
@example(('<state id_sms="7">send</state>', '<state id_sms="7">read</state>'))
def test_two_states_are_one_record_only_if_they_are_the_same(pair: tuple[str, str]) -> None:
    check(*pair)
    check_repeat(pair[0])


@settings(deadline=None, max_examples=PAIRS)  # a loaded machine is no failure
@given(in_json())
def test_so_are_two_states_in_json(pair: tuple[str, str]) -> None:
    check(*pair)
    check_repeat(pair[0])


@settings(deadline=None)  # a loaded machine is no failure
@given(st.binary(max_size=4), st.binary(max_size=4))
def test_two_rejected_bodies_are_one_letter_only_if_they_are_the_same(
    one: bytes, other: bytes
) -> None:
    error = DocumentError("not_xml", "what is wrong")
    letters = [rejected_body(ROUTE, "u", error, body, AT) for body in (one, other)]

    assert (letters[0].event_id == letters[1].event_id) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("rcs_queued", "rcs_seen"),
        ("child_price", "child_error"),
        ("cascade_viber_failed", "cascade_sms_delivered"),
    ],
)
def test_recorded_states_that_differ_in_one_thing_are_two_records(one: str, other: str) -> None:
    bodies = [(SAMPLES / f"{name}.xml").read_bytes() for name in (one, other)]

    messages, _ = asyncio.run(published(*bodies))

    assert len({message.event_id for message in messages}) == 2


def test_the_pairs_are_both_alike_and_different() -> None:
    """Else the properties above would hold little."""
    seen: set[bool] = set()

    @settings(deadline=None, database=None, max_examples=PAIRS)
    @given(in_xml(), in_json())
    def look(xml: tuple[str, str], json_: tuple[str, str]) -> None:
        seen.update(carried(one) == carried(other) and one != other for one, other in (xml, json_))

    look()
    assert seen == {True, False}
