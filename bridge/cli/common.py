"""What the commands share: exit codes, the configuration, how a command runs and fails."""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from bridge.config.loader import load
from bridge.config.settings import Settings, route_of
from bridge.errors import BridgeError, ConfigError
from bridge.interrupts import interruptible
from bridge.model import Route

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h
DEFAULT_CONFIG = Path("config/bridge.yaml")
NO_CONFIG = (
    "sms-bridge: name the configuration file with --config or $SMS_BRIDGE_CONFIG; "
    "`sms-bridge schema config --example` prints one to begin with"
)

_AGO = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

T = TypeVar("T")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="SMS_BRIDGE_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Configuration file; $SMS_BRIDGE_CONFIG changes the default.",
)
json_option = click.option("--json", "in_json", is_flag=True, help="Write one JSON object a line.")


def load_settings(config_file: Path, *, placeholders: bool = False) -> Settings:
    """Read the configuration; ends the program with every problem in it."""
    return loaded(config_file, partial(load, config_file, os.environ, placeholders=placeholders))


def loaded(config_file: Path, read: Callable[[], Settings]) -> Settings:
    """What `read` makes of the configuration; ends the program as `load_settings` does."""
    try:
        return read()
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        if not config_file.exists():
            click.echo(NO_CONFIG, err=True)
        sys.exit(EXIT_CONFIG)


def named_route(settings: Settings, endpoint: str | None) -> Route:
    """Find the route of the named endpoint; without a name, that of the first."""
    for each in settings.endpoints:
        if endpoint in (None, each.name):
            return route_of(settings, each)
    known = ", ".join(each.name for each in settings.endpoints)
    raise click.BadParameter(f"{endpoint!r} is none of {known}", param_hint="--endpoint")


def now() -> datetime:
    """The time in UTC, which commands tell, and measure nothing with."""
    return datetime.now(UTC)


def moment(text: str, at: datetime) -> datetime:
    """A time in ISO 8601 (in UTC unless it says otherwise), or how long ago: 90s, 30m, 12h, 7d.

    Raises ValueError.
    """
    try:
        if ago := _AGO.fullmatch(text):
            return at - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-11-23T09:15 or 12h") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def moment_option(option: str, text: str | None) -> datetime | None:
    """What an option says, as `moment` reads it; click's usage error if it is none."""
    try:
        return moment(text, now()) if text else None
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=option) from exc


since_option = click.option(
    "--since",
    callback=lambda _context, _option, text: moment_option("--since", text),
    help="Since a time (2026-11-23T09:15, UTC), or the last 12h, 7d.",
)


def run_with_kafka(work: Coroutine[Any, Any, T]) -> T:
    """Run what talks to Kafka; ends the program with one line if that fails."""
    # The client's own lines are silenced: the one line says what is wrong.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        with interruptible():
            return asyncio.run(work)
    except BridgeError as exc:
        fail(str(exc))


def fail(message: str) -> NoReturn:
    """End the program with one line that says why."""
    for handler in logging.getLogger().handlers:
        handler.flush()  # what the log says of it comes before
    click.echo(f"sms-bridge: {message}", err=True)
    sys.exit(EXIT_FAILED)
