"""What is checked of a request before its body: in this order, which is the contract's.

A check returns the decision to refuse the request, or None.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

from bridge.gateway.admission import Capacity
from bridge.gateway.auth import Authenticator
from bridge.gateway.client_address import Networks, Proxies
from bridge.gateway.responses import ABOUT, Answer, overloaded, refusal
from bridge.observability.requests import Disposition, Request

Decision = tuple[Disposition, Answer | None]
Check = Callable[[Request], Decision | None]

# The codings that senders use (RFC 9110, 8.4.1). What is none of them is ignored.
COMPRESSIONS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


def checks(
    authenticator: Authenticator | None,
    allow: Networks | None,
    proxies: Proxies,
    capacity: Capacity,
    max_body_bytes: int,
) -> Sequence[Check]:
    """The checks of one endpoint; `allow` holds the addresses that may post, None if all may."""
    return (
        is_post,
        *([ComesFrom(allow, proxies)] if allow is not None else []),
        *([HasCredentials(authenticator)] if authenticator is not None else []),
        HasRoom(capacity),
        has_length,
        is_not_compressed,
        IsNotTooLarge(max_body_bytes),
    )


def is_post(request: Request) -> Decision | None:
    """405 for every other method."""
    if request.scope["method"] == "POST":
        return None
    only_post = f"only POST is accepted: {ABOUT}"
    reply = refusal(HTTPStatus.METHOD_NOT_ALLOWED, only_post, headers=((b"allow", b"POST"),))
    return Disposition.METHOD, reply


class ComesFrom:
    """403 for an address that may not post."""

    def __init__(self, allow: Networks, proxies: Proxies) -> None:
        self._allow = allow
        self._proxies = proxies

    def __call__(self, request: Request) -> Decision | None:
        """Check one request."""
        scope = request.scope
        if self._proxies.client(scope["client"], scope["headers"]) in self._allow:
            return None
        return Disposition.ADDRESS, refusal(HTTPStatus.FORBIDDEN, "this address may not post")


class HasCredentials:
    """401 for wrong or missing credentials."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def __call__(self, request: Request) -> Decision | None:
        """Check one request."""
        authorization = request.headers.get(b"authorization")
        query = request.scope["query_string"]
        if self._authenticator.accepts(authorization, query):
            return None
        given = authorization is not None or b"token=" in query
        request.credentials = "wrong" if given else "missing"
        challenge = self._authenticator.challenge.encode()
        wrong = "wrong or missing credentials"
        headers = ((b"www-authenticate", challenge),)
        return Disposition.CREDENTIALS, refusal(HTTPStatus.UNAUTHORIZED, wrong, headers)


class HasRoom:
    """503 while too much is in flight."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity

    def __call__(self, request: Request) -> Decision | None:
        """Check one request."""
        del request
        return (Disposition.OVERLOADED, overloaded()) if self._capacity.exhausted else None


def has_length(request: Request) -> Decision | None:
    """411 for HTTP/1.0 without a length: the body's end could not be told."""
    if request.scope["http_version"] != "1.0" or b"content-length" in request.headers:
        return None
    what = "HTTP/1.0 needs a Content-Length"
    return Disposition.NO_LENGTH, refusal(HTTPStatus.LENGTH_REQUIRED, what)


def is_not_compressed(request: Request) -> Decision | None:
    """415 for a compressed body; what else stands there, such as a character set, is no coding."""
    if b"content-encoding" not in request.headers:
        return None
    lines = [value for name, value in request.scope["headers"] if name == b"content-encoding"]
    for entry in b",".join(lines).lower().split(b","):
        coding = entry.partition(b";")[0].strip().decode("latin-1")
        if coding in COMPRESSIONS:
            request.coding = coding
            what = f"the body is compressed ({coding}): send it as it is"
            return Disposition.COMPRESSED, refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, what)
    return None


class IsNotTooLarge:
    """413 for a declared length beyond the limit."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes

    def __call__(self, request: Request) -> Decision | None:
        """Check one request."""
        length = int(request.headers.get(b"content-length", 0))
        if length <= self._max_body_bytes:
            return None
        request.declared_bytes = length
        return too_large(self._max_body_bytes)


def too_large(max_body_bytes: int) -> Decision:
    """413."""
    what = f"the body is over {max_body_bytes} bytes"
    return Disposition.BODY_TOO_LARGE, refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
