"""Cuts what comes from outside before it enters a log line, a span or an error. No I/O.

A value may be as long as a body. What was cut says so, and how long it was.
"""

ID_CHARACTERS = 64  # no valid id is longer
DETAIL_CHARACTERS = 300  # of what is said of an error


def clipped(text: str, limit: int) -> str:
    """The text, or so many of its first characters and a mark that counts them all."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text)} characters)"


def reason_of(exc: BaseException) -> str:
    """What an error says, which may be another's text, or else its name."""
    return clipped(str(exc), DETAIL_CHARACTERS) or type(exc).__name__
