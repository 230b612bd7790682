"""What stands around the inspector's pages: who may ask for them, and what they may do.

It has no password: what it holds off is other sites in the browser of somebody who may read it.
"""

import ipaddress
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets requests pass that a page of this listener, or a person, makes."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"localhost", host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the headers that every answer has."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_ours(headers.get("host", "")):
            what = "ask for this page by an address, as localhost, or as inspector.host\n"
            app: ASGIApp = PlainTextResponse(what, HTTPStatus.MISDIRECTED_REQUEST)
        elif _from_elsewhere(headers):
            app = PlainTextResponse("not for other sites\n", HTTPStatus.FORBIDDEN)
        else:
            app = self._app
        await app(scope, receive, send_guarded)

    def _is_ours(self, host: str) -> bool:
        """Whether no name of somebody else's leads here.

        A site whose name was made to point to this listener (DNS rebinding) would be asked for by
        that name; an address belongs to nobody who could do so.
        """
        name = _name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True


def _name(host: str) -> str:
    """The host without its port, and an IPv6 address without its brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _from_elsewhere(headers: Headers) -> bool:
    """Whether another site's page asks for something that is not a page (Fetch Metadata)."""
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    return site not in ("same-origin", "none") and mode != "navigate"
