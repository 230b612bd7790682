"""Cuts what comes from outside, before it enters a log line, a span, an error or a terminal.

No I/O. A value may be as long as a body. What was cut says so, and how long it was.
"""

ID_CHARACTERS = 64  # no valid id is longer
DETAIL_CHARACTERS = 300  # of what is said of an error
BEGINNING_CHARACTERS = 200  # of a body


def clipped(text: str, limit: int) -> str:
    """The text, or so many of its first characters and a mark that counts them all."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text)} characters)"


def printable(text: str) -> str:
    """The text with every character that a terminal might obey written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def beginning(body: bytes) -> str:
    """The first characters of a body, printable; bytes that are no UTF-8 are written out."""
    enough = body[: 4 * (BEGINNING_CHARACTERS + 1)]
    head = printable(enough.decode("utf-8", "backslashreplace"))
    return head if len(head) <= BEGINNING_CHARACTERS else f"{head[:BEGINNING_CHARACTERS]}…"


def reason_of(exc: BaseException) -> str:
    """What an error says, which may be another's text, or else its name."""
    return clipped(str(exc), DETAIL_CHARACTERS) or type(exc).__name__
