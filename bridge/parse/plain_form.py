"""XML in the plain form in which the provider writes it, read with patterns alone.

A shortcut and no rule: a document is taken only if nothing in it can mean anything else to XML.
What is not taken is left to `xml_form`, which decides; tests hold the two together. A document of
one state takes a tenth of the time here, one of 100 states a fifth.
"""

import re
from functools import lru_cache

from bridge.model import Document, State
from bridge.parse.limits import MAX_ELEMENTS, MAX_EQUALS_SIGNS, MAX_EQUALS_SIGNS_PER_TAG
from bridge.parse.states import TEXT, Element, state_of

# Printable ASCII, but for what is markup within a value. Possessive: no place to come back to.
_VALUE = r"[ !#-%'-;=-~]{0,64}+"
_BLANK = r"[ \t\r\n]*+"
_ROOT = re.compile(
    r'(?:<\?xml version="1\.0"(?: encoding="(?:utf|UTF)-8")?+ ?+\?>)?+'
    rf"{_BLANK}<(response|request)>\.?+{_BLANK}"  # the provider's page has a stop there
)
_NAME = "[A-Za-z_][A-Za-z0-9_]{0,31}+"
_STATE = re.compile(
    r'<state id_sms="([A-Za-z0-9._-]{1,64}+)"'
    r'(?: time="([0-9][0-9: -]{17}[0-9]|)")?+'  # whether it is a time is not said here
    rf'((?: {_NAME}="{_VALUE}"){{0,4}}+)>([A-Za-z0-9_]{{0,64}}+)</state>{_BLANK}'
)
_ATTRIBUTES = re.compile(rf' ({_NAME})="({_VALUE})"')


def read(body: bytes, *, max_states: int, statuses: frozenset[str]) -> Document | None:
    """What `xml_form` and `states` make of the body; None if that is for them to say."""
    if not body.isascii() or body.count(b"<state") >= MAX_ELEMENTS:
        return None
    if body.count(b"=") > max(MAX_EQUALS_SIGNS, MAX_EQUALS_SIGNS_PER_TAG * body.count(b"<")):
        return None
    text = body.decode("ascii").rstrip(" \t\r\n")
    root = _ROOT.match(text)
    if root is None or not text.endswith(closing := f"</{root[1]}>"):
        return None
    states: list[State] = []
    end, state_at = root.end(), _STATE.match
    while len(states) < max_states and (found := state_at(text, end)) is not None:
        id_sms, raw_time, attributes, word = found.groups()
        said = _said(attributes, word, statuses)
        if said is None:
            return None
        _, status, channels, values, _, rest = said
        if raw_time is None:
            element = {"@id_sms": id_sms, **rest}
        else:
            element = {"@id_sms": id_sms, "@time": raw_time, **rest}
        states.append(State(id_sms, status, channels, values, raw_time or None, element))
        end = found.end()
    characters = end
    unprocessed: dict[str, None] = {}
    while (found := state_at(text, end)) is not None:
        id_sms, _, attributes, word = found.groups()
        if _said(attributes, word, statuses) is None:
            return None
        unprocessed[id_sms] = None
        end = found.end()
    if not states or end + len(closing) != len(text):
        return None
    # Each has two quotes; the text counts as one, too.
    attributes = len(states) + text.count('"', root.end(), characters) // 2
    return Document(tuple(states), tuple(unprocessed), False, attributes, characters)


@lru_cache(maxsize=1024)  # of some 2 KB at most: many states say the same
def _said(attributes: str, word: str, statuses: frozenset[str]) -> State | None:
    """What a state says beside its id and time; None if it is invalid, or XML would refuse it."""
    pairs = _ATTRIBUTES.findall(attributes)
    element: Element = {f"@{name}": value for name, value in pairs}
    if len(element) < len(pairs) or not element.keys().isdisjoint(("@id_sms", "@time")):
        return None
    if word:
        element = {**element, TEXT: word}
    state = state_of({"@id_sms": "0", **element}, statuses)
    return state._replace(element=element) if isinstance(state, State) else None
