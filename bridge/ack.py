"""States and their outcomes become the answer. No I/O.

The heart of the promise: an id is acknowledged if and only if every `<state>` that carries it
is durably in Kafka.
"""

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape

import orjson

from bridge.model import MAX_LISTED_CHARACTERS, Form, Item, Result

_PUBLISHED, _JSON = Result.PUBLISHED, Form.JSON
_HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<response>'
_TAIL = b"</response>\n"
# A bare carriage return would not survive the reader's line-end handling.
_ENTITIES = {"\r": "&#13;"}
_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_TOO_LARGE_NUMBER = 2**63  # for the receivers' whole numbers


def acknowledged(
    items: Iterable[Item], unprocessed_ids: Iterable[str] = ()
) -> tuple[list[str], list[str]]:
    """The ids to list and those not to, each once, in order of first appearance.

    A blank id is neither: there is nothing to list. One that is too long to be listed is among
    the others.
    """
    whole: dict[str, bool] = {}
    for item in items:
        id_sms = item.state.id_sms
        if id_sms:
            is_durable = item.outcome.result is _PUBLISHED
            whole[id_sms] = is_durable and whole.get(id_sms, True)
    for id_sms in unprocessed_ids:
        if id_sms:
            whole[id_sms] = False
    for id_sms in whole:
        if len(id_sms) > MAX_LISTED_CHARACTERS:
            whole[id_sms] = False
    listed = [id_sms for id_sms, is_whole in whole.items() if is_whole]
    if len(listed) == len(whole):  # as nearly always
        return listed, []
    return listed, [id_sms for id_sms, is_whole in whole.items() if not is_whole]


def answer(ids: Iterable[str], form: Form = Form.XML) -> bytes:
    """The body that acknowledges these ids, as the provider's pages on the webhook show it."""
    if form is _JSON:
        return orjson.dumps([{"id_sms": json_id(id_sms)} for id_sms in ids])
    lines = "".join([f"\n  <id_sms>{_escaped(id_sms)}</id_sms>" for id_sms in ids])
    return _HEAD + lines.encode() + (b"\n" if lines else b"") + _TAIL


def _escaped(id_sms: str) -> str:
    return id_sms if id_sms.isalnum() else escape(id_sms, _ENTITIES)


def json_id(id_sms: str) -> int | str:
    """An id as the number that the provider wants back, if it is one that every reader can hold."""
    if _WHOLE_NUMBER.fullmatch(id_sms) and int(id_sms) < _TOO_LARGE_NUMBER:
        return int(id_sms)
    return id_sms


def problem(status: int, title: str, detail: str, form: Form = Form.XML) -> bytes:
    """A refusal in the XML or JSON form of RFC 9457; it never holds an id."""
    if form is Form.JSON:
        return orjson.dumps({"title": title, "status": status, "detail": detail})
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<problem xmlns="urn:ietf:rfc:7807">\n'
        f"  <title>{escape(title)}</title>\n"
        f"  <status>{status}</status>\n"
        f"  <detail>{escape(detail)}</detail>\n"
        "</problem>\n"
    ).encode()
