"""The JSON form: an array of objects in UTF-8, each a state: `state` its text, the rest attributes.

What breaks the array is refused whole; what is wrong with one state costs that state alone.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from bridge.errors import DocumentError
from bridge.parse import limits
from bridge.parse.states import TEXT, Element, Elements, Flaw

_ID_FIELD = "id_sms"
_KEYS = {"state": TEXT, **{name: f"@{name}" for name in (_ID_FIELD, "time", "sms", "viber")}}

_OPENING = re.compile(r"\[[ \t\r\n]*+")
_BETWEEN = re.compile(r"[ \t\r\n]*+([,\]])[ \t\r\n]*+")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\ufffd"


class _Fraction(str):
    """A number with a fraction or an exponent, as written."""

    __slots__ = ()


class _NoNumber(str):
    """NaN or an infinity, which JSON does not have, and other programs write all the same."""

    __slots__ = ()


# Objects become tuples of names and values, arrays lists, and numbers the text that they are:
# Python's whole numbers have a limit of digits, and its others lose some.
_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple, parse_int=str, parse_float=_Fraction, parse_constant=_NoNumber
)


class _Fault(NamedTuple):
    """What makes an item of the array an invalid state."""

    reason: str
    detail: str


def read(document: bytes) -> Elements:
    """Find the states of a document. Raises DocumentError if it cannot be read."""
    _check_size(document)
    try:
        text = document.decode()
    except UnicodeDecodeError as exc:
        what = f"the bytes are not UTF-8: {exc.reason}; expected is UTF-8 for JSON"
        raise DocumentError("encoding", what, document.count(b"\n", 0, exc.start) + 1) from exc
    elements: list[Element] = []
    flaws: dict[int, Flaw] = {}
    with _decoding():
        for value, start, end in _items(text):
            element, fault = _element(value)
            if fault is not None:
                flaws[len(elements)] = Flaw(*fault, text[start:end])
            elements.append(element)
            if len(elements) > limits.MAX_ELEMENTS:
                raise _too_many_elements()
    return Elements(elements, flaws, is_foreign=False)


def read_state(text: str) -> tuple[Element, Flaw | None]:
    """Read one state anew, as the `children` of its dead letter show it.

    Raises DocumentError if it is no JSON.
    """
    with _decoding():
        element, fault = _element(_DECODER.decode(text))
    return element, None if fault is None else Flaw(*fault, text)


# --- documents ---------------------------------------------------------------------------


def _check_size(document: bytes) -> None:
    """Refuse what holds too much, before it becomes something much larger."""
    elements = document.count(b"[") + document.count(b"{")
    if elements > limits.MAX_ELEMENTS:
        raise _too_many_elements()
    if document.count(b",") > max(limits.MAX_COMMAS, limits.MAX_COMMAS_PER_ELEMENT * elements):
        raise DocumentError("too_many_attributes", f"more than {limits.MAX_COMMAS} values")


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except json.JSONDecodeError as exc:
        what = f"not well-formed JSON: {exc.msg}: line {exc.lineno}, column {exc.colno}"
        raise DocumentError("not_json", f"{what}; {limits.EXPECTED}", exc.lineno) from exc
    except RecursionError as exc:
        raise _too_deep() from exc


def _items(text: str) -> Iterator[tuple[Any, int, int]]:
    """What the array holds, each with the places of its beginning and end."""
    opening = _OPENING.match(text)
    position = opening.end() if opening else 0
    ended = text.startswith("]", position)
    position += ended
    while not ended:
        value, end = _DECODER.raw_decode(text, position)
        yield value, position, end
        between = _BETWEEN.match(text, end)
        if between is None:
            raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
        position, ended = between.end(), between[1] == "]"
    if position < len(text):
        raise json.JSONDecodeError("Extra data", text, position)


def _check_depth(value: Any, outside: int) -> None:
    """Refuse an array or an object that is nested too deep, itself within `outside` others."""
    depth, level = outside, [value]
    while level:
        depth += 1
        if depth > limits.MAX_DEPTH:
            raise _too_deep()
        level = [each for outer in level for each in _held(outer) if isinstance(each, list | tuple)]


def _held(outer: Any) -> list[Any]:
    return [value for _, value in outer] if isinstance(outer, tuple) else outer


def _too_many_elements() -> DocumentError:
    what = f"more than {limits.MAX_ELEMENTS} arrays, objects or items"
    return DocumentError("too_many_elements", what)


def _too_deep() -> DocumentError:
    what = f"arrays and objects are nested more than {limits.MAX_DEPTH} deep"
    return DocumentError("too_deep", what)


# --- states ------------------------------------------------------------------------------


def _element(value: Any) -> tuple[Element, _Fault | None]:
    """One item of the array as an element, and its fault."""
    if not isinstance(value, tuple):
        if isinstance(value, list):
            _check_depth(value, outside=1)
        return {}, _Fault("not_an_object", "an item of the array is not an object")
    if len(value) > limits.MAX_ELEMENT_ATTRIBUTES:
        what = f"an object has more than {limits.MAX_ELEMENT_ATTRIBUTES} fields"
        raise DocumentError("too_many_attributes", what)
    fields = dict(value)
    faults: list[_Fault] = []
    if len(fields) < len(value):
        _note_repetition(value, faults)
    element: dict[str, str] = {}
    for name, held in fields.items():
        if type(held) is str and held.isprintable() and name.isprintable():  # as nearly always
            element[_KEYS.get(name) or f"@{name}"] = held
        elif isinstance(held, list | tuple):
            _check_depth(held, outside=2)
            faults.append(_Fault("child_elements", f"{_named(name)} holds an array or an object"))
        elif held is not None:
            _add_odd(element, name, held, faults)
    return element, faults[0] if faults else None


def _note_repetition(value: tuple[tuple[str, Any], ...], faults: list[_Fault]) -> None:
    """Note a field that is there twice. With two ids a state is no message's: as XML has it.

    Were it an invalid state, one of its ids could be acknowledged for another state.
    """
    _check_depth(value, outside=1)  # of what is in no field, too
    counts = Counter(name for name, _ in value)
    if counts[_ID_FIELD] > 1:
        raise DocumentError("not_json", "an object has two fields id_sms")
    (name, _), *_ = counts.most_common(1)
    faults.append(_Fault("invalid_field", f"{_named(name)} is there more than once"))


def _add_odd(element: dict[str, str], name: str, held: str | bool, faults: list[_Fault]) -> None:
    """Add a number, a truth value, or a text that holds more than printable characters."""
    text = str(held).lower() if isinstance(held, bool) else str(held)
    if isinstance(held, _NoNumber):
        faults.append(
            _Fault("invalid_field", f"{_named(name)} is {text}, which JSON does not have")
        )
    elif name == _ID_FIELD and isinstance(held, bool | _Fraction):
        faults.append(_Fault("invalid_id", "id_sms is neither a text nor a whole number"))
    if _NOT_IN_XML.search(name + text):
        what = f"{_named(name)} holds a character that XML does not have"
        faults.append(_Fault("invalid_field", what))
        if name == _ID_FIELD:
            return  # with another character in its place it might be another message's
        name, text = (_NOT_IN_XML.sub(_REPLACEMENT, each) for each in (name, text))
    element[_KEYS.get(name) or f"@{name}"] = text


def _named(name: str) -> str:
    return f"field {_NOT_IN_XML.sub(_REPLACEMENT, name[:64])}"
