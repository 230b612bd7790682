"""The group of commands. It imports the module of a command that is called, and no other.

Only a list of all commands, as `--help` shows it, imports them all.
"""

import os
import sys
from importlib import import_module
from typing import Any

import click

from bridge import __version__
from bridge.interrupts import EXIT_INTERRUPTED

COMMANDS = (
    *("check", "convert", "dead-letters", "demo", "find", "reconcile", "schema", "serve"),
    *("simulate", "tail"),
)


class Commands(click.Group):
    """Finds each command in the module of its name: `dead-letters` in `dead_letters.py`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, in the order in which they are shown."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command; None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"bridge.cli.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is called; ends with 130 where that was interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sms-bridge")
@click.pass_context
def main(context: click.Context) -> None:
    """A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka."""
    if os.environ.get("NO_COLOR"):
        context.color = False
