"""Drives an ASGI application by hand: every message that a server could send it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


class Hang:
    """In place of a chunk: the rest of the body never comes."""


class Leave:
    """In place of a chunk: the client goes away."""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def request(
    app: ASGIApp,
    *chunks: bytes | type[Hang | Leave],
    method: str = "POST",
    path: str = "/webhook",
    query: str = "",
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    http_version: str = "1.1",
    reading: asyncio.Event | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 1),
) -> Reply | None:
    """The application's reply, or None where it sent none; nobody reads it before `reading`."""
    lines = headers.items() if isinstance(headers, Mapping) else headers
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in lines],
        "http_version": http_version,
        "client": client,
        "server": ("127.0.0.1", 2),
        "scheme": "http",
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        if reading is not None:
            await reading.wait()
        sent.append(dict(message))

    await app(scope, _receiver(chunks), send)
    return _reply(sent)


def _receiver(chunks: Sequence[bytes | type[Hang | Leave]]) -> Any:
    left = list(chunks) or [b""]

    async def receive() -> Message:
        if not left:
            return {"type": "http.disconnect"}
        chunk = left.pop(0)
        if isinstance(chunk, bytes):
            return {"type": "http.request", "body": chunk, "more_body": bool(left)}
        if chunk is Hang:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return receive


def _reply(sent: list[Message]) -> Reply | None:
    if not sent:
        return None
    start, *bodies = sent
    return Reply(
        status=start["status"],
        headers={k.decode(): v.decode() for k, v in start["headers"]},
        body=b"".join(body["body"] for body in bodies),
    )
