"""The documents of the provider's API: what is asked, and what an answer says of itself.

No I/O. The states of an answer are read by `bridge.parse`, as those of a webhook are.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson

from bridge.ack import json_id
from bridge.config.settings import Provider
from bridge.errors import DocumentError, Fault, ProviderError
from bridge.parse import parse
from bridge.parse.limits import MAX_ELEMENTS

CONTENT_TYPES: Mapping[str, str] = {
    "xml": "text/xml; charset=utf-8",
    "json": "text/json; charset=utf-8",
}
_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
_ROOT = "response"
# What the JSON form calls a state's time when it is asked; within a text its quotes are escaped.
_TIME_OF_STATE = re.compile(rb'"time_change_state"([ \t\r\n]*:)')


def states_request(account: Provider, ids: Iterable[str]) -> bytes:
    """The document that asks for the latest state of each message."""
    if account.format == "json":
        who = _credentials(account)
        return orjson.dumps([{**who, "id_sms": json_id(i), "detail": 0} for i in ids])
    asked = "".join(f"<id_sms>{escape(i)}</id_sms>" for i in ids)
    return _request(account, f"<get_state>{asked}</get_state>")


def clock_request(account: Provider) -> bytes:
    """The document that asks for the account's local time."""
    return orjson.dumps(_credentials(account)) if account.format == "json" else _request(account)


def _request(account: Provider, rest: str = "") -> bytes:
    who = "".join(f"<{n} value={quoteattr(v)}/>" for n, v in _credentials(account).items())
    return f"{_DECLARATION}<request><security>{who}</security>{rest}</request>".encode()


def _credentials(account: Provider) -> dict[str, str]:
    if account.token is not None:
        return {"token": account.token.get_secret_value()}
    password = account.password.get_secret_value() if account.password is not None else ""
    return {"login": account.login or "", "password": password}


def refusal(form: str, body: bytes) -> str | None:
    """What the provider says is wrong with the request; None if it says nothing of the kind."""
    return _text(form, body, "error")


def states_document(form: str, body: bytes) -> bytes:
    """An answer of states as a webhook would have brought them; raises ProviderError."""
    # By the name that a webhook has for it: it is part of an event's identity.
    document = _TIME_OF_STATE.sub(rb'"time"\1', body) if form == "json" else body
    try:
        read = parse(document, max_states=MAX_ELEMENTS)
    except DocumentError as error:
        raise _not_its_own(form, str(error)) from None
    if read.is_foreign:
        raise _not_its_own(form, "there are no states in it")
    return document


def local_time(form: str, body: bytes) -> str:
    """The account's local time as an answer has it; raises ProviderError."""
    if not (text := _text(form, body, "time")):
        raise _not_its_own(form, "there is no time in it")
    return text


def _not_its_own(form: str, why: str) -> ProviderError:
    return ProviderError(
        Fault.FOREIGN, f"what answered is not the provider's API in {form.upper()}: {why}"
    )


def _text(form: str, body: bytes, name: str) -> str | None:
    """The text of an element right under the root, or of a field of the first object."""
    value: Any = None
    if form == "json":
        value = _first_object(body).get(name)
    elif (root := _root(body)) is not None and root.tag == _ROOT:
        value = root.findtext(name)
    return value.strip() if isinstance(value, str) else None


def _root(body: bytes) -> ET.Element | None:
    try:
        return ET.fromstring(body.strip())  # noqa: S314 - expat bounds entity expansion
    except (ET.ParseError, ValueError, LookupError):
        return None


def _first_object(body: bytes) -> Mapping[str, Any]:
    document = _json(body)
    if isinstance(document, list):
        document = next(iter(document), None)
    return document if isinstance(document, dict) else {}


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
