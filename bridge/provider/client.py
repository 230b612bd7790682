"""Asks the provider's API over HTTP, and says in one line each what was wrong if it cannot.

One deadline for a whole request, a bound on the answer, no redirects: the credentials are in the
document, and go nowhere but to the configured address. They are taken out of whatever is said.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar

import httpx2

from bridge.config.settings import Provider
from bridge.errors import Fault, ProviderError
from bridge.http_client import USER_AGENT, Masked, no_answer
from bridge.provider.documents import (
    CONTENT_TYPES,
    clock_request,
    local_time,
    refusal,
    states_document,
    states_request,
)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_RETRY_AFTER = 120.0
# What may be over the next time that it is asked.
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)


T = TypeVar("T")


@asynccontextmanager
async def connected(account: Provider, timeout_seconds: float) -> AsyncIterator["Client"]:
    """A client of the account, for as long as the block lasts.

    Whom to trust is OpenSSL's to say (also by `SSL_CERT_FILE`), and the way there may lead through
    the proxies of the environment.
    """
    async with httpx2.AsyncClient(
        verify=ssl.create_default_context(),
        timeout=None,  # each request has a deadline of its own
        follow_redirects=False,
        headers={
            "Content-Type": CONTENT_TYPES[account.format],
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        },
    ) as http:
        yield Client(account, http, timeout_seconds)


class Client:
    """One account's connection to its API; `timeout_seconds` are for a whole request."""

    def __init__(self, account: Provider, http: httpx2.AsyncClient, timeout_seconds: float) -> None:
        self._account = account
        self._http = http
        self._timeout_seconds = timeout_seconds
        secrets = (account.token, account.password)
        self._shown = Masked(each.get_secret_value() for each in secrets if each is not None)

    async def states(self, ids: Sequence[str]) -> bytes:
        """The latest state of each message, as a document of the webhook's; raises ProviderError.

        It need not have all of them, and may have others.
        """
        body = await self._ask("/state.php", states_request(self._account, ids))
        return self._read(states_document, body)

    async def clock(self) -> str:
        """The account's local time, as the provider writes it; raises ProviderError."""
        body = await self._ask("/time.php", clock_request(self._account))
        return self._read(local_time, body)

    def _read(self, read: Callable[[str, bytes], T], body: bytes) -> T:
        try:
            return read(self._account.format, body)
        except ProviderError as error:
            said = self._shown(body.decode(errors="replace"))
            begins = f'; it begins with "{said}"' if said else "; it is empty"
            raise ProviderError(error.fault, f"{error}{begins}") from None

    async def _ask(self, path: str, document: bytes) -> bytes:
        """The body of a good answer."""
        url = f"{self._account.url}{path}"
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._http.stream("POST", url, content=document) as answer,
            ):
                body = await _body(answer)
        except TimeoutError:
            what = f"no answer from {url} within {self._timeout_seconds:g} s"
            raise ProviderError(Fault.TIMEOUT, what) from None
        except (httpx2.TransportError, httpx2.InvalidURL) as exc:
            fault, what, futile = no_answer(url, exc, self._shown)
            raise ProviderError(fault, what, futile=futile) from None
        self._refuse(answer, url, body)
        return body

    def _refuse(self, answer: httpx2.Response, url: str, body: bytes) -> None:
        """Raise ProviderError for whatever is no good answer."""
        status = answer.status_code
        if answer.has_redirect_location:
            what = f"{url} redirects to {self._shown(answer.headers['location'])}: not followed"
            raise ProviderError(Fault.REDIRECT, f"{what}; correct provider.url", futile=True)
        if (said := refusal(self._account.format, body)) is not None:
            what = f'the provider refuses the request: "{self._shown(said)}"'
            raise ProviderError(Fault.REFUSED, what)
        if status != HTTPStatus.OK:
            raise _status_fault(url, answer, self._shown(answer.reason_phrase))


async def _body(answer: httpx2.Response) -> bytes:
    """All of a good answer's body, or as much as can matter of another's."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ProviderError(Fault.FOREIGN, f"{answer.url} answers compressed, against the request")
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            if answer.status_code != HTTPStatus.OK:
                break
            what = f"the answer of {answer.url} is over {MAX_ANSWER_BYTES} bytes"
            raise ProviderError(Fault.TOO_LARGE, what)
    return bytes(body)


def _status_fault(url: str, answer: httpx2.Response, said: str) -> ProviderError:
    status = answer.status_code
    what = f"{url} answers HTTP {status} {said}".rstrip()
    if status == HTTPStatus.BAD_REQUEST:
        return ProviderError(Fault.REFUSED, f"{what}, without a reason")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ProviderError(Fault.TOO_LARGE, what)
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
        hint = _HINTS.get(status, "is it the provider's API?")
        return ProviderError(Fault.STATUS, f"{what}: {hint}", futile=True)
    return ProviderError(Fault.STATUS, what, retry_after=_retry_after(answer))


_HINTS: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "something in front of the API wants other credentials",
    HTTPStatus.FORBIDDEN: "the account, or this address, may not ask",
    HTTPStatus.NOT_FOUND: "is provider.url right?",
    HTTPStatus.METHOD_NOT_ALLOWED: "is provider.url right?",
}


def _retry_after(answer: httpx2.Response) -> float:
    seconds = answer.headers.get("retry-after", "")
    return min(float(seconds), MAX_RETRY_AFTER) if seconds.isdecimal() else 0
