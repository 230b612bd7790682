"""The documents of the simulated provider: states drawn from a seed, and what an answer lists."""

import random
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

import orjson

from bridge.model import Form
from bridge.simulate.plan import Plan

# How often (in a hundred), status, sms, viber: SMS alone, Viber alone, Viber sent again as SMS.
_MIX = tuple(
    row[1:]
    for row in (
        (40, "deliver", "deliver", None),
        (8, "not_deliver", "not_deliver", None),
        (7, "expired", "expired", None),
        (5, "partly_deliver", "partly_deliver", None),
        (6, "send", "send", None),
        (12, "read", None, "read"),
        (8, "deliver", None, "deliver"),
        (2, "send", None, "send"),
        (4, "deliver", "deliver", "expired"),
        (3, "deliver", "deliver", "not_deliver"),
        (3, "not_deliver", "not_deliver", "expired"),
        (2, "expired", "expired", "not_deliver"),
    )
    for _ in range(row[0])
)
# January: no daylight saving begins or ends, so every time is unambiguous in any zone.
_FIRST_TIME = datetime(2026, 1, 1)  # noqa: DTZ001 - the provider sends local time, zone unsaid
_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class SentState:
    """One `<state>` as the provider sends it; `time` is empty for `send` (provider-webhook)."""

    id_sms: str
    status: str
    time: str
    sms: str | None
    viber: str | None


def states(plan: Plan) -> Iterator[SentState]:
    """Yield the plan's states one by one, in order of id; the same seed gives the same ones."""
    rng = random.Random(plan.seed)  # noqa: S311 - to be repeated, not to be secret
    for id_sms in plan.ids:
        status, sms, viber = _MIX[int(rng.random() * len(_MIX))]
        moment = _FIRST_TIME + timedelta(seconds=int(rng.random() * _SECONDS))
        yield SentState(str(id_sms), status, "" if status == "send" else str(moment), sms, viber)


def render(states: Iterable[SentState], form: Form = Form.XML) -> bytes:
    """Return the document that the provider posts: UTF-8, in XML one line a state."""
    if form is Form.JSON:
        return orjson.dumps([_object(state) for state in states])
    lines = "".join(map(_line, states))
    document = f'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n{lines}</response>\n'
    return document.encode()


def _line(state: SentState) -> str:
    sms = "" if state.sms is None else f' sms="{escape(state.sms)}"'
    viber = "" if state.viber is None else f' viber="{escape(state.viber)}"'
    return (
        f'     <state id_sms="{escape(state.id_sms)}" time="{escape(state.time)}"{sms}{viber}>'
        f"{escape(state.status)}</state>\n"
    )


def _object(state: SentState) -> dict[str, str]:
    channels = {"sms": state.sms, "viber": state.viber}
    return {
        "id_sms": state.id_sms,
        "time": state.time,
        **{name: word for name, word in channels.items() if word is not None},
        "state": state.status,
    }


def listed_ids(body: bytes, form: Form = Form.XML) -> frozenset[str] | None:
    """Return the ids that an answer acknowledges, or None if it is no answer in that form."""
    return _ids_in_json(body) if form is Form.JSON else _ids_in_xml(body)


def _ids_in_json(body: bytes) -> frozenset[str] | None:
    try:
        return frozenset(str(listed["id_sms"]) for listed in orjson.loads(body))
    except (ValueError, TypeError, KeyError):
        return None


def _ids_in_xml(body: bytes) -> frozenset[str] | None:
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat bounds entity expansion
    except (ET.ParseError, ValueError, LookupError):
        return None
    if root.tag != "response":
        return None
    return frozenset((element.text or "").strip() for element in root.iterfind("id_sms"))
