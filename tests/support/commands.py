"""The program's commands, as its pages name them."""

import click

from bridge.cli.main import main


def command(name: str, *subcommands: str) -> click.Command:
    """The command of that name, or what it has of the next name."""
    found: click.Command | None = main
    for each in (name, *subcommands):
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), each)
    assert found is not None, f"there is no command {' '.join((name, *subcommands))}"
    return found


def names(group: click.Command) -> set[str]:
    """The names of a group's commands."""
    assert isinstance(group, click.Group)
    return set(group.list_commands(click.Context(group)))


def options(of: click.Command) -> set[str]:
    """Every option that a command has."""
    return {option for parameter in of.params for option in parameter.opts} | {"--help"}
