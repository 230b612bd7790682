"""The errors that cross a module's border.

BridgeError
├── ConfigError         the configuration file cannot be used
├── DocumentError       a request's body is no document of the provider
├── ProviderError       the provider's API has not answered what it was asked
└── RequestError        a request is no HTTP that the gateway reads, or is beyond its limits
"""

from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from bridge.clip import DETAIL_CHARACTERS, clipped


class BridgeError(Exception):
    """Anything that the bridge raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration file.

    `line` and `column` count from 1; both are 0 if no place in the file is to blame.
    """

    line: int
    column: int
    key: str
    what: str


class ConfigError(BridgeError):
    """The configuration cannot be used; `problems` holds every reason at once."""

    def __init__(self, file: str, problems: tuple[Problem, ...]) -> None:
        self.file = file
        self.problems = problems
        super().__init__(file, problems)

    def __str__(self) -> str:
        """One line a problem: `FILE:LINE:COLUMN: key.path: what`, without what is not known."""
        return "\n".join(
            f"{self.file}{f':{p.line}:{p.column}' * bool(p.line)}: "
            f"{p.key + ': ' if p.key else ''}{p.what}"
            for p in self.problems
        )


class RequestError(BridgeError):
    """What a client sends cannot be read as a request; `status` is the HTTP status to answer."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        self.status = status
        self.detail = detail
        super().__init__(status, detail)

    def __str__(self) -> str:
        return self.detail


class Fault(StrEnum):
    """The ways in which the provider's API can fail to answer."""

    UNREACHABLE = "unreachable"  # no connection
    UNTRUSTED = "untrusted"  # its certificate is not valid
    TIMEOUT = "timeout"
    BROKEN = "broken"  # the connection ended early, or what came is no HTTP
    REDIRECT = "redirect"
    STATUS = "status"  # an HTTP status that is no answer
    REFUSED = "refused"  # it says itself what is wrong
    FOREIGN = "foreign"  # something else answers in its place
    TOO_LARGE = "too_large"


class ProviderError(BridgeError):
    """The provider's API has not answered what it was asked; the text never holds credentials.

    `futile` says that another try would end the same way; `retry_after` is how many seconds the
    provider asks to be left alone.
    """

    def __init__(
        self, fault: Fault, detail: str, *, futile: bool = False, retry_after: float = 0
    ) -> None:
        self.fault = fault
        self.detail = detail
        self.futile = futile
        self.retry_after = retry_after
        super().__init__(fault, detail)

    def __str__(self) -> str:
        return self.detail


class DocumentError(BridgeError):
    """The body is rejected as a whole.

    `reason` is one fixed word (the dead letter carries it); `detail` is for people, and clipped:
    it may quote the body. `line` counts from 1, or is None if the parser names no place.
    """

    def __init__(self, reason: str, detail: str, line: int | None = None) -> None:
        self.reason = reason
        self.detail = clipped(detail, DETAIL_CHARACTERS)
        self.line = line
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return self.detail
