"""Names requests, so that the lines of a log can be told apart and matched with a proxy's."""

import itertools
import re
import secrets

_USABLE = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class RequestIds:
    """Takes the id that a proxy has given (`X-Request-Id`), and else counts from a random start."""

    def __init__(self) -> None:
        self._process = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    def of(self, given: bytes | None) -> str:
        """The request's id; one that could be mistaken for something else in a log is not taken."""
        if given is not None and _USABLE.fullmatch(given):
            return given.decode("ascii")
        return f"{self._process}-{next(self._numbers)}"
