"""The commands. The only place that wires parts together, and that reads the environment.

Each command imports what it needs when it runs: `serve` must not pay for the others.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge import __version__
from bridge.errors import ConfigError

if TYPE_CHECKING:
    from bridge.settings import Settings

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="SMS_BRIDGE_CONFIG",
    default=Path("config/bridge.yaml"),
    show_default=True,
    help="The configuration file; $SMS_BRIDGE_CONFIG names another default.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sms-bridge")
def main() -> None:
    """A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka."""


@main.command()
@config_option
def serve(config_file: Path) -> None:
    """Run the gateway."""
    import uvloop

    from bridge import logs
    from bridge.server import serve

    settings = _settings(config_file)
    logs.configure(settings.log.level, settings.log.format)
    try:
        uvloop.run(serve(settings))
    except OSError as exc:
        _fail(str(exc))


def _settings(config_file: Path) -> "Settings":
    from bridge.config import load

    try:
        return load(config_file, os.environ)
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_CONFIG)


def _fail(message: str) -> None:
    click.echo(f"sms-bridge: {message}", err=True)
    sys.exit(EXIT_FAILED)
