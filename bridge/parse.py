"""A request's body becomes states. No I/O, no clock, no logging.

The format's facts are the provider's (its page on the webhook): `<state>` elements right
under `<response>`, with the attributes `id_sms`, `time` and one per channel, and the status
as text.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from xml.parsers import expat

import xmltodict

from bridge.errors import DocumentError
from bridge.model import MEANINGS, Document, InvalidState, Received, State

CHANNELS = frozenset({"sms", "viber"})

MAX_DEPTH = 8  # elements within each other; an honest document has 2
MAX_ELEMENTS = 100_000  # in a document, states and all else
# Equals signs, of which there are no fewer than attributes: so many in a document are refused
# if they are also more than ten an element, which the provider's are far from.
MAX_EQUALS_SIGNS = 250_000
MAX_EQUALS_SIGNS_PER_TAG = 10
MAX_ELEMENT_ATTRIBUTES = 10_000  # beyond it the document is hostile, not a state invalid
MAX_ATTRIBUTES = 64  # of one state
MAX_NAME_CHARACTERS = 256  # of one attribute's name
MAX_VALUE_CHARACTERS = 4096  # of one attribute's value, or of a state's text

_ID_SMS = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STATUS = re.compile(r"[a-z0-9_]{1,64}")

_ROOT = "response"
_STATE = "state"
_TEXT = "#text"
_ID_ATTRIBUTE = "@id_sms"
_TIME_ATTRIBUTE = "@time"

_BLANK = b" \t\r\n\0"
# Possessive: a body full of these must not cost a place to come back to for each.
_BLANK_BODY = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xef\xbb\xbf)++|(?:\xff\xfe)++|(?:\xfe\xff)++)*+")
_BEFORE = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xef\xbb\xbf)++)*+")
_BEFORE_REVERSED = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xbf\xbb\xef)++)*+")
_DECLARATION = re.compile(rb"<\?xml\s[^>]*?\bencoding\s*=\s*[\"']([A-Za-z0-9._:-]*)[\"']")


def _single_byte_encodings() -> dict[str, str]:
    """The accepted names of single-byte encodings, lower-cased, and Expat's name for each."""
    names = {"us-ascii": "US-ASCII", "ascii": "US-ASCII", "latin1": "ISO-8859-1"}
    for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16):
        names[f"iso-8859-{part}"] = f"ISO-8859-{part}"
    for page in range(1250, 1259):
        names[f"windows-{page}"] = names[f"cp{page}"] = f"windows-{page}"
    return names | {"koi8-r": "koi8-r", "koi8-u": "koi8-u", "cp866": "cp866", "ibm866": "cp866"}


_EIGHT_BIT = {"utf-8": "UTF-8", "utf8": "UTF-8", **_single_byte_encodings()}
_SIXTEEN_BIT = frozenset({"utf-16", "utf-16le", "utf-16be", "utf16"})

# Loaded now: Python reads a codec from a file, and a request may find no descriptor free for it.
for _name in {*_EIGHT_BIT.values(), "utf-16-le", "utf-16-be"}:
    codecs.lookup(_name)


def parse(body: bytes, *, max_states: int) -> Document:
    """Read the provider's document.

    States past `max_states` are not processed: of them only the ids are kept. Raises
    DocumentError if the body as a whole cannot be read; what is wrong with one state
    makes that one an InvalidState.
    """
    elements = _state_elements(_tree(*_decoded(body)))
    return Document(
        states=tuple([_state(_mapping(element)) for element in elements[:max_states]]),
        unprocessed_ids=frozenset(_id_sms(_mapping(element)) for element in elements[max_states:]),
    )


def parse_state(received: Received) -> State | InvalidState:
    """Read one state anew, as a dead letter shows it: what `parse` makes of such an element.

    Child elements are not in it: one that had some is not the same without them.
    """
    attributes = {f"@{name}": value for name, value in received.attributes.items()}
    return _state({**attributes, _TEXT: received.text} if received.text else attributes)


def is_id_sms(text: str) -> bool:
    """Whether a message can have this id."""
    return _ID_SMS.fullmatch(text) is not None


def is_blank(body: bytes) -> bool:
    """Whether the body holds nothing but white space, NULs and byte order marks."""
    return _BLANK_BODY.fullmatch(body) is not None


# --- bytes -------------------------------------------------------------------------------


def _decoded(body: bytes) -> tuple[bytes, str]:
    """The document without what senders leave around it, and Expat's name of its encoding.

    The encoding is settled here and handed to Expat, which would else ask Python's codecs
    for any name that a sender makes up.
    """
    if body[:1] == b"<" and body[1:2] != b"\0" and body.rstrip()[-1:] == b">":
        return body, _eight_bit_encoding(body)  # nothing around it, as nearly always
    codec = _utf16_codec(body)
    if codec is not None:
        return _from_utf16(body, codec), "UTF-8"
    document = _without(_BEFORE_REVERSED, _without(_BEFORE, body)[::-1])[::-1]
    return document, _eight_bit_encoding(document)


