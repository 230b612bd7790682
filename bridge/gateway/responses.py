"""What the ASGI applications share: an answer, and a refusal."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from bridge.ack import answer, problem
from bridge.model import Form

XML = b"text/xml; charset=utf-8"
_OK = HTTPStatus.OK
_TYPES = {Form.XML: XML, Form.JSON: b"application/json"}
_PROBLEM_TYPES = {Form.XML: b"application/problem+xml", Form.JSON: b"application/problem+json"}

Headers = tuple[tuple[bytes, bytes], ...]
RETRY_AFTER: Headers = ((b"retry-after", b"5"),)

_CLOSE: Headers = ((b"connection", b"close"),)

# For whoever tries the address: a provider's form, a browser, a check.
ABOUT = "this address receives delivery statuses, which an SMS provider posts as XML or JSON"


class Answer(NamedTuple):
    """A whole response."""

    status: int
    body: bytes
    content_type: bytes = XML
    headers: Headers = ()

    async def send(self, send: Send, *, close: bool) -> None:
        """Send it; `close` ends the connection after it."""
        headers = ((b"content-type", self.content_type), *self.headers)
        if close:
            headers += _CLOSE
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def refusal(
    status: HTTPStatus, detail: str, headers: Headers = (), form: Form = Form.XML
) -> Answer:
    """A problem document (RFC 9457), in XML unless the body is known to be JSON."""
    body = problem(status, status.phrase, detail, form)
    return Answer(status, body, _PROBLEM_TYPES[form], headers)


def overloaded(form: Form = Form.XML) -> Answer:
    """503: too much is in flight."""
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too much in flight", RETRY_AFTER, form)


def acknowledgement(ids: Iterable[str], form: Form) -> Answer:
    """200 that lists these ids."""
    return Answer(_OK, answer(ids, form), _TYPES[form])


def nothing_taken(form: Form) -> Answer:
    """503 that lists no id: nothing was published, and trying again may help."""
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, answer((), form), _TYPES[form], RETRY_AFTER)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a path that nobody has configured."""
    del scope, receive
    await refusal(HTTPStatus.NOT_FOUND, "no endpoint has this path").send(send, close=True)
