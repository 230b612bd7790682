"""The `schema` command: the documents of the contract, and the example of a configuration."""

import json

import click

from bridge.contract.documents import DOCUMENTS, example_configuration


@click.command()
@click.argument("document", type=click.Choice(list(DOCUMENTS)))
@click.option("--example", is_flag=True, help="With config: print an example, as YAML.")
def schema(document: str, example: bool) -> None:
    """Print a document of the contract, as JSON.

    status, rejected: the JSON Schemas of an event's data. envelope, rejected-envelope: those of a
    whole event, for registries and SQL engines. asyncapi: the topics, as AsyncAPI 3. config: the
    JSON Schema of the configuration file, for editors and for checks without the program; with
    --example a file to begin with, in which every setting is described.
    """
    if example and document != "config":
        raise click.UsageError("--example is for config: the others have none")
    if example:
        click.echo(example_configuration(), nl=False)
        return
    click.echo(json.dumps(DOCUMENTS[document](), indent=2, ensure_ascii=False))