def _without(around: re.Pattern[bytes], body: bytes) -> bytes:
    found = around.match(body)
    return body[found.end() :] if found else body


def _utf16_codec(body: bytes) -> str | None:
    """The UTF-16 that the mark or the first `<` shows, if either does."""
    if body.startswith(b"\xff\xfe"):
        return "utf-16-le"
    if body.startswith(b"\xfe\xff"):
        return "utf-16-be"
    document = body.lstrip(_BLANK)
    if not document.startswith(b"<\0"):
        return None
    return "utf-16-be" if (len(body) - len(document)) % 2 else "utf-16-le"


def _from_utf16(body: bytes, codec: str) -> bytes:
    if len(body) % 2 and body.endswith(b"\0"):  # a C sender's terminator, one byte wide
        body = body[:-1]
    try:
        text = body.decode(codec)
    except UnicodeDecodeError as exc:
        raise DocumentError("encoding", f"the bytes are not UTF-16: {exc.reason}") from exc
    document = text.strip("\ufeff \t\r\n\0").encode()
    declared = _declared_encoding(document)
    if declared is not None and declared not in _SIXTEEN_BIT:
        raise DocumentError("encoding", f"declared as {declared[:64]}, but the bytes are UTF-16")
    return document


def _eight_bit_encoding(document: bytes) -> str:
    declared = _declared_encoding(document)
    if declared is None:
        return "UTF-8"
    if declared in _SIXTEEN_BIT:
        raise DocumentError("encoding", f"declared as {declared}, but the bytes are not UTF-16")
    try:
        return _EIGHT_BIT[declared]
    except KeyError:
        raise DocumentError("encoding", f"encoding {declared[:64]} is not accepted") from None


def _declared_encoding(document: bytes) -> str | None:
    match = _DECLARATION.match(document)
    return match[1].decode("ascii").lower().replace("_", "-") if match else None


# --- XML ---------------------------------------------------------------------------------


class _GuardedParser:
    """Expat under xmltodict's handlers, refusing on the way what no honest document holds."""

    def __init__(self, encoding: str | None, _namespace_separator: str | None) -> None:
        self._expat = expat.ParserCreate(encoding)
        self._expat.buffer_text = True
        self._expat.ordered_attributes = True
        self.StartElementHandler: Callable[[str, list[str]], None]
        self.EndElementHandler: Callable[[str], None]
        self.CharacterDataHandler: Callable[[str], None]

    def Parse(self, data: bytes, is_final: bool) -> None:  # noqa: N802 -- Expat's name
        parser, start, end = self._expat, self.StartElementHandler, self.EndElementHandler
        depth = elements = 0

        def on_start(name: str, attributes: list[str]) -> None:
            nonlocal depth, elements
            depth += 1
            elements += 1
            if name == _STATE:
                if depth != 2:  # noqa: PLR2004 -- right under the root
                    raise self._refusal("misplaced_state", "<state> is not right under the root")
            elif depth == 1 and name != _ROOT:
                raise self._refusal("wrong_root", f"the root is <{name[:64]}>, not <{_ROOT}>")
            if depth > MAX_DEPTH:
                raise self._refusal("too_deep", f"elements are nested more than {MAX_DEPTH} deep")
            if len(attributes) > 2 * MAX_ELEMENT_ATTRIBUTES:
                what = f"<{name[:64]}> has more than {MAX_ELEMENT_ATTRIBUTES} attributes"
                raise self._refusal("too_many_attributes", what)
            if elements > MAX_ELEMENTS:
                raise self._refusal("too_many_elements", f"more than {MAX_ELEMENTS} elements")
            start(name, attributes)

        def on_end(name: str) -> None:
            nonlocal depth
            depth -= 1
            end(name)

        parser.StartElementHandler = on_start
        parser.EndElementHandler = on_end
        parser.CharacterDataHandler = self.CharacterDataHandler
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        try:
            parser.Parse(data, is_final)
        finally:
            # The handlers hold the parser that holds them: a whole document's memory would
            # else wait for the collector.
            parser.StartElementHandler = parser.EndElementHandler = None
            parser.CharacterDataHandler = parser.StartDoctypeDeclHandler = None

    def _refuse_doctype(self, *_: object) -> None:
        # Even an external subset, which xmltodict lets pass, can make entities vanish, and an
        # internal one can inject attributes.
        raise self._refusal("doctype", "a document type declaration is not accepted")

    def _refusal(self, reason: str, detail: str) -> DocumentError:
        return DocumentError(reason, detail, self._expat.CurrentLineNumber)


_GUARDED_EXPAT = SimpleNamespace(ParserCreate=_GuardedParser)


