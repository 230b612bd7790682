"""What a state holds, whatever the form it came in: valid, or invalid and why."""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from bridge.model import InvalidState, Received, State
from bridge.parse.limits import MAX_ATTRIBUTES, MAX_NAME_CHARACTERS, MAX_VALUE_CHARACTERS

CHANNELS = frozenset({"sms", "viber"})
TEXT = "#text"
Element = Mapping[str, Any]
"""A state as it came: `@name` for an attribute, TEXT for its text; other keys are child elements,
whose state has a flaw."""

_ID_ATTRIBUTE = "@id_sms"
_TIME_ATTRIBUTE = "@time"
_ID_SMS = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUS = re.compile(r"[a-z0-9_]{1,64}")


class Flaw(NamedTuple):
    """Why a state is invalid, whatever its attributes say.

    `children` is what it holds beside attributes and text, as it came.
    """

    reason: str
    detail: str
    children: str


class Elements(NamedTuple):
    """The states of a document in order, and the flaws of some by their number from 0.

    `is_foreign` tells that the document holds none, but something else.
    """

    elements: Sequence[Element]
    flaws: Mapping[int, Flaw]
    is_foreign: bool


class _Defect(Exception):  # noqa: N818 -- it never leaves this module
    """Why one element is no valid state."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)


def id_of(element: Element) -> str:
    """The id that groups states and that the answer lists; empty if there is none."""
    id_sms: str = element.get(_ID_ATTRIBUTE, "")
    return id_sms.strip()


def is_id(text: str) -> bool:
    """Whether a message can have this id."""
    return _ID_SMS.fullmatch(text) is not None


def state_of(element: Element, statuses: Container[str]) -> State | InvalidState:
    """Read a state without a flaw; `statuses` are the words that are known."""
    id_sms = id_of(element)
    try:
        _check_id(id_sms)
        return _valid_state(id_sms, element, statuses)
    except _Defect as defect:
        return InvalidState(id_sms, defect.reason, defect.detail, received(element))


def flawed_state(element: Element, flaw: Flaw) -> InvalidState:
    """Say what is wrong with a state that has a flaw."""
    whole = received(element)._replace(children=flaw.children)
    return InvalidState(id_of(element), flaw.reason, flaw.detail, whole)


def received(element: Element) -> Received:
    """An element as it came, for a dead letter."""
    return Received(
        attributes={key[1:]: value for key, value in element.items() if key[0] == "@"},
        text=element.get(TEXT, ""),
    )


def _check_id(id_sms: str) -> None:
    if not id_sms:
        raise _Defect("missing_id", "id_sms is missing or blank")
    if not is_id(id_sms):
        raise _Defect("invalid_id", "id_sms is not 1 to 64 of A-Z a-z 0-9 . _ -")


def _valid_state(id_sms: str, element: Mapping[str, str], statuses: Container[str]) -> State:
    if len(element) - (TEXT in element) > MAX_ATTRIBUTES:
        raise _Defect("too_many_attributes", f"more than {MAX_ATTRIBUTES} attributes")
    values: dict[str, str] = {}
    raw_time = text = ""
    for key, value in element.items():
        if len(value) > MAX_VALUE_CHARACTERS:
            raise _too_long(key)
        if key == TEXT:
            text = value
        elif key == _TIME_ATTRIBUTE:
            raw_time = value.strip()
        elif key != _ID_ATTRIBUTE:
            if len(key) > MAX_NAME_CHARACTERS + 1:
                raise _too_long(key)
            given = value.strip()
            if given and not is_of_xml(key):
                values[key[1:]] = given
    if len(values) > 1 and [*values] != (names := sorted(values)):
        values = {name: values[name] for name in names}
    channels = _channels(values, statuses)
    status = _status(text.strip().lower(), channels, statuses)
    return State(id_sms, status, channels, values, raw_time or None, element)


def is_of_xml(key: str) -> bool:
    """Whether an attribute is XML's own, and none of the provider's."""
    return key.startswith("@xml") and key.startswith(("@xmlns", "@xml:"))


def _too_long(key: str) -> _Defect:
    if key == TEXT:
        what = f"more than {MAX_VALUE_CHARACTERS} characters of text"
        return _Defect("text_too_long", what)
    return _Defect("attribute_too_long", f"attribute {key[1:65]} is too long")


def _channels(values: Mapping[str, str], statuses: Container[str]) -> dict[str, str]:
    """The status of each channel.

    The provider names a channel's field after the kind of message, so whatever has a known
    status for a value is a channel.
    """
    channels: dict[str, str] = {}
    for name, value in values.items():
        word = value.lower()
        if name in CHANNELS or word in statuses:
            channels[name] = word
    return channels


def _status(status: str, channels: Mapping[str, str], statuses: Container[str]) -> str:
    if not status and len(channels) == 1:
        (status,) = channels.values()
    if status in statuses:
        return status
    if not status:
        raise _Defect("missing_status", "no status")
    if not _STATUS.fullmatch(status):
        raise _Defect("invalid_status", "the status is not 1 to 64 of a-z 0-9 _")
    return status
