"""Every document of the contract, by the name under which `sms-bridge schema` writes it.

A document is plain data, for JSON.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bridge.contract.asyncapi import asyncapi_document
from bridge.contract.config_schema import config_schema
from bridge.contract.event_schemas import (
    envelope_schema,
    rejected_envelope_schema,
    rejected_schema,
    status_schema,
)

DOCUMENTS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "status": status_schema,
    "rejected": rejected_schema,
    "envelope": envelope_schema,
    "rejected-envelope": rejected_envelope_schema,
    "asyncapi": asyncapi_document,
    "config": config_schema,
}
