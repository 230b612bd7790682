"""Every document of the contract, by the name under which `sms-bridge schema` writes it.

A document is plain data, for JSON; the example of a configuration is text, with its comments.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from bridge.contract.asyncapi import asyncapi_document
from bridge.contract.config_schema import config_schema
from bridge.contract.event_schemas import (
    envelope_schema,
    rejected_envelope_schema,
    rejected_schema,
    status_schema,
)
from bridge.contract.openapi import openapi_document

DOCUMENTS: Final[Mapping[str, Callable[[], dict[str, Any]]]] = {
    "status": status_schema,
    "rejected": rejected_schema,
    "envelope": envelope_schema,
    "rejected-envelope": rejected_envelope_schema,
    "asyncapi": asyncapi_document,
    "openapi": openapi_document,
    "config": config_schema,
}

_PACKAGE: Final = Path(__file__).parents[1]


def example_configuration() -> str:
    """The text of `config/bridge.yaml`: a wheel has a copy, made when it is built."""
    installed = _PACKAGE / "documents" / "bridge.yaml"
    file = installed if installed.is_file() else _PACKAGE.parent / "config" / "bridge.yaml"
    return file.read_text(encoding="utf-8")
