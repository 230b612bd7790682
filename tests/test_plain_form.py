"""The shortcut for the plain form of XML takes the provider's documents, and reads them alike."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import DocumentError
from bridge.model import WORDS, Document, Form, State
from bridge.parse import form_of, limits, parse, plain_form
from bridge.simulate import Plan, render, states
from tests.hostile.corpus import SMALL

SAMPLES = Path(__file__).with_name("samples")
STATE = '<state id_sms="1" time="2011-01-01 12:57:46" sms="deliver">deliver</state>'


def shortcut(body: bytes, max_states: int = 100) -> Document | None:
    return plain_form.read(body, max_states=max_states, statuses=WORDS)


def decided(body: bytes, max_states: int = 100) -> Document | None:
    """What the body is without the shortcut; None if it is refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_form, "read", lambda *_, **__: None)
        try:
            return parse(body, max_states=max_states)
        except DocumentError:
            return None


def check(body: bytes, max_states: int = 100) -> bool:
    """Whether the shortcut takes the body; it must then be read as it is without."""
    taken = shortcut(body, max_states)
    if taken is None:
        return False
    expected = decided(body, max_states)
    assert expected is not None
    assert taken[:3] == expected[:3]
    assert [list(each) for each in _mappings(taken)] == [list(each) for each in _mappings(expected)]
    assert taken.attributes >= expected.attributes
    assert taken.characters >= expected.characters
    return True


def _mappings(document: Document) -> Iterator[Iterable[object]]:
    """What has an order, of which equality says nothing."""
    for state in document.states:
        assert isinstance(state, State)
        yield from (state.channels.items(), state.values.items(), state.element.items())


def document(*elements: str) -> bytes:
    return f"<response>{''.join(elements)}</response>".encode()


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.xml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("max_states", [1, 100])
def test_no_sample_is_read_otherwise(path: Path, max_states: int) -> None:
    check(path.read_bytes(), max_states)


@pytest.mark.parametrize("name", [n for n, (body, _) in SMALL.items() if form_of(body) is Form.XML])
def test_no_hostile_body_is_read_otherwise(name: str) -> None:
    check(SMALL[name][0])


@pytest.mark.parametrize("name", ["provider_sample_with_ids", "root_request", "rcs_queued"])
def test_what_the_provider_sends_is_taken(name: str) -> None:
    assert check((SAMPLES / f"{name}.xml").read_bytes())


def test_what_the_simulated_provider_sends_is_taken() -> None:
    assert check(render(states(Plan("http://localhost/", 100, seed=1))))


@pytest.mark.parametrize(
    "body",
    [
        document(STATE, "<!---->"),
        document(STATE, "<state id_sms='2'>read</state>"),
        document(STATE.replace("46", "46&#9;")),
        document(STATE.replace("sms=", "id_sms=", 2)),
        document(STATE.replace(" sms=", ' sms="read" sms=')),
        document(STATE.replace("</state>", "<a/></state>")),
        document(STATE.replace("deliver</", "доставлено</")),
        document(STATE.replace('"1"', '"a b"')),
        document(STATE.replace("deliver</", "de liver</")),
        document(STATE.replace('="deliver">deliver', '="">')),
        document(STATE) + STATE.encode(),
        document(STATE) + b"\0",
        document(STATE).replace(b"</resp", b"</req"),
        document(),
        document("text"),
        b"<state/>",
    ],
)
def test_what_is_not_plain_is_left_to_the_one_that_decides(body: bytes) -> None:
    assert shortcut(body) is None


def test_more_elements_than_there_may_be_are_left_too() -> None:
    assert shortcut(document(*[STATE] * (limits.MAX_ELEMENTS - 2)), limits.MAX_ELEMENTS)
    assert shortcut(document(*[STATE] * limits.MAX_ELEMENTS), limits.MAX_ELEMENTS) is None


def test_signs_within_values_are_no_attributes() -> None:
    """Neither for the limit, which is the same for both, nor for what a document weighs."""
    state = STATE.replace(' sms="', f' a="{"=" * 64}" b="{"=" * 64}" c="{"=" * 64}" sms="')
    few, many = document(*[state] * 1000), document(*[state] * 1400)
    found = shortcut(few, 1000)
    assert found is not None
    assert found.attributes == 1000 * 7
    assert shortcut(many, 1400) is None
    with pytest.raises(DocumentError):
        parse(many, max_states=1400)


def test_words_that_an_account_adds_are_known() -> None:
    (state,) = parse(document(STATE.replace("deliver", "seen")), max_states=1).states
    assert isinstance(state, State)
    body = document(STATE.replace('sms="deliver"', 'rcs="seen"'))
    (state,) = parse(body, max_states=1, statuses=WORDS | {"seen"}).states
    assert isinstance(state, State)
    assert state.channels == {"rcs": "seen"}
    (state,) = parse(body, max_states=1).states
    assert isinstance(state, State)
    assert state.channels == {}


# What stands in the place of a piece of a plain document: plain, nearly plain, or markup.
PIECES = st.sampled_from(
    [
        *("", " ", "\n", "\t", "\r", "\x01", "\x7f", "\0", "\ufeff", "é", "&amp;", "&#65;"),
        *("&", "<", ">", '"', "'", "=", ":", ".", "/", "]]>", "<a/>", "<a>", "</a>", "<?a?>"),
        *("<!-- -->", "<![CDATA[x]]>", "<!DOCTYPE response>", '<?xml version="1.0"?>'),
        *("<state/>", "</state>", STATE, "text", "1", "READ", "de liver", "x" * 65),
        *(' sms="read"', ' err="000"', ' x=">"', " x=' y '", ' id_sms="1"', ' time=""'),
        *(' xmlns="a"', ' xml:a="b"', "2011-13-01 12:57:46"),
    ]
)
# Where to cut: around names, values, tags and texts.
PLACES = re.compile(r'(?<=[<>"=/ ])|(?=[<>"=/ ])')


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A plain document of which a few pieces are others."""
    parts = PLACES.split(document(*[STATE] * draw(st.integers(1, 3))).decode())
    for place in draw(st.lists(st.integers(0, len(parts) - 1), max_size=2)):
        piece = draw(PIECES)
        parts[place] = draw(st.sampled_from([piece, parts[place] + piece]))
    return "".join(parts)


@given(documents(), st.integers(1, 3))
@settings(max_examples=1000, deadline=None)
def test_no_document_is_read_otherwise(text: str, max_states: int) -> None:
    check(text.encode(), max_states)


VALUES = st.from_regex(r"[ !#-%\'-;=-~]{0,8}", fullmatch=True) | st.sampled_from(
    ["read", "DELIVER"]
)
NAMES = st.sampled_from(["sms", "viber", "err", "xmlns", "xml_", "_", "n" * 32, "time", "id_sms"])


@given(
    st.lists(st.builds(' {}="{}"'.format, NAMES, VALUES), max_size=4).map("".join),
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9_]{0,64}", fullmatch=True),
)
@settings(max_examples=500, deadline=None)
def test_no_attributes_are_read_otherwise(attributes: str, id_sms: str, word: str) -> None:
    check(document(f'<state id_sms="{id_sms}"{attributes}>{word}</state>'))
