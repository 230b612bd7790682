"""The contract, read a second time: what a body says, and what must become of each state.

It must not import the package: what it checks is that the package says the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from tests.hostile.json_reading import NotJsonError, Value, array
from tests.support.reference import digest, event_id

STATUSES = frozenset(
    {
        *("send", "partly_deliver", "deliver", "not_deliver", "expired", "read"),
        *("enroute", "acceptd", "delivrd", "undeliv", "rejectd", "deleted"),
    }
)
UTF16_NAMES = frozenset({"utf-16", "utf-16le", "utf-16be", "utf16"})
MAX_DEPTH = 8
MAX_ELEMENTS = 100_000
MAX_ELEMENT_ATTRIBUTES = 10_000
MAX_ATTRIBUTES = 64
MAX_NAME = 256
MAX_VALUE = 4096

_AROUND = b" \t\r\n\0"
_ENCODING = re.compile(
    r"(utf-8|utf8|us-ascii|ascii|latin1|koi8-[ru]|cp866|ibm866"
    r"|iso-8859-(1|2|3|4|5|6|7|8|9|10|11|13|14|15|16)|(windows-|cp)125[0-8])"
)


class RefusedError(Exception):
    """The body as a whole is to be answered 400."""


@dataclass(slots=True)
class Element:
    """One state as it stands in the document."""

    attributes: Mapping[str, str]
    text: str = ""
    children: str = ""
    flaws: frozenset[str] = frozenset()  # of its form

    @property
    def id_sms(self) -> str:
        return self.attributes.get("id_sms", "").strip()


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an element must become: an event of that identity, or a dead letter for a reason."""

    status: str = ""
    raw_time: str | None = None
    channels: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    defects: frozenset[str] = frozenset()


def is_empty(body: bytes) -> bool:
    """Whether only white space, NULs and byte order marks are there."""
    return not re.sub(rb"\xef\xbb\xbf|\xff\xfe|\xfe\xff|[ \t\r\n\0]", b"", body)


def is_json(body: bytes) -> bool:
    """Whether the first character of the body is JSON's."""
    return _cut(body, b"\xef\xbb\xbf")[:1] == b"["


def elements(body: bytes) -> list[Element]:
    """Every state of the body, in order; RefusedError where the body is no document."""
    return _in_json(_without_marks(body)) if is_json(body) else _Reader().read(*_readable(body))


def meaning(element: Element) -> Meaning:
    """What the contract makes of one state."""
    channels, attributes = _split(element.attributes)
    status = element.text.strip().lower()
    if not status and len(channels) == 1:
        (status,) = channels.values()
    return Meaning(
        status=status,
        raw_time=element.attributes.get("time", "").strip() or None,
        channels=channels,
        attributes=attributes,
        defects=frozenset(_defects(element, status)),
    )


def identity(source: str, element: Element, meant: Meaning) -> str:
    """The event id of a valid state."""
    pairs = [(name, value) for name, value in carried(element.attributes) if value]
    return event_id(source, element.id_sms, meant.status, meant.raw_time, pairs)


def letter_identity(source: str, element: Element, reason: str) -> str:
    """The event id of a state's dead letter."""
    values = [text for pair in sorted(element.attributes.items()) for text in pair]
    children = [element.children] if element.children else []
    return digest(source, reason, *values, element.text, *children)


# --- bytes -------------------------------------------------------------------------------


def _readable(body: bytes) -> tuple[str | bytes, str | None]:
    """The document as text; Latin-1 as bytes, with that name for Expat.

    Expat's Latin-1 lets a micro sign into names, its Unicode does not.
    """
    start = body.lstrip(_AROUND)
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _utf16(body, big_endian=body[:1] == b"\xfe"), None
    if start[:2] == b"<\0":
        return _utf16(body, big_endian=(len(body) - len(start)) % 2 == 1), None
    document = _without_marks(body)
    name = _declared(document[: document.find(b"?>") + 2].decode("latin-1")) or "utf-8"
    if not _ENCODING.fullmatch(name):
        raise RefusedError(name)
    if name in ("iso-8859-1", "latin1"):
        return document, "ISO-8859-1"
    try:
        return document.decode(name), None
    except UnicodeDecodeError as exc:
        raise RefusedError from exc


def _without_marks(body: bytes) -> bytes:
    return _cut(_cut(body, b"\xef\xbb\xbf")[::-1], b"\xbf\xbb\xef")[::-1]


def _cut(body: bytes, mark: bytes) -> bytes:
    """Without the white space, NULs and marks at its beginning."""
    found = re.match(rb"(?:[ \t\r\n\0]|%b)*+" % mark, body)
    return body[found.end() :] if found else body


def _utf16(body: bytes, *, big_endian: bool) -> str:
    whole = body[:-1] if len(body) % 2 and body[-1:] == b"\0" else body
    try:
        text = whole.decode("utf-16-be" if big_endian else "utf-16-le")
    except UnicodeDecodeError as exc:
        raise RefusedError from exc
    document = text.strip("\ufeff \t\r\n\0")
    name = _declared(document[: document.find("?>") + 2])
    if name is not None and name not in UTF16_NAMES:
        raise RefusedError(name)
    return document


def _declared(declaration: str) -> str | None:
    """The encoding that an XML declaration names, as Expat reads it."""
    if not re.match(r"<\?xml\s", declaration):
        return None
    found: list[str | None] = []
    parser = expat.ParserCreate()
    parser.XmlDeclHandler = lambda _version, encoding, _standalone: found.append(encoding)
    try:
        parser.Parse(declaration, False)
    except expat.ExpatError as exc:
        raise RefusedError from exc
    return found[0].lower().replace("_", "-") if found and found[0] else None


