"""The XML form: `<state>` elements right under `<response>` or `<request>`.

It finds the elements, and refuses on the way what no honest document holds.
"""

import codecs
import re
from collections.abc import Callable, Mapping
from typing import Any, Self
from xml.parsers import expat

import xmltodict

from bridge.errors import DocumentError
from bridge.parse import limits
from bridge.parse.around import trimmed
from bridge.parse.states import TEXT, Elements, Flaw, is_of_xml

ROOTS = ("response", "request")  # the provider's page has the one, its posts have the other
_STATE = "state"
_STATE_DEPTH = 2

_BLANK = b" \t\r\n\0"
_CHILD_NAME = re.compile(r"<([^\s/>]+)")
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
_EXPECTED_ENCODING = (
    "expected is UTF-8, UTF-16, US-ASCII, ISO-8859-1 to 16, windows-1250 to 1258, KOI8-R, KOI8-U "
    "or cp866"
)
_SIXTEEN_BIT = frozenset({"utf-16", "utf-16le", "utf-16be", "utf16"})

# Loaded now: Python reads a codec from a file, and a request may find no descriptor free for it.
for _name in {*_EIGHT_BIT.values(), "utf-16-le", "utf-16-be"}:
    codecs.lookup(_name)


def read(body: bytes) -> Elements:
    """Find the states of a document. Raises DocumentError if it cannot be read."""
    document, encoding = _decoded(body)
    root, flaws = _root(document, encoding)
    elements = [_mapping(each) for each in root.get(_STATE, ())]
    return Elements(
        elements, flaws, is_foreign=not elements and any(map(_is_content, root.items()))
    )


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
    document = trimmed(body)
    return document, _eight_bit_encoding(document)


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
        what = f"encoding {declared[:64]} is not accepted; {_EXPECTED_ENCODING}"
        raise DocumentError("encoding", what) from None


def _declared_encoding(document: bytes) -> str | None:
    match = _DECLARATION.match(document)
    return match[1].decode("ascii").lower().replace("_", "-") if match else None


# --- XML ---------------------------------------------------------------------------------


class _GuardedParser:
    """Expat under xmltodict's handlers, refusing on the way what no honest document holds.

    `flaws` are those of states with child elements, by the state's number from 0.
    """

    def __init__(self, encoding: str) -> None:
        self.flaws: dict[int, Flaw] = {}
        self._encoding = encoding
        self._expat = expat.ParserCreate(encoding)
        self._expat.buffer_text = True
        self._expat.ordered_attributes = True
        self.StartElementHandler: Callable[[str, list[str]], None]
        self.EndElementHandler: Callable[[str], None]
        self.CharacterDataHandler: Callable[[str], None]
        self._states = 0
        self._is_in_state = False
        self._first_child: tuple[str, int] | None = None  # its name, and where it begins

    def ParserCreate(self, *_: object) -> Self:  # noqa: N802 -- Expat's name
        """Stand for the module that xmltodict asks for a parser."""
        return self

    def Parse(self, data: bytes, is_final: bool) -> None:  # noqa: N802 -- Expat's name
        parser, start, end = self._expat, self.StartElementHandler, self.EndElementHandler
        most_attributes, most_elements = 2 * limits.MAX_ELEMENT_ATTRIBUTES, limits.MAX_ELEMENTS
        depth = elements = 0

        def on_start(name: str, attributes: list[str]) -> None:
            nonlocal depth, elements
            depth += 1
            elements += 1
            if depth == _STATE_DEPTH and name == _STATE:
                self._states += 1
                self._is_in_state = True
            else:
                self._note_other(name, depth)
            if len(attributes) > most_attributes:
                what = f"<{name[:64]}> has more than {limits.MAX_ELEMENT_ATTRIBUTES} attributes"
                raise self._refusal("too_many_attributes", what)
            if elements > most_elements:
                raise self._refusal("too_many_elements", f"more than {most_elements} elements")
            start(name, attributes)

        def on_end(name: str) -> None:
            nonlocal depth
            if depth == _STATE_DEPTH and self._first_child is not None:
                self._keep_children(data, *self._first_child)
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

    def _note_other(self, name: str, depth: int) -> None:
        """Check the place of an element that is no state; it may be the first child of one."""
        if name == _STATE:
            raise self._refusal("misplaced_state", "<state> is not right under the root")
        if depth == 1 and name not in ROOTS:
            raise self._refusal("wrong_root", f"the root is <{name[:64]}>; {limits.EXPECTED}")
        if depth > limits.MAX_DEPTH:
            what = f"elements are nested more than {limits.MAX_DEPTH} deep"
            raise self._refusal("too_deep", what)
        if depth == _STATE_DEPTH:
            self._is_in_state = False
        elif self._is_in_state and self._first_child is None:
            self._first_child = name, self._expat.CurrentByteIndex

    def _keep_children(self, data: bytes, name: str, start: int) -> None:
        children = data[start : self._expat.CurrentByteIndex].decode(self._encoding)
        self.flaws[self._states - 1] = _child_elements(name, children)
        self._first_child = None

    def _refuse_doctype(self, *_: object) -> None:
        # Even an external subset, which xmltodict lets pass, can make entities vanish, and an
        # internal one can inject attributes.
        raise self._refusal("doctype", "a document type declaration is not accepted")

    def _refusal(self, reason: str, detail: str) -> DocumentError:
        return DocumentError(reason, detail, self._expat.CurrentLineNumber)


def _root(document: bytes, encoding: str) -> tuple[Mapping[str, Any], Mapping[int, Flaw]]:
    """What the root holds, and the flaws of its states."""
    # Expat gathers an element's attributes before anyone can count them.
    equals_signs = document.count(b"=")
    allowed = limits.MAX_EQUALS_SIGNS_PER_TAG * document.count(b"<")
    if equals_signs > max(limits.MAX_EQUALS_SIGNS, allowed):
        what = f"more than {limits.MAX_EQUALS_SIGNS} attributes"
        raise DocumentError("too_many_attributes", what)
    parser = _GuardedParser(encoding)
    try:
        tree = xmltodict.parse(
            document,
            encoding=encoding,
            expat=parser,
            force_list=(_STATE,),
            strip_whitespace=False,
        )
    except expat.ExpatError as exc:
        what = f"not well-formed XML: {exc}; {limits.EXPECTED}"
        raise DocumentError("not_xml", what, exc.lineno) from exc
    except (ValueError, LookupError) as exc:
        raise DocumentError("not_xml", f"not readable as XML: {exc}; {limits.EXPECTED}") from exc
    (root,) = tree.values()
    return _mapping(root), parser.flaws


def _mapping(element: Any) -> dict[str, Any]:
    """One element as xmltodict gives it: a mapping, or just its text, or None."""
    if isinstance(element, dict):
        return element
    return {TEXT: element} if element else {}


def _is_content(held: tuple[str, Any]) -> bool:
    """Whether something that the root holds is more than white space and namespaces."""
    name, value = held
    if name == TEXT:
        return bool(value.strip())
    return not is_of_xml(name)


# --- child elements ----------------------------------------------------------------------


def child_elements(children: str) -> Flaw:
    """Say again what is wrong with a state that holds these."""
    name = _CHILD_NAME.match(children)
    return _child_elements(name[1] if name else "", children)


def _child_elements(name: str, children: str) -> Flaw:
    return Flaw("child_elements", f"<state> holds an element: <{name[:64]}>", children)
