"""The `schema` command: the documents of the contract, and the example of a configuration."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from bridge.cli.common import fail, load_settings
from bridge.contract.documents import DOCUMENTS, example_configuration
from bridge.contract.openapi import openapi_document
from bridge.errors import BridgeError
from bridge.interrupts import interruptible
from bridge.kafka.security import trusting
from bridge.registry import Registry

_USERNAME, _PASSWORD, _TOKEN = (
    f"SCHEMA_REGISTRY_{word}" for word in ("USERNAME", "PASSWORD", "TOKEN")
)
# The schema of a record's value, by content mode.
_OF_STATUSES: Final = {"structured": "envelope", "binary": "status"}
_OF_DEAD_LETTERS: Final = {"structured": "rejected-envelope", "binary": "rejected"}
_REGISTERED: Final = (*_OF_STATUSES.values(), *_OF_DEAD_LETTERS.values())


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
@click.option("--example", is_flag=True, help="With config: print an example, as YAML.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="With openapi: describe the endpoints of this configuration. With --register: its topics.",
)
@click.option(
    "--register",
    "url",
    metavar="URL",
    help="Register the schema of an event with the schema registry at URL, as TOPIC-value.",
)
@click.option(
    "--topic", "topics", multiple=True, help="With --register: the topic; may be given repeatedly."
)
@click.option("--ca-file", help="With --register: whom to trust, in PEM.  [default: the system's]")
def schema(
    *,
    document: str,
    example: bool,
    config_file: Path | None,
    url: str | None,
    topics: Sequence[str],
    ca_file: str | None,
) -> None:
    """Print a document of the contract, as JSON; or register it.

    status, rejected: the JSON Schemas of an event's data. envelope, rejected-envelope: those of a
    whole event, for registries and SQL engines. asyncapi: the topics, as AsyncAPI 3. openapi: the
    webhook and the private listener, as OpenAPI 3.1. config: the JSON Schema of the configuration
    file, for editors and for checks without the program; with --example a file to begin with, in
    which every setting is described.

    --register speaks the REST API of Confluent's registry. $SCHEMA_REGISTRY_USERNAME and
    $SCHEMA_REGISTRY_PASSWORD, or $SCHEMA_REGISTRY_TOKEN, hold its credentials.
    """
    if example and document != "config":
        raise click.UsageError("--example is for config: the others have none")
    if url is not None:
        if document not in _REGISTERED:
            raise click.UsageError(f"--register is for {', '.join(_REGISTERED)}")
        if topics and config_file is not None:
            raise click.UsageError("--register needs --topic or --config, not both")
        _register(document, _registry_url(url), topics or _topics(document, config_file), ca_file)
        return
    if topics or ca_file is not None:
        raise click.UsageError("--topic and --ca-file go with --register")
    if config_file is not None and document != "openapi":
        raise click.UsageError("--config is for openapi: the others describe every configuration")
    if example:
        click.echo(example_configuration(), nl=False)
        return
    written = (
        openapi_document(load_settings(config_file, placeholders=True))
        if config_file is not None
        else DOCUMENTS[document]()
    )
    click.echo(json.dumps(written, indent=2, ensure_ascii=False))


def _registry_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query:
        what = "must be an http or https URL, to which /subjects can be added"
        raise click.BadParameter(what, param_hint="--register")
    if parts.username is not None:
        # What stands on a command line every user of the machine can read.
        what = f"must hold no credentials: put them in ${_USERNAME} and ${_PASSWORD}"
        raise click.BadParameter(what, param_hint="--register")
    return url.rstrip("/")


def _topics(document: str, config_file: Path | None) -> Sequence[str]:
    """The topics of a configuration whose records' values a document describes."""
    if config_file is None:
        raise click.UsageError("name the topic with --topic, or the configuration with --config")
    settings = load_settings(config_file, placeholders=True)
    dead_letters = settings.kafka.dead_letter_topic
    mode = settings.events.content_mode
    if document == _OF_STATUSES[mode]:
        return settings.topics
    if document != _OF_DEAD_LETTERS[mode]:
        fitting = f"{_OF_STATUSES[mode]} or {_OF_DEAD_LETTERS[mode]}"
        raise click.UsageError(f"with events.content_mode {mode} register {fitting}")
    if dead_letters is None:
        raise click.UsageError(f"kafka.dead_letter_topic of {config_file} is null")
    return (dead_letters,)


def _register(document: str, url: str, topics: Sequence[str], ca_file: str | None) -> None:
    credentials = _credentials(os.environ)
    try:
        registry = Registry(url, trusting(ca_file, "--ca-file"), "--ca-file", **credentials)
        for topic in topics:
            subject = f"{topic}-value"
            with interruptible():
                number = asyncio.run(registry.register(subject, DOCUMENTS[document]()))
            click.echo(f"registered {document} as {subject}: id {number}")
    except BridgeError as exc:
        fail(str(exc))


def _credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of the environment; a variable that is empty counts as not set."""
    names = {"username": _USERNAME, "password": _PASSWORD, "token": _TOKEN}
    found = {key: text for key, name in names.items() if (text := environment.get(name))}
    if "token" in found and len(found) > 1:
        raise click.UsageError(f"set ${_TOKEN}, or ${_USERNAME} and ${_PASSWORD}, and not both")
    if "password" in found and "username" not in found:
        raise click.UsageError(f"${_PASSWORD} needs ${_USERNAME}")
    if not found.get("token", "").isascii():
        raise click.UsageError(f"${_TOKEN} holds a character that no token has")
    return found
