"""Bodies and records as they are shown."""

import time

import pytest

from bridge.inspector.highlight import MARK, Piece, json_lines, visible, xml_lines
from bridge.inspector.store import KEPT_BODY_BYTES, KEPT_VALUE_BYTES

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
    (line,) = xml_lines(b"<a b='\xff'>")
    assert Piece(MARK, "\\xff") in line
    assert "".join(piece.text for piece in line) == "<a b='\\xff'>"


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_as_such(codec: str) -> None:
    (line,) = xml_lines("<a/>".encode(codec))
    assert "".join(piece.text for piece in line).endswith("<a/>")


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
    xml_lines(text)
    json_lines(b'"' + text[: KEPT_VALUE_BYTES * len(text) // KEPT_BODY_BYTES])
    return time.process_time() - began
