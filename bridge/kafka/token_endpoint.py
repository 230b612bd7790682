"""Asks an OAuth server for an access token by the client credentials grant (RFC 6749, 4.4).

Neither the client's secret nor a token is ever part of what is said; no body of an answer is.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr

from bridge.blocking import unblocked
from bridge.config.settings import Sasl
from bridge.errors import BridgeError
from bridge.http_client import Masked, post
from bridge.kafka.security import trusting
from bridge.kafka.tokens import Token

FETCH_SECONDS: Final = 10.0  # for a whole answer
MAX_ANSWER_BYTES: Final = 128 * 1024
UNTOLD_SECONDS: Final = 300.0  # that a token is used for if the server does not say how long it may
_SECTION: Final = "kafka.security.sasl"
_CA_SETTING: Final = f"{_SECTION}.token_ca_file"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_HEADERS: Final = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
}
# What to do about an error of RFC 6749, 5.2.
_ADVICE: Final[Mapping[str, str]] = {
    "invalid_client": f"check {_SECTION}.client_id and client_secret",
    "invalid_scope": f"check {_SECTION}.scope",
    "unauthorized_client": "allow it the client credentials grant on the server",
    "unsupported_grant_type": f"is {_SECTION}.token_url right?",
}


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """Where to ask, and as whom."""

    url: str
    client_id: str
    secret: SecretStr
    scope: str | None = None
    ca_file: str | None = None

    @classmethod
    def of(cls, sasl: Sasl) -> "TokenEndpoint":
        """The endpoint of settings that have passed their rules (config/conflicts.py)."""
        if sasl.token_url is None or sasl.client_id is None or sasl.client_secret is None:
            raise BridgeError(f"{_SECTION}: token_url, client_id and client_secret are needed")
        return cls(
            sasl.token_url, sasl.client_id, sasl.client_secret, sasl.scope, sasl.token_ca_file
        )

    async def fetch(self) -> Token:
        """A new token, within FETCH_SECONDS. Raises BridgeError, which says what to fix."""
        shown = Masked([self.secret.get_secret_value(), self._basic()])
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        # The system's CAs take tens of milliseconds, in which nothing else would run.
        trusted = await unblocked(partial(trusting, self.ca_file, _CA_SETTING), "kafka token CAs")
        answer = await post(
            self.url,
            urlencode(form).encode(),
            headers={**_HEADERS, "Authorization": f"Basic {self._basic()}"},
            trusted=trusted,
            ca_setting=_CA_SETTING,
            seconds=FETCH_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            shown=shown,
        )
        said = _object(answer.body)
        if answer.status != HTTPStatus.OK:
            raise BridgeError(self._refusal(answer.status, said, shown))
        return self._token(said, shown)

    def _basic(self) -> str:
        """RFC 6749, 2.3.1: both are form-encoded before they are joined."""
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.secret.get_secret_value())}"
        return base64.b64encode(pair.encode()).decode()

    def _refusal(self, status: int, said: Mapping[str, Any], shown: Masked) -> str:
        error, description = (str(said.get(k) or "") for k in ("error", "error_description"))
        if error:
            why = f"{error} ({description})" if description else error
            advice = _ADVICE.get(error)
            then = f": {advice}" if advice else ""
            return f"{self.url} refuses client {self.client_id}: {shown(why)}{then}"
        if status == HTTPStatus.UNAUTHORIZED:
            return f"{self.url} answers HTTP {status}: {_ADVICE['invalid_client']}"
        wrong = status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS
        return f"{self.url} answers HTTP {status}" + (
            f": is {_SECTION}.token_url right?" if wrong else ""
        )

    def _token(self, said: Mapping[str, Any], shown: Masked) -> Token:
        value, kind = said.get("access_token"), str(said.get("token_type", "bearer"))
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            what = f"{self.url} answers with no access token in JSON"
            raise BridgeError(f"{what}: is {_SECTION}.token_url right?")
        if kind.lower() != "bearer":
            what = f"{self.url} answers with a token of another type than bearer: {shown(kind)}"
            raise BridgeError(what)
        seconds = _seconds(said.get("expires_in"))
        if seconds <= 0:
            raise BridgeError(f"{self.url} answers with a token that has expired")
        return Token(value, seconds)


def _object(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body; empty if it is none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):  # no UTF-8 is the former
        return {}
    return said if isinstance(said, dict) else {}


def _seconds(said: object) -> float:
    """`expires_in`, which some servers write as text; a time without end is none."""
    if not isinstance(said, int | float | str) or isinstance(said, bool):
        return UNTOLD_SECONDS
    try:
        seconds = float(said)
    except (ValueError, OverflowError):
        return UNTOLD_SECONDS
    return seconds if math.isfinite(seconds) else UNTOLD_SECONDS
