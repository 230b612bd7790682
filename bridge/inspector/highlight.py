"""Bytes from outside become text that shows what they are: nothing hidden, nothing that acts.

It makes no markup: pieces of text with the names of their kinds, for a template to escape.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import orjson

from bridge.model import Form

MARK = "mark"  # the kind of a piece that stands for something that cannot be seen

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
# Controls, what reorders or joins other characters, what has no width, and bytes that are no text
# (PEP 383). Tabs and line feeds stay.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
# Possessive, and begun at the start of a word alone: no text may cost more than one look at each
# character.
_XML = re.compile(
    r"(?P<comment><!--.*?(?:-->|\Z))"
    r"|(?P<tag></?[A-Za-z_:][^\s<>/=\"']*+|/?>|<\?\w*+|\?>)"
    r"|(?P<value>\"[^\"<]*+\"|'[^'<]*+')"
    r"|(?P<name>(?<![\w:.-])[\w:.-]++(?==))",
    re.DOTALL,
)
_JSON = re.compile(
    r"(?P<name>\"(?:[^\"\\]|\\.)*+\"(?=:))"
    r"|(?P<value>\"(?:[^\"\\]|\\.)*+(?:\"|\Z))"
    r"|(?P<tag>\b(?:true|false|null)\b|-?\b\d[\d.eE+-]*+)"
)


class Piece(NamedTuple):
    """Some characters of one kind; `kind` is empty for plain text."""

    kind: str
    text: str


Line = list[Piece]


def text_of(data: bytes) -> str:
    """Bytes as text: UTF-16 if they look like it, else UTF-8; what is neither stays a byte.

    Such a byte becomes a lone surrogate (PEP 383), which `visible` and `pieces` write out.
    """
    for mark, codec in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data.decode(codec, errors="replace")
    return data.decode("utf-8", errors="surrogateescape")


def is_clean(data: bytes) -> bool:
    """Whether it is UTF-8 with nothing in it that cannot be seen."""
    try:
        return _HIDDEN.search(data.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def visible(text: str) -> str:
    r"""The text with everything hidden written out, as `\u202e` or `\x00`."""
    return _HIDDEN.sub(_written_out, text)


def document_lines(data: bytes, form: Form) -> list[Line]:
    """A document as it came, or whatever came in its place; CRLF ends a line, too."""
    grammar = _JSON if form is Form.JSON else _XML
    return _lines(text_of(data).replace("\r\n", "\n"), grammar)


def json_lines(data: bytes) -> list[Line]:
    """A record's value, one field a line; as it is if it was cut."""
    with suppress(orjson.JSONDecodeError):
        data = orjson.dumps(orjson.loads(data), option=orjson.OPT_INDENT_2)
    return _lines(text_of(data), _JSON)


def _lines(text: str, grammar: re.Pattern[str]) -> list[Line]:
    lines: list[Line] = [[]]
    for kind, run in _runs(text, grammar):
        first, *others = run.split("\n")
        lines[-1] += _pieces(kind, first)
        lines += [list(_pieces(kind, other)) for other in others]
    if len(lines) > 1 and not lines[-1]:
        lines.pop()  # the line feed at the end ends a line, and begins none
    return lines


def _runs(text: str, grammar: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    end = 0
    for match in grammar.finditer(text):
        if match.start() > end:
            yield "", text[end : match.start()]
        yield match.lastgroup or "", match[0]
        end = match.end()
    yield "", text[end:]


def _pieces(kind: str, text: str) -> Iterator[Piece]:
    """Set what is hidden apart from what is not."""
    end = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > end:
            yield Piece(kind, text[end : match.start()])
        yield Piece(MARK, _written_out(match))
        end = match.end()
    if end < len(text):
        yield Piece(kind, text[end:])


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - PEP 383's place for bytes
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004
