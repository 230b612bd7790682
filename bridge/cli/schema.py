"""The `schema` command: the documents of the contract."""

import json

import click

from bridge.contract.documents import DOCUMENTS


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
def schema(document: str) -> None:
    """Print a document of the contract, as JSON.

    status, rejected: the JSON Schemas of an event's data. envelope, rejected-envelope: those of a
    whole event, for registries and SQL engines. asyncapi: the topics, as AsyncAPI 3. config: the
    JSON Schema of the configuration file, for editors and for checks without the program.
    """
    click.echo(json.dumps(DOCUMENTS[document](), indent=2, ensure_ascii=False))
