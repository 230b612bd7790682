"""JSON, read a second time, one character after the other: what its grammar says, and the places.

It must not import the package, nor Python's own parser, which the package builds on.
"""

import re
from dataclasses import dataclass
from typing import Literal

MAX_DEPTH = 8

Kind = Literal["object", "array", "string", "number", "no_number", "word"]

_STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"true|false|null|NaN|-?Infinity")
_ESCAPE = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(.))"
)
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class NotJsonError(Exception):
    """It is none, or it is nested too deep."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value: of an object `fields`, of an array `items`, of all else `text`; `raw` as written."""

    kind: Kind
    raw: str
    text: str = ""
    fields: tuple[tuple[str, "Value"], ...] = ()
    items: tuple["Value", ...] = ()


def array(text: str) -> tuple[Value, ...]:
    """The items of the array that the text is."""
    value, end = _value(text, 0, 1)
    if value.kind != "array" or end != len(text):
        raise NotJsonError
    return value.items


def _value(text: str, at: int, depth: int) -> tuple[Value, int]:
    if text[at : at + 1] in ("[", "{") and depth > MAX_DEPTH:
        raise NotJsonError
    if text.startswith("[", at):
        return _array(text, at, depth)
    if text.startswith("{", at):
        return _object(text, at, depth)
    if string := _STRING.match(text, at):
        return Value("string", string[0], _unescaped(string[1])), string.end()
    if word := _WORD.match(text, at):
        kind: Kind = "word" if word[0] in ("true", "false", "null") else "no_number"
        return Value(kind, word[0], word[0]), word.end()
    if number := _NUMBER.match(text, at):
        return Value("number", number[0], number[0]), number.end()
    raise NotJsonError


def _array(text: str, start: int, depth: int) -> tuple[Value, int]:
    items: list[Value] = []
    at = _blank(text, start + 1)
    if text.startswith("]", at):
        return Value("array", text[start : at + 1]), at + 1
    while True:
        item, at = _value(text, at, depth + 1)
        items.append(item)
        at = _blank(text, at)
        if text.startswith("]", at):
            return Value("array", text[start : at + 1], items=tuple(items)), at + 1
        at = _after(text, at, ",")


def _object(text: str, start: int, depth: int) -> tuple[Value, int]:
    fields: list[tuple[str, Value]] = []
    at = _blank(text, start + 1)
    if text.startswith("}", at):
        return Value("object", text[start : at + 1]), at + 1
    while True:
        name = _STRING.match(text, at)
        if name is None:
            raise NotJsonError
        at = _after(text, _blank(text, name.end()), ":")
        value, at = _value(text, at, depth + 1)
        fields.append((_unescaped(name[1]), value))
        at = _blank(text, at)
        if text.startswith("}", at):
            return Value("object", text[start : at + 1], fields=tuple(fields)), at + 1
        at = _after(text, at, ",")


def _blank(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in " \t\r\n":
        at += 1
    return at


def _after(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise NotJsonError
    return _blank(text, at + 1)


def _unescaped(text: str) -> str:
    def character(escape: re.Match[str]) -> str:
        if escape[1]:
            high, low = int(escape[1], 16) - 0xD800, int(escape[2], 16) - 0xDC00
            return chr(0x10000 + (high << 10) + low)
        return chr(int(escape[3], 16)) if escape[3] else _SHORT.get(escape[4], escape[4])

    return _ESCAPE.sub(character, text)
