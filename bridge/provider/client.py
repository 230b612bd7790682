"""Asks the provider's API over HTTP, and says in one line each what was wrong if it cannot.

One deadline for a whole request, a bound on the answer, no redirects: the credentials are in the
document, and go nowhere but to the configured address. They are taken out of whatever is said.
"""

import asyncio
import json
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote
from xml.sax.saxutils import escape

import httpx2

from bridge.clip import clipped, printable
from bridge.config.settings import Provider
from bridge.errors import Fault, ProviderError
from bridge.provider.documents import (
    CONTENT_TYPES,
    clock_request,
    local_time,
    refusal,
    states_document,
    states_request,
)

MAX_ANSWER_BYTES = 4 * 1024 * 1024
SHOWN_CHARACTERS = 200  # of what the provider says
MAX_RETRY_AFTER = 120.0
MASK = "***"
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
            "User-Agent": "sms-bridge",
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
        forms = {
            form for each in secrets if each is not None for form in _forms(each.get_secret_value())
        }
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

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
            raise _transport_fault(url, exc, self._shown) from None
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

    def _shown(self, text: str) -> str:
        """As much of a text from outside as a line may hold, without what is secret."""
        hidden = self._secrets.sub(MASK, text) if self._secrets.pattern else text
        return printable(clipped(hidden.strip(), SHOWN_CHARACTERS))


def _forms(secret: str) -> set[str]:
    """The secret as an answer may repeat it, and its plain parts, which no escaping changes."""
    in_xml = {escape(secret), escape(secret, {'"': "&quot;"})}
    parts = re.findall(r"[A-Za-z0-9]{3,}", secret)
    return {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), *in_xml, *parts}


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


def _transport_fault(url: str, exc: Exception, shown: Callable[[str], str]) -> ProviderError:
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the certificate of {url} is not valid: {cause.verify_message}"
            return ProviderError(Fault.UNTRUSTED, what, futile=True)
    if isinstance(exc, httpx2.ConnectError | httpx2.ProxyError):
        reasons = [reason for cause in causes if (reason := _system_reason(cause))]
        reason = shown([str(exc), *reasons][-1])
        return ProviderError(Fault.UNREACHABLE, f"cannot reach {url}: {reason}")
    if isinstance(exc, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return ProviderError(Fault.UNREACHABLE, f"cannot reach {url}: {exc}", futile=True)
    what = f"{url} gave no whole answer: {shown(str(exc)) or 'the connection was closed'}"
    return ProviderError(Fault.BROKEN, what)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it, the first one last."""
    while exc is not None:
        yield exc
        if isinstance(exc, BaseExceptionGroup):
            yield from _causes(exc.exceptions[0])
        exc = exc.__cause__ or exc.__context__


def _system_reason(exc: BaseException) -> str:
    """What the system says of a connection that it did not make; empty for other errors."""
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed: {exc.reason or exc}"
    if isinstance(exc, OSError) and exc.errno is not None:
        # A resolver's numbers are negative, and not the system's.
        return os.strerror(exc.errno) if exc.errno > 0 else str(exc.strerror)
    return ""
