"""Bytes become a document: the way in, whatever form they have."""

import re
from collections.abc import Container, Mapping, Sequence

from bridge.model import MEANINGS, Document, InvalidState, Received, State
from bridge.parse import xml_form
from bridge.parse.states import TEXT, Element, Flaw, flawed_state, id_of, state_of

# Possessive: a body full of these must not cost a place to come back to for each.
_BLANK_BODY = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xef\xbb\xbf)++|(?:\xff\xfe)++|(?:\xfe\xff)++)*+")


def parse(body: bytes, *, max_states: int, statuses: Container[str] = MEANINGS) -> Document:
    """Read the provider's document; `statuses` are the words that are known.

    States past `max_states` are not processed: of them only the ids are kept. Raises
    DocumentError if the body as a whole cannot be read; what is wrong with one state
    makes that one an InvalidState.
    """
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
    """Read one state anew, as a dead letter shows it: what `parse` makes of such an element."""
    element = {f"@{name}": value for name, value in received.attributes.items()}
    if received.text:
        element[TEXT] = received.text
    if received.children:
        return flawed_state(element, xml_form.child_elements(received.children))
    return state_of(element, statuses)


def is_blank(body: bytes) -> bool:
    """Whether the body holds nothing but white space, NULs and byte order marks."""
    return _BLANK_BODY.fullmatch(body) is not None
