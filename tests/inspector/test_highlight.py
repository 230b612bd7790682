"""Bodies and records as they are shown."""

import time

import pytest

from bridge.inspector.highlight import MARK, Piece, document_lines, json_lines, visible
from bridge.inspector.store import KEPT_BODY_BYTES, KEPT_VALUE_BYTES
from bridge.model import Form

LEAST_SECONDS = 0.001  # of what is measured


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Привіт 📨\n\t", "plain Привіт 📨\n\t"),
        ("a\x00b\x1b[31m", "a\\x00b\\x1b[31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2067\u200b\ufeff\U000e0041", "\\u2067\\u200b\\ufeff\\ue0041"),
        ("\udcff", "\\xff"),
        ("\r\u2028", "\\x0d\\u2028"),
    ],
)
def test_what_is_hidden_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_bytes_that_are_no_text_are_marked() -> None:
    (line,) = document_lines(b"<a b='\xff'>", Form.XML)
    assert Piece(MARK, "\\xff") in line
    assert "".join(piece.text for piece in line) == "<a b='\\xff'>"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_as_such(codec: str) -> None:
    (line,) = document_lines("<a/>".encode(codec), Form.XML)
    assert "".join(piece.text for piece in line).endswith("<a/>")


def test_json_is_shown_as_it_came_with_its_digits() -> None:
    """Not as a program would write it again: a number of 22 digits stays one."""
    body = b'[{"id_sms": 1234567890123456789012,\r\n "state": "read\xff", "sms": true}]\n'

    first, second = document_lines(body, Form.JSON)

    assert Piece("name", '"id_sms"') in first
    assert Piece("tag", "1234567890123456789012") in first
    assert Piece(MARK, "\\xff") in second
    assert "".join(piece.text for piece in second) == ' "state": "read\\xff", "sms": true}]'


def test_a_cut_record_is_shown_as_it_is() -> None:
    (line,) = json_lines(b'{"a": "b')
    assert "".join(piece.text for piece in line) == '{"a": "b'


@pytest.mark.parametrize(
    "unit",
    ["<", '"', "'", "a ", "a=", "<!--", "&", "<a ", '\\"', "a" * 64, "\x00", '<a b="', "\xff"],
)
def test_no_body_takes_long_to_show(unit: str) -> None:
    """64 KiB of anything: eight times as much takes some eight times as long, and not 64."""

    def seconds(size: int) -> float:
        text = (unit * size)[:size].encode("latin-1")
        return min(_seconds_to_show(text) for _ in range(3))

    assert seconds(KEPT_BODY_BYTES) < 32 * max(seconds(KEPT_BODY_BYTES // 8), LEAST_SECONDS)


def _seconds_to_show(text: bytes) -> float:
    began = time.process_time()
    for form in Form:
        document_lines(text, form)
    json_lines(b'"' + text[: KEPT_VALUE_BYTES * len(text) // KEPT_BODY_BYTES])
    return time.process_time() - began
