"""What senders leave around a document: white space, NULs and byte order marks."""

import re

# Possessive: a body full of these must not cost a place to come back to for each.
_BLANK_BODY = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xef\xbb\xbf)++|(?:\xff\xfe)++|(?:\xfe\xff)++)*+")
_BEFORE = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xef\xbb\xbf)++)*+")
_BEFORE_REVERSED = re.compile(rb"(?:[ \t\r\n\0]++|(?:\xbf\xbb\xef)++)*+")


def is_blank(body: bytes) -> bool:
    """Whether the body holds nothing else; marks of UTF-16 are some, too."""
    return _BLANK_BODY.fullmatch(body) is not None


def beginning(body: bytes) -> int:
    """Where the document begins, in any encoding of eight bits."""
    found = _BEFORE.match(body)
    return found.end() if found else 0


def trimmed(body: bytes) -> bytes:
    """The document alone, in any encoding of eight bits."""
    backwards = body[beginning(body) :][::-1]
    found = _BEFORE_REVERSED.match(backwards)
    return backwards[found.end() if found else 0 :][::-1]
