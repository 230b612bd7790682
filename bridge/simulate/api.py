"""The provider's API, simulated: it answers for the states of messages and a clock, or with faults.

It answers from a thread of its own, so that it can stand beside a run, a demo or a test. It shares
no code with the client that it tests.
"""

import json
import ssl
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from zoneinfo import ZoneInfo

from bridge.simulate.documents import SentState, render

NOT_KNOWN = "Сообщение не найдено"  # a sentence in place of a word, as the provider has it
FOREIGN = SentState("99999999999", "read", "2026-01-05 12:00:00", "read", None)
CONTENT_TYPES = {"xml": "text/xml; charset=utf-8", "json": "text/json; charset=utf-8"}
MAX_REQUEST_BYTES = 16 * 2**20
_HUGE_BYTES = 8 * 2**20
_PATHS = {
    f"/{form}/{name}.php": (form, name) for form in ("xml", "json") for name in ("state", "time")
}


class ApiFault(StrEnum):
    """What the API can do instead of a true answer."""

    LOGIN = "login"  # an <error> about the credentials
    ERROR = "error"  # an <error> about the document
    UNAVAILABLE = "unavailable"  # 503
    HANG = "hang"  # no answer at all
    CUT = "cut"  # half an answer
    HTML = "html"  # a page that is not its own
    REDIRECT = "redirect"
    HUGE = "huge"  # more than anyone asked for
    FOREIGN = "foreign"  # a state that was not asked for, beside the others
    MISSING = "missing"  # all but the first that was asked for


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request's document: who asks, and for which ids."""

    credentials: Mapping[str, str]
    ids: Sequence[str]


