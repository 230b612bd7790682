"""Who may post: compares what a request presents with what an endpoint accepts.

Secrets are kept as digests only, and compared in constant time.
"""

import hashlib
import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import unquote_to_bytes

from bridge.config.settings import Auth

REALM = "sms-status-bridge"
MAX_QUERY_TOKENS = 4  # that are looked at: a head has room for thousands, 13 ms of guesses


@dataclass(frozen=True, slots=True)
class Authenticator:
    """The credentials of one endpoint. `challenge` is for `WWW-Authenticate` (RFC 9110, 11.6.1).

    `query_tokens` are `tokens` as a URL's query shows them.
    """

    tokens: tuple[bytes, ...] = field(repr=False)
    query_tokens: tuple[bytes, ...] = field(repr=False)
    basic: tuple[bytes, ...] = field(repr=False)
    challenge: str

    @classmethod
    def of(cls, auth: Auth | None) -> "Authenticator | None":
        """The credentials that the settings of an endpoint name; None where it wants none."""
        if auth is None or not (auth.tokens or auth.basic):
            return None
        schemes = ["Basic"] * bool(auth.basic) + ["Bearer"] * bool(auth.tokens)
        tokens = [token.get_secret_value().encode() for token in auth.tokens]
        return cls(
            tokens=tuple(_digest(token) for token in tokens),
            query_tokens=tuple(_digest(_with_pluses(token)) for token in tokens),
            basic=tuple(
                _digest(f"{user.username}:{user.password.get_secret_value()}".encode())
                for user in auth.basic
            ),
            challenge=", ".join(f'{scheme} realm="{REALM}"' for scheme in schemes),
        )

    def accepts(self, authorization: bytes | None, query: bytes) -> bool:
        """Whether one credential of the header or of the query's `token` matches."""
        scheme, _, value = (authorization or b"").strip().partition(b" ")
        presented = value.strip()
        if scheme.lower() == b"basic":
            matches = _matches(_decoded(presented), self.basic)
        elif scheme.lower() == b"bearer":
            matches = _matches(presented, self.tokens)
        else:
            matches = False
        for token in islice(_query_tokens(query), MAX_QUERY_TOKENS):
            matches |= _matches(token, self.query_tokens)
        return matches


def _query_tokens(query: bytes) -> Iterator[bytes]:
    # In bytes: a query is whatever the client sends, and need not be text.
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        if name == b"token":
            yield _with_pluses(unquote_to_bytes(value))


def _with_pluses(token: bytes) -> bytes:
    """A token in which a plus and a space are the same.

    A URL's `+` is a plus, a form's is a space; what handles the provider's URL on its way takes
    one for the other, and escapes what it took it for.
    """
    return token.replace(b" ", b"+")


def _decoded(credentials: bytes) -> bytes:
    try:
        return b64decode(credentials, validate=True)
    except Base64Error:
        return b""


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _matches(presented: bytes, accepted: tuple[bytes, ...]) -> bool:
    """Compare with every digest, so that the time tells nothing of which one it was."""
    digest = _digest(presented)
    matches = False
    for candidate in accepted:
        matches |= hmac.compare_digest(digest, candidate)
    return matches and bool(presented)
