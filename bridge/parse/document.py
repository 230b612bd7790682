"""Bytes become a document: the way in, whatever form they have."""

from collections.abc import Mapping, Sequence

from bridge.model import WORDS, Document, Form, InvalidState, Received, State
from bridge.parse import around, json_form, plain_form, xml_form
from bridge.parse.states import TEXT, Element, Elements, Flaw, flawed_state, id_of, state_of

_XML = Form.XML


def form_of(body: bytes) -> Form:
    """The form that a body is meant to have: the first character of JSON's is a bracket."""
    if body[:1] == b"<":  # as nearly always
        return _XML
    return Form.JSON if body.startswith(b"[", around.beginning(body)) else _XML


def parse(body: bytes, *, max_states: int, statuses: frozenset[str] = WORDS) -> Document:
    """Read the provider's document, in either form; `statuses` are the words that are known.

    States past `max_states` are not processed: of them only the ids are kept. Raises
    DocumentError if the body as a whole cannot be read; what is wrong with one state
    makes that one an InvalidState.
    """
    if form_of(body) is not _XML:
        return _document(json_form.read(around.trimmed(body)), max_states, statuses)
    plain = plain_form.read(body, max_states=max_states, statuses=statuses)
    return plain or _document(xml_form.read(body), max_states, statuses)


def _document(found: Elements, max_states: int, statuses: frozenset[str]) -> Document:
    elements, flaws, is_foreign = found
    states = _states(elements[:max_states], flaws, statuses)
    unprocessed_ids = dict.fromkeys([id_of(element) for element in elements[max_states:]])
    weights = [_weight(state) for state in states]
    attributes, characters = map(sum, zip(*weights, strict=True)) if weights else (0, 0)
    return Document(tuple(states), tuple(unprocessed_ids), is_foreign, attributes, characters)


def _states(
    elements: Sequence[Element], flaws: Mapping[int, Flaw], statuses: frozenset[str]
) -> list[State | InvalidState]:
    if not flaws:  # as nearly always
        return [state_of(element, statuses) for element in elements]
    return [
        flawed_state(element, flaws[number]) if number in flaws else state_of(element, statuses)
        for number, element in enumerate(elements)
    ]


def _weight(state: State | InvalidState) -> tuple[int, int]:
    """How many attributes and characters a state holds."""
    if isinstance(state, State):
        held, more = state.element, 0
    else:
        held, text, children = state.received
        more = len(text) + len(children)
    return len(held), sum(map(len, held)) + sum(map(len, held.values())) + more


def parse_state(received: Received, statuses: frozenset[str] = WORDS) -> State | InvalidState:
    """Read one state anew, as a dead letter shows it: what `parse` makes of such an element.

    Raises DocumentError if its children are not what they were.
    """
    element: Element = {f"@{name}": value for name, value in received.attributes.items()}
    if received.text:
        element = {**element, TEXT: received.text}
    flaw: Flaw | None = None
    if received.children.startswith("<"):
        flaw = xml_form.child_elements(received.children)
    elif received.children:
        element, flaw = json_form.read_state(received.children)
    return state_of(element, statuses) if flaw is None else flawed_state(element, flaw)
