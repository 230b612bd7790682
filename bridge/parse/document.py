"""Bytes become a document: the way in, whatever form they have."""

from collections.abc import Container, Mapping, Sequence

from bridge.model import MEANINGS, Document, Form, InvalidState, Received, State
from bridge.parse import around, json_form, xml_form
from bridge.parse.states import TEXT, Element, Flaw, flawed_state, id_of, state_of


def form_of(body: bytes) -> Form:
    """The form that a body is meant to have: the first character of JSON's is a bracket."""
    if body[:1] == b"<":  # as nearly always
        return Form.XML
    return Form.JSON if body.startswith(b"[", around.beginning(body)) else Form.XML


def parse(body: bytes, *, max_states: int, statuses: Container[str] = MEANINGS) -> Document:
    """Read the provider's document, in either form; `statuses` are the words that are known.

    States past `max_states` are not processed: of them only the ids are kept. Raises
    DocumentError if the body as a whole cannot be read; what is wrong with one state
    makes that one an InvalidState.
    """
    if form_of(body) is Form.JSON:
        elements, flaws, is_foreign = json_form.read(around.trimmed(body))
    else:
        elements, flaws, is_foreign = xml_form.read(body)
    processed = elements[:max_states]
    if flaws:
        states = _states(processed, flaws, statuses)
    else:
        states = [state_of(element, statuses) for element in processed]
    unprocessed_ids = dict.fromkeys([id_of(element) for element in elements[max_states:]])
    return Document(tuple(states), tuple(unprocessed_ids), is_foreign)


def _states(
    elements: Sequence[Element], flaws: Mapping[int, Flaw], statuses: Container[str]
) -> list[State | InvalidState]:
    return [
        flawed_state(element, flaws[number]) if number in flaws else state_of(element, statuses)
        for number, element in enumerate(elements)
    ]


def parse_state(received: Received, statuses: Container[str] = MEANINGS) -> State | InvalidState:
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
