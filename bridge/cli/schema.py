"""The `schema` command: the documents of the contract, and the example of a configuration."""

import json
from pathlib import Path

import click

from bridge.cli.common import load_settings
from bridge.contract.documents import DOCUMENTS, example_configuration
from bridge.contract.openapi import openapi_document


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
@click.option("--example", is_flag=True, help="With config: print an example, as YAML.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="With openapi: describe the endpoints of this configuration.",
)
def schema(document: str, example: bool, config_file: Path | None) -> None:
    """Print a document of the contract, as JSON.

    status, rejected: the JSON Schemas of an event's data. envelope, rejected-envelope: those of a
    whole event, for registries and SQL engines. asyncapi: the topics, as AsyncAPI 3. openapi: the
    webhook and the private listener, as OpenAPI 3.1. config: the JSON Schema of the configuration
    file, for editors and for checks without the program; with --example a file to begin with, in
    which every setting is described.
    """
    if example and document != "config":
        raise click.UsageError("--example is for config: the others have none")
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