class Api:
    """The API of one account, for as long as the `with` block lasts.

    `states` holds the latest state of each message. `token` is the only credential that it takes;
    without one it takes any. Each of `faults` is the answer to one request, in their order; after
    them it tells the truth. `timezone` is that of its clock.
    """

    def __init__(
        self,
        states: Mapping[str, SentState],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        timezone: str = "UTC",
        faults: Iterable[ApiFault] = (),
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.states = states
        self.faults = deque(faults)
        self.asked: list[Sequence[str]] = []  # the ids of each request for states
        self.pause_seconds = 0.0  # before each answer
        self.stopping = threading.Event()
        self._token = token
        self._zone = ZoneInfo(timezone)
        self._server = _Server((host, port), _Handler)
        self._server.api = self
        if ssl_context is not None:
            self._server.socket = ssl_context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if ssl_context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Its address, without `/xml` or `/json`."""
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{host!s}:{port}"

    def answer(self, form: str, name: str, body: bytes) -> tuple[HTTPStatus, bytes]:
        """What it answers to a document that asks for states or for the time."""
        asked = _read(form, body)
        if asked is None:
            return HTTPStatus.BAD_REQUEST, _error(form, f"Incorrect {form.upper()} document format")
        if self._token is not None and asked.credentials.get("token") != self._token:
            return HTTPStatus.OK, _error(form, "Incorrect login or password")
        if name == "time":
            return HTTPStatus.OK, _time(form, datetime.now(self._zone))
        self.asked.append(asked.ids)
        known = [self.states.get(i) or SentState(i, NOT_KNOWN, "", None, None) for i in asked.ids]
        return HTTPStatus.OK, _states(form, known)

    def spoilt(
        self, fault: ApiFault, form: str, answer: tuple[HTTPStatus, bytes]
    ) -> tuple[HTTPStatus, bytes]:
        """The answer with a fault in it, of those that leave it an answer."""
        status, body = answer
        asked = [self.states[i] for i in self.asked[-1] if i in self.states] if self.asked else []
        match fault:
            case ApiFault.LOGIN:
                return HTTPStatus.OK, _error(form, "Incorrect login or password")
            case ApiFault.ERROR:
                return HTTPStatus.BAD_REQUEST, _error(form, "Too many identical requests")
            case ApiFault.UNAVAILABLE:
                return HTTPStatus.SERVICE_UNAVAILABLE, b"upstream is away"
            case ApiFault.HTML:
                return HTTPStatus.OK, b"<!DOCTYPE html><html><body>Sign in</body></html>"
            case ApiFault.REDIRECT:
                return HTTPStatus.FOUND, b""
            case ApiFault.HUGE:
                return HTTPStatus.OK, body + b" " * _HUGE_BYTES
            case ApiFault.FOREIGN:
                return HTTPStatus.OK, _states(form, [*asked, FOREIGN])
            case ApiFault.MISSING:
                return HTTPStatus.OK, _states(form, asked[1:])
        return status, body


class _Server(ThreadingHTTPServer):
    api: Api
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that leaves: it may have been told to."""


class _Handler(BaseHTTPRequestHandler):
    """One connection: requests, and their answers, until one of the two ends it."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        api = self.server.api
        size = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(min(size, MAX_REQUEST_BYTES))
        found = _PATHS.get(self.path)
        if found is None:
            self._send("xml", (HTTPStatus.NOT_FOUND, b"no such page"))
            return
        form, name = found
        fault = api.faults.popleft() if api.faults else None
        answer = api.answer(form, name, body)
        time.sleep(api.pause_seconds)
        if fault is ApiFault.HANG:
            api.stopping.wait()
            self.close_connection = True
        elif fault is ApiFault.CUT:
            self._send(form, answer, cut=True)
        else:
            self._send(form, answer if fault is None else api.spoilt(fault, form, answer))

    def _send(self, form: str, answer: tuple[HTTPStatus, bytes], *, cut: bool = False) -> None:
        status, body = answer
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPES[form])
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.FOUND:
            self.send_header("Location", "https://elsewhere.example.com/")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection |= cut

    def log_message(self, *_: object) -> None:
        """Keep quiet: who runs it looks at the other side."""


# --- documents ---------------------------------------------------------------------------


def _read(form: str, body: bytes) -> _Asked | None:
    return _read_xml(body) if form == "xml" else _read_json(body)


def _read_xml(body: bytes) -> _Asked | None:
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat bounds entity expansion
    except ET.ParseError:
        return None
    security = root.find("security")
    if root.tag != "request" or security is None:
        return None
    credentials = {element.tag: element.get("value", "") for element in security}
    return _Asked(credentials, [e.text or "" for e in root.iterfind("get_state/id_sms")])


def _read_json(body: bytes) -> _Asked | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    objects: list[dict[str, Any]] = document if isinstance(document, list) else [document]
    if not objects or not all(isinstance(each, dict) for each in objects):
        return None
    credentials = {name: str(objects[0].get(name, "")) for name in ("token", "login", "password")}
    return _Asked(credentials, [str(each["id_sms"]) for each in objects if "id_sms" in each])


def _states(form: str, states: Iterable[SentState]) -> bytes:
    return render(states) if form == "xml" else json.dumps([_in_json(s) for s in states]).encode()


def _in_json(state: SentState) -> dict[str, Any]:
    channels = {"sms": state.sms, "viber": state.viber}
    return {
        "id_sms": int(state.id_sms) if _is_number(state.id_sms) else state.id_sms,
        "time_change_state": state.time,
        "state": state.status,
        **{name: word for name, word in channels.items() if word is not None},
    }


def _is_number(id_sms: str) -> bool:
    return id_sms.isdecimal() and str(int(id_sms)) == id_sms


def _error(form: str, text: str) -> bytes:
    return _field(form, "error", text)


def _time(form: str, local: datetime) -> bytes:
    return _field(form, "time", f"{local:%Y-%m-%d %H:%M:%S}")


def _field(form: str, name: str, text: str) -> bytes:
    if form == "json":
        return json.dumps({name: text}).encode()
    document = (
        f'<?xml version="1.0" encoding="utf-8"?>\n<response><{name}>{text}</{name}></response>'
    )
    return document.encode()
