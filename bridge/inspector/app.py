"""The inspector as an ASGI application, and its part in the gateway: it watches, and is read.

Requests only enter what they were into the store. Pages are made when somebody asks, on a thread
beside the loop, and open ones look for news by themselves: nobody is told, so nobody waits.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bridge.inspector.browser_security import Guard
from bridge.inspector.curl import Target
from bridge.inspector.filters import Filter
from bridge.inspector.store import Store
from bridge.inspector.views import Pages, Snapshot, others
from bridge.observability.requests import Request as FinishedRequest
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

MAX_PAGES_LIVE = 8
PULSE_SECONDS = 0.5  # after which an open page has what is new
HEARTBEAT_PULSES = 30  # without news: a page that has gone is noticed
SEND_SECONDS = 5.0  # that a page has to take what it is sent
LIVE_ROWS = 30  # in one pulse
STATIC = {
    "style.css": "text/css",
    "script.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Inspector:
    """Remembers what it is told of requests, and shows it.

    `targets` are the endpoints, by name; `statuses` the known words; `host` is the one that the
    listener is configured with, under which it may be asked for; `not_ready` says what the gateway
    lacks, if anything.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        *,
        statuses: Iterable[str],
        host: str,
        not_ready: Callable[[], str | None],
        pulse_seconds: float = PULSE_SECONDS,
    ) -> None:
        self.store = Store()
        self._pages = Pages(targets, statuses, not_ready)
        self._renderer = ThreadPoolExecutor(1, thread_name_prefix="inspector")
        self._pulse_seconds = pulse_seconds
        self._ended = asyncio.Event()
        self._start = secrets.token_hex(4)
        self._live_pages = 0
        self._errors = Repeats(per_second=0.1, burst=1)
        self.app = Guard(Starlette(routes=self._routes()), host)

    def observe(self, seen: FinishedRequest) -> None:
        """Remember a request. Whatever goes wrong here is not the request's business."""
        try:
            self.store.add(seen)
        except Exception:
            if self._errors.held_back(None) is not None:
                log.exception("inspector missed a request", request_id=seen.request_id)

    def use(self, targets: Mapping[str, Target], statuses: Iterable[str]) -> None:
        """Show these endpoints and words on pages that are opened from now on."""
        self._pages.use(targets, statuses)

    def listening(self, host: str, port: int) -> None:
        """Say where the gateway listens, for commands that post to it from this machine."""
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")  # noqa: PLR2004
        name = f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004
        self._pages.gateway = f"http://{name}:{port}"

    def end(self) -> None:
        """Let go of all open pages: the gateway is draining."""
        self._ended.set()

    def _routes(self) -> list[Route]:
        routes = [
            Route("/", self._index),
            Route("/documents/{number:int}", self._document),
            Route("/documents/{number:int}/body", self._body),
            Route("/live", self._live),
        ]
        return routes + [_static(name, kind) for name, kind in STATIC.items()]

    # --- pages ---------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        wanted = Filter.of(request.query_params)
        snapshot = Snapshot.of(self.store, self.store.entries())
        cursor = self._cursor(snapshot.number)
        page = await self._rendered(lambda: self._pages.index(snapshot, wanted, cursor))
        return HTMLResponse(page)

    async def _document(self, request: Request) -> Response:
        number = request.path_params["number"]
        entry = self.store.get(number)
        if entry is None:
            page = await self._rendered(lambda: self._pages.gone(number))
            return HTMLResponse(page, HTTPStatus.NOT_FOUND)
        elsewhere = others(self.store, entry)
        return HTMLResponse(await self._rendered(lambda: self._pages.document(entry, elsewhere)))

    async def _body(self, request: Request) -> Response:
        entry = self.store.get(request.path_params["number"])
        if entry is None:
            return PlainTextResponse("not kept any more\n", HTTPStatus.NOT_FOUND)
        # To be saved, never to be shown: what it is nobody knows.
        name = f"document-{entry.number}.xml"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(entry.body, headers=headers, media_type="application/octet-stream")

    async def _live(self, request: Request) -> Response:
        if self._ended.is_set() or self._live_pages >= MAX_PAGES_LIVE:
            return PlainTextResponse("no more pages\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return _Stream(lambda receive, send: self._stream(request, receive, send))

    async def _rendered(self, render: Callable[[], str]) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._renderer, render)

    # --- what is new ---------------------------------------------------------------------

    async def _stream(self, request: Request, receive: Receive, send: Send) -> bool:
        """Send news until the page is closed or the gateway drains; False if it takes none."""
        wanted = Filter.of(request.query_params)
        left = asyncio.create_task(_left(receive))
        ended = asyncio.create_task(self._ended.wait())
        self._live_pages += 1
        try:
            await self._send_news(wanted, self._seen(request), {left, ended}, send)
        except TimeoutError:
            log.info("inspector page disconnected: too slow")
            return False
        else:
            return True
        finally:
            self._live_pages -= 1
            left.cancel()
            ended.cancel()

    def _seen(self, request: Request) -> int | None:
        """The number of the last document that the page has; None if it is of another life.

        A page says it with its first request, the browser with those after an interruption.
        """
        given = request.headers.get("last-event-id") or request.query_params.get("since", "")
        start, _, number = given.partition("-")
        if not given:
            return self.store.number
        # No longer than any number that was ever given out.
        usable = start == self._start and number.isdecimal() and len(number) < 20  # noqa: PLR2004
        return int(number) if usable else None

    async def _send_news(
        self, wanted: Filter, seen: int | None, ends: "set[asyncio.Task[Any]]", send: Send
    ) -> None:
        await _send_part(send, b": \n\n")
        if seen is None:
            await _send_part(send, self._event("restart", "", self.store.number))
            seen = self.store.number
        changes, quiet = -1, 0
        while True:
            if changes != self.store.changes:
                changes, number, quiet = self.store.changes, self.store.number, 0
                await _send_part(send, await self._news(wanted, seen, number))
                seen = number
            elif quiet >= HEARTBEAT_PULSES:
                quiet = 0
                await _send_part(send, b": \n\n")
            quiet += 1
            done, _ = await asyncio.wait(
                ends, timeout=self._pulse_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return

    async def _news(self, wanted: Filter, seen: int, number: int) -> bytes:
        """The rows after `seen` that are wanted, and the totals."""
        fresh = [entry for entry in self.store.after(seen) if wanted.matches(entry)]
        snapshot = Snapshot.of(self.store)

        def render() -> str:
            skipped = len(fresh) - LIVE_ROWS
            rows = self._pages.rows(fresh[:LIVE_ROWS], max(skipped, 0)) if fresh else ""
            return rows + "\0" + self._pages.totals(snapshot)

        rows, _, totals = (await self._rendered(render)).partition("\0")
        events = [self._event("rows", rows, number)] if rows else []
        return b"".join([*events, self._event("totals", totals, number)])

    def _event(self, name: str, data: str, number: int) -> bytes:
        lines = "".join(f"data: {line}\n" for line in data.split("\n"))
        return f"event: {name}\nid: {self._cursor(number)}\n{lines}\n".encode()

    def _cursor(self, number: int) -> str:
        """How far a page has come, in this life of the gateway."""
        return f"{self._start}-{number}"


class _Stream(Response):
    """A response that goes on: server-sent events."""

    def __init__(self, run: Callable[[Receive, Send], Awaitable[bool]]) -> None:
        super().__init__(media_type="text/event-stream")
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin, run, and end in order, unless the page has not taken what it was sent."""
        del scope
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
        if await self._run(receive, send):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_part(send: Send, part: bytes) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _static(name: str, kind: str) -> Route:
    content = files("bridge.inspector").joinpath("static", name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return Route(f"/static/{name}", answer)