# --- XML ---------------------------------------------------------------------------------


class _Reader:
    def __init__(self) -> None:
        self._path: list[str] = []
        self._count = 0
        self._found: list[Element] = []
        self._children_from = 0

    def read(self, given: str | bytes, encoding: str | None) -> list[Element]:
        self._codec = encoding or "utf-8"
        parser = expat.ParserCreate(self._codec)
        self._parser: expat.XMLParserType | None = parser
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse
        try:
            self._document = given.encode() if isinstance(given, str) else given
            parser.Parse(self._document, True)
        except (expat.ExpatError, UnicodeEncodeError) as exc:
            raise RefusedError from exc
        finally:
            self._parser = None  # it holds this object's methods
        return self._found

    @property
    def _offset(self) -> int:
        assert self._parser is not None
        return self._parser.CurrentByteIndex

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        self._path.append(name)
        misplaced = name == "state" and len(self._path) != 2
        too_much = len(self._path) > MAX_DEPTH or self._count > MAX_ELEMENTS
        if self._path[0] not in ("response", "request") or misplaced or too_much:
            _refuse()
        if len(attributes) > MAX_ELEMENT_ATTRIBUTES:
            _refuse()
        if name == "state":
            self._found.append(Element(attributes))
            self._children_from = 0
        elif len(self._path) == 3 and self._path[1] == "state" and not self._children_from:
            self._children_from = self._offset

    def _end(self, name: str) -> None:
        if name == "state" and self._children_from:
            held = self._document[self._children_from : self._offset]
            self._found[-1].children = held.decode(self._codec)
            self._found[-1].flaws = frozenset({"child_elements"})
        self._path.pop()

    def _characters(self, text: str) -> None:
        if self._path[1:] == ["state"]:
            self._found[-1].text += text


def _refuse(*_: object) -> NoReturn:
    raise RefusedError


# --- JSON --------------------------------------------------------------------------------


def _in_json(document: bytes) -> list[Element]:
    count = len(re.findall(rb"[\[{]", document))
    if count > MAX_ELEMENTS or document.count(b",") > max(250_000, 10 * count):
        raise RefusedError
    try:
        items = array(document.decode())
    except (UnicodeDecodeError, NotJsonError) as exc:
        raise RefusedError from exc
    if len(items) > MAX_ELEMENTS:
        raise RefusedError
    return [_of_item(item) for item in items]


def _of_item(item: Value) -> Element:
    if item.kind != "object":
        return Element({}, children=item.raw, flaws=frozenset({"not_an_object"}))
    if len(item.fields) > MAX_ELEMENT_ATTRIBUTES:
        raise RefusedError
    names = [name for name, _ in item.fields]
    flaws = {"invalid_field"} if len(set(names)) < len(names) else set()
    held: dict[str, str] = {}
    for name, value in item.fields:
        found, text = _of_field(name, value)
        flaws |= found
        if text is not None:
            held[_clean(name)] = text
        else:
            held.pop(_clean(name), None)
    if names.count("id_sms") > 1:
        raise RefusedError
    text = held.pop("state", "")
    return Element(held, text, item.raw if flaws else "", frozenset(flaws))


def _of_field(name: str, value: Value) -> tuple[set[str], str | None]:
    """What is wrong with a field, and what it says; None if it says nothing."""
    if value.kind in ("array", "object"):
        return {"child_elements"}, None
    if value.text == "null" and value.kind == "word":
        return set(), None
    flaws = {"invalid_field"} if value.kind == "no_number" else set()
    if name == "id_sms" and (value.kind == "word" or _is_fraction(value)):
        flaws.add("invalid_id")
    if _clean(name) != name or _clean(value.text) != value.text:
        return flaws | {"invalid_field"}, None if name == "id_sms" else _clean(value.text)
    return flaws, value.text


def _is_fraction(value: Value) -> bool:
    return value.kind == "number" and not re.fullmatch("-?[0-9]+", value.text)


def _clean(text: str) -> str:
    """Without the characters that XML does not have."""
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


# --- states ------------------------------------------------------------------------------


def _split(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    values = {name: value for name, value in carried(given) if value}
    channels = {n: v.lower() for n, v in values.items() if n in ("sms", "viber")}
    channels |= {n: v.lower() for n, v in values.items() if v.lower() in STATUSES}
    return channels, {name: value for name, value in values.items() if name not in channels}


def carried(given: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a state carries beside its id, its time and XML's own attributes; trimmed."""
    return [
        (name, value.strip())
        for name, value in given.items()
        if name not in ("id_sms", "time") and not re.match(r"xmlns|xml:", name)
    ]


def _defects(element: Element, status: str) -> list[str]:
    """Every reason that applies: which of several is given is not part of the contract."""
    names, values = element.attributes.keys(), element.attributes.values()
    applies = {
        "missing_id": not element.id_sms,
        "invalid_id": element.id_sms and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", element.id_sms),
        "attribute_too_long": any(len(n) > MAX_NAME for n in names)
        or any(len(v) > MAX_VALUE for v in values),
        "too_many_attributes": len(names) > MAX_ATTRIBUTES,
        "text_too_long": len(element.text) > MAX_VALUE,
        "missing_status": not status,
        "invalid_status": status and not re.fullmatch(r"[a-z0-9_]{1,64}", status),
    }
    return [*element.flaws, *(reason for reason, does in applies.items() if does)]