def _tree(document: bytes, encoding: str) -> dict[str, Any]:
    # Expat gathers an element's attributes before anyone can count them.
    equals_signs = document.count(b"=")
    if equals_signs > max(MAX_EQUALS_SIGNS, MAX_EQUALS_SIGNS_PER_TAG * document.count(b"<")):
        raise DocumentError("too_many_attributes", f"more than {MAX_EQUALS_SIGNS} attributes")
    try:
        return xmltodict.parse(
            document,
            encoding=encoding,
            expat=_GUARDED_EXPAT,
            force_list=(_STATE,),
            strip_whitespace=False,
        )
    except expat.ExpatError as exc:
        raise DocumentError("not_xml", f"not well-formed XML: {exc}", exc.lineno) from exc
    except (ValueError, LookupError) as exc:
        raise DocumentError("not_xml", f"not readable as XML: {exc}") from exc


def _state_elements(tree: dict[str, Any]) -> list[Any]:
    root = tree[_ROOT]
    return root.get(_STATE, []) if isinstance(root, dict) else []


# --- states ------------------------------------------------------------------------------


class _Defect(Exception):  # noqa: N818 -- it never leaves this module
    """Why one element is no valid state."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)


def _mapping(element: Any) -> dict[str, Any]:
    """One element as xmltodict gives it: a mapping, or just its text, or None."""
    if isinstance(element, dict):
        return element
    return {_TEXT: element} if element else {}


def _id_sms(element: Mapping[str, str]) -> str:
    """The id that groups states and that the answer lists; empty if there is none."""
    return element.get(_ID_ATTRIBUTE, "").strip()


def _state(element: Mapping[str, Any]) -> State | InvalidState:
    id_sms = _id_sms(element)
    try:
        _check_id(id_sms)
        return _valid_state(id_sms, element)
    except _Defect as defect:
        return InvalidState(
            id_sms=id_sms,
            reason=defect.reason,
            detail=defect.detail,
            received=received(element),
        )


def received(element: Mapping[str, Any]) -> Received:
    """An element as it came, for a dead letter."""
    return Received(
        attributes={key[1:]: value for key, value in element.items() if key[0] == "@"},
        text=element.get(_TEXT, ""),
    )


def _check_id(id_sms: str) -> None:
    if not id_sms:
        raise _Defect("missing_id", "id_sms is missing or blank")
    if not _ID_SMS.fullmatch(id_sms):
        raise _Defect("invalid_id", "id_sms is not 1 to 64 of A-Z a-z 0-9 . _ -")


def _valid_state(id_sms: str, element: Mapping[str, Any]) -> State:
    if len(element) > MAX_ATTRIBUTES:
        _check_count(element)
    channels: dict[str, str] = {}
    attributes: dict[str, str] = {}
    raw_time = text = ""
    for key, value in element.items():
        if key == _TEXT:
            text = value
        elif key[0] != "@":
            raise _Defect("child_elements", f"<state> holds an element: <{key[:64]}>")
        elif key == _TIME_ATTRIBUTE:
            raw_time = value.strip()
        elif key != _ID_ATTRIBUTE:
            name, word = key[1:], value.strip().lower()
            if name not in CHANNELS:
                _sort(name, value, word, channels, attributes)
            elif word:
                channels[name] = word
        if len(value) > MAX_VALUE_CHARACTERS:
            raise _too_long(key)
    return State(
        id_sms,
        _status(text.strip().lower(), channels),
        tuple(sorted(channels.items()) if len(channels) > 1 else channels.items()),
        attributes,
        raw_time or None,
        element,
    )


def _check_count(element: Mapping[str, Any]) -> None:
    if sum(key[0] == "@" for key in element) > MAX_ATTRIBUTES:
        raise _Defect("too_many_attributes", f"more than {MAX_ATTRIBUTES} attributes")


def _too_long(key: str) -> _Defect:
    if key == _TEXT:
        return _Defect("text_too_long", f"more than {MAX_VALUE_CHARACTERS} characters of text")
    return _Defect("attribute_too_long", f"attribute {key[1:65]} is too long")


def _sort(
    name: str, value: str, word: str, channels: dict[str, str], attributes: dict[str, str]
) -> None:
    """Put an attribute that is not known among the channels, or among what means nothing here.

    The provider names a channel's field after the kind of message, so it is a channel if
    its value is a known status.
    """
    if name.startswith(("xmlns", "xml:")):
        return
    if len(name) > MAX_NAME_CHARACTERS:
        raise _too_long(f"@{name}")
    if word in MEANINGS:
        channels[name] = word
    else:
        attributes[name] = value


def _status(status: str, channels: Mapping[str, str]) -> str:
    if not status and len(channels) == 1:
        (status,) = channels.values()
    if status in MEANINGS:
        return status
    if not status:
        raise _Defect("missing_status", "no status")
    if not _STATUS.fullmatch(status):
        raise _Defect("invalid_status", "the status is not 1 to 64 of a-z 0-9 _")
    return status
