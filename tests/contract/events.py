"""Holds events to the published schemas: all that a test publishes, or reads from a topic."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator

from bridge import event
from bridge.contract import event_schemas as contract

Headers = Iterable[tuple[str, bytes | None]]


class ContractError(AssertionError):
    """An event is not what the contract says."""


def check(value: bytes | None, headers: Headers) -> None:
    """Raise ContractError where a record that says it is a CloudEvent is not as described."""
    named = {name: text or b"" for name, text in headers}
    if "ce_specversion" in named:
        attributes = {name[3:]: text.decode() for name, text in named.items() if name[:3] == "ce_"}
        content_type = named["content-type"].decode()
        data = orjson.loads(value or b"")
        check_event({**attributes, "datacontenttype": content_type, "data": data})
    elif named.get("content-type") == b"application/cloudevents+json":
        check_event(orjson.loads(value or b""))


def check_event(envelope: Mapping[str, Any]) -> None:
    """Hold the whole event, and its data, against the schemas of its kind."""
    validators = _validators().get(envelope["dataschema"])
    if validators is None:
        raise ContractError(f"no such schema: {envelope['dataschema']}")
    for validator, instance in zip(validators, (envelope, envelope["data"]), strict=True):
        if not validator.is_valid(instance):
            problems = [
                f"{e.instance_path}: {e.message:.300}" for e in validator.iter_errors(instance)
            ]
            raise ContractError("; ".join(problems))


@cache
def _validators() -> dict[str, tuple[Draft202012Validator, Draft202012Validator]]:
    """Of each kind of event the envelope's and the data's."""
    kinds = {
        event.STATUS_SCHEMA: (contract.envelope_schema(), contract.status_schema()),
        event.REJECTED_SCHEMA: (contract.rejected_envelope_schema(), contract.rejected_schema()),
    }
    return {
        kind: (
            Draft202012Validator(envelope, validate_formats=True),
            Draft202012Validator(data, validate_formats=True),
        )
        for kind, (envelope, data) in kinds.items()
    }
