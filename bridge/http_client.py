"""What the bridge's own HTTP requests have in common: why one has no answer, and what is not said.

It knows no address and no credentials; those who ask pass them in.
"""

import asyncio
import json
import os
import re
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import httpx2

from bridge.clip import clipped, printable
from bridge.errors import BridgeError, Fault

SHOWN_CHARACTERS = 200  # of what a server says
MASK = "***"
USER_AGENT = "sms-bridge"


class Masked:
    """Texts from outside, as they may be shown: short, printable, and without these secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first)), re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """As much of a text as a line may hold."""
        hidden = self._secrets.sub(MASK, text) if self._secrets.pattern else text
        return printable(clipped(hidden.strip(), SHOWN_CHARACTERS))


def _forms(secret: str) -> set[str]:
    """The secret as an answer may repeat it, and its plain parts, which no escaping changes."""
    in_xml = {escape(secret), escape(secret, {'"': "&quot;"})}
    in_url = {quote(secret, safe=""), quote_plus(secret)}
    parts = re.findall(r"[A-Za-z0-9]{3,}", secret)
    return {secret, json.dumps(secret)[1:-1], *in_url, *in_xml, *parts}


class NoAnswer(NamedTuple):
    """Why there is no answer; `futile` says that another try would end the same way."""

    fault: Fault
    what: str
    futile: bool = False


def no_answer(url: str, exc: Exception, shown: Callable[[str], str]) -> NoAnswer:
    """Say what httpx2 has raised, in one line."""
    causes = list(_causes(exc))
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the certificate of {url} is not valid: {cause.verify_message}"
            return NoAnswer(Fault.UNTRUSTED, what, futile=True)
    if isinstance(exc, httpx2.ConnectError | httpx2.ProxyError):
        reasons = [reason for cause in causes if (reason := _system_reason(cause))]
        reason = shown([str(exc), *reasons][-1])
        return NoAnswer(Fault.UNREACHABLE, f"cannot reach {url}: {reason}")
    if isinstance(exc, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return NoAnswer(Fault.UNREACHABLE, f"cannot reach {url}: {exc}", futile=True)
    what = f"{url} gave no whole answer: {shown(str(exc)) or 'the connection was closed'}"
    return NoAnswer(Fault.BROKEN, what)


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


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status. Its body may hold a secret, and is never shown."""

    status: int
    body: bytes


async def post(
    url: str,
    content: bytes,
    *,
    headers: Mapping[str, str],
    trusted: ssl.SSLContext,
    ca_setting: str,
    seconds: float,
    max_bytes: int,
    shown: Callable[[str], str],
) -> Answer:
    """Post once, on a connection of its own; redirects are answers, and are not followed.

    `trusted` holds the CAs that the setting `ca_setting` names; `seconds` are for all of it. Raises
    BridgeError if there is no whole answer by then, or one over `max_bytes`.
    """
    body = bytearray()
    try:
        async with (
            asyncio.timeout(seconds),
            httpx2.AsyncClient(verify=trusted, timeout=None) as http,
            http.stream("POST", url, content=content, headers=_own_headers(headers)) as answer,
        ):
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > max_bytes:
                    raise BridgeError(f"the answer of {url} is over {max_bytes} bytes")
    except TimeoutError:
        raise BridgeError(f"no answer from {url} within {seconds:g} s") from None
    except (httpx2.TransportError, httpx2.InvalidURL) as exc:
        fault, what, _ = no_answer(url, exc, shown)
        hint = f" ({ca_setting})" if fault is Fault.UNTRUSTED else ""
        # Not its cause: what that holds of the request has the secret.
        raise BridgeError(f"{what}{hint}") from None
    return Answer(answer.status_code, bytes(body))


def _own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {"Accept-Encoding": "identity", "User-Agent": USER_AGENT, **headers}
