"""The commands. The only place that wires parts together, and that reads the environment.

Each command imports what it needs when it runs: `serve` must not pay for the others.
"""

import errno
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import click

from bridge import __version__
from bridge.errors import BridgeError, ConfigError

if TYPE_CHECKING:
    from bridge.config.settings import Settings
    from bridge.dead_letters import Filter
    from bridge.event import Stream
    from bridge.simulate import Plan

EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h
EXIT_INTERRUPTED = 130  # as shells say of SIGINT
DEFAULT_CONFIG = Path("config/bridge.yaml")

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="SMS_BRIDGE_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file; $SMS_BRIDGE_CONFIG names another default.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sms-bridge")
@click.pass_context
def main(context: click.Context) -> None:
    """A gateway from an SMS provider's delivery status webhook to CloudEvents on Kafka."""
    if os.environ.get("NO_COLOR"):
        context.color = False


@main.command()
@config_option
def serve(config_file: Path) -> None:
    """Run the gateway."""
    gc.disable()  # until it serves: what is imported now is there to stay
    import logging

    import structlog
    import uvloop

    from bridge.gateway.server import serve
    from bridge.observability import logging as logs
    from bridge.observability.tracing import start as start_tracing

    settings = _settings(config_file)
    logs.configure(settings.log.level, settings.log.format)
    for endpoint in settings.endpoints:
        if endpoint.auth is None:
            structlog.get_logger(__name__).warning(
                "auth is none: anyone who can reach the endpoint can post", endpoint=endpoint.name
            )
    try:
        try:
            uvloop.run(serve(settings, start_tracing(os.environ)))
        finally:
            logging.shutdown()  # the last lines go out before what is said of how it ended
    except OSError as exc:
        _fail(_too_few_files() if exc.errno == errno.EMFILE else str(exc))


def _too_few_files() -> str:
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return f"only {allowed} open files are allowed, too few: raise ulimit -n, or LimitNOFILE"


@main.command()
@click.option(
    "--messages",
    type=click.IntRange(1, 1_000_000),
    default=3000,
    show_default=True,
    help="States posted while the gateway is killed.",
)
@click.option("--keep", is_flag=True, help="Leave all running afterwards, until Ctrl-C.")
def demo(messages: int, keep: bool) -> None:
    """See the whole story on this machine.

    Broker (in memory), gateway and provider are processes of their own on loopback ports.
    """
    from bridge.demo.story import demo

    try:
        whole = demo(messages, keep=keep, program=_program())
    except BridgeError as exc:
        _fail(str(exc))
    if not whole:
        sys.exit(EXIT_FAILED)


@main.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="SMS_BRIDGE_CONFIG",
    help=f"The configuration file; by default $SMS_BRIDGE_CONFIG, {DEFAULT_CONFIG} if it is "
    "there, or else an example.",
)
@click.option("--endpoint", help="The endpoint it was posted to.  [default: the first]")
def convert(file: BinaryIO, config_file: Path | None, endpoint: str | None) -> None:
    """Show what a body becomes; nothing is sent.

    FILE is the body, or - for standard input.
    """
    from datetime import UTC, datetime

    from bridge.cli.convert import convert, example_settings, lines

    if config_file is None and DEFAULT_CONFIG.exists():
        config_file = DEFAULT_CONFIG
    if config_file is None:
        click.echo("no configuration: taking an example", err=True)
    settings = example_settings() if config_file is None else _settings(config_file)
    stream = _stream(settings, endpoint)
    conversion = convert(file.read(), stream, settings.server, datetime.now(UTC))
    for line in lines(conversion):
        click.echo(line)
    if conversion.error is not None:
        line = f":{conversion.error.line}" if conversion.error.line else ""
        click.echo(f"{file.name}{line}: {conversion.error.reason}: {conversion.error}", err=True)
        sys.exit(EXIT_FAILED)


@main.command()
@config_option
@click.option("--no-env", is_flag=True, help="Take what is not set for valid: for CI.")
@click.option("--connect", is_flag=True, help="Ask Kafka for the topics, too.")
def check(config_file: Path, no_env: bool, connect: bool) -> None:
    """Check the configuration, and Kafka."""
    from bridge.cli.check import summary, warnings

    if no_env and connect:
        raise click.UsageError("--connect needs the values that --no-env does without")
    settings = _settings(config_file, placeholders=no_env)
    for line in warnings(settings):
        click.echo(f"{click.style('warning', fg='yellow')}: {line}", err=True)
    for line in summary(settings):
        click.echo(line)
    if connect:
        _check_kafka(settings)
    click.echo(f"{config_file}: {click.style('ok', fg='green')}")


def _check_kafka(settings: "Settings") -> None:
    """Print what Kafka says of the topics; ends the program where one cannot be used."""
    import asyncio

    from bridge.cli.check import denied, findings, not_durable, wanted_topics
    from bridge.kafka.admin import describe

    _hush_kafka()
    try:
        found = asyncio.run(describe(settings.kafka, wanted_topics(settings)))
    except BridgeError as exc:
        _fail(str(exc))
    for line in findings(settings, found):
        click.echo(line)
    if len(found) < len(wanted_topics(settings)):
        _fail("a topic is missing")
    if denied(found):
        _fail("not authorized for a topic")
    if not_durable(settings, found):
        _fail("a topic is not durable enough, and durability is require")


@main.command()
@click.option("--url", required=True, help="Where to post; user:password@ is basic authentication.")
@click.option("--messages", type=int, required=True, help="States to deliver.")
@click.option("--per-post", type=int, default=50, show_default=True, help="States in a document.")
@click.option("--rate", type=float, help="New states a second.  [default: as fast as it goes]")
@click.option("--concurrency", type=int, default=4, show_default=True, help="Posts at once.")
@click.option("--attempts", type=int, default=5, show_default=True, help="Tries for each state.")
@click.option(
    "--retry-seconds", type=float, default=1.0, show_default=True, help="Wait before a retry."
)
@click.option(
    "--timeout-seconds", type=float, default=5.0, show_default=True, help="Wait for an answer."
)
@click.option("--seed", type=int, help="Makes the states repeatable.  [default: drawn]")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for all figures and ids, as JSON.",
)
def simulate(report: Path | None, **options: Any) -> None:
    """Play the provider against a gateway.

    Posts states, and sends again what the answer does not list, as the provider does.
    """
    from bridge.cli.simulate import run
    from bridge.simulate import write_report

    result = run(_plan(options))
    if result is None:
        sys.exit(EXIT_INTERRUPTED)
    try:
        if report is not None:
            write_report(result, report)
    except OSError as exc:
        _fail(f"cannot write {report}: {exc.strerror}")
    if not result.ok:
        sys.exit(EXIT_FAILED)


def _plan(options: dict[str, Any]) -> "Plan":
    from bridge.simulate import Plan

    try:
        return Plan(**options)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


@main.command()
@config_option
@click.option("--from-beginning", is_flag=True, help="Begin with what the topics hold already.")
@click.option("--max", "limit", type=click.IntRange(min=1), help="End after so many events.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object a line.")
def tail(config_file: Path, from_beginning: bool, limit: int | None, in_json: bool) -> None:
    """Follow the events as subscribers do.

    Dead letters included; Ctrl-C ends it.
    """
    import asyncio

    from bridge.cli.tail import as_json, as_line, tail

    settings = _settings(config_file)
    _hush_kafka()
    write = as_json if in_json else as_line
    following = tail(
        settings,
        lambda seen: click.echo(write(seen)),
        from_beginning=from_beginning,
        limit=limit,
        on_start=lambda topics: click.echo(f"following {', '.join(topics)}", err=True),
    )
    try:
        asyncio.run(following)
    except BridgeError as exc:
        _fail(str(exc))
    except KeyboardInterrupt:
        pass  # how a person ends it


@main.group("dead-letters")
def dead_letters() -> None:
    """See what could not become a status, and bring it back after a fix."""


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Which letters are meant: the same options for every command."""
    for option in (
        click.option("--max", "limit", type=click.IntRange(min=1), help="End after so many."),
        click.option("--since", help="Not older than a time (2026-11-23T09:15, UTC) or 12h, 7d."),
        click.option(
            "--endpoint", "endpoints", multiple=True, help="Of this endpoint; repeatable."
        ),
        click.option("--reason", "reasons", multiple=True, help="Of this reason; repeatable."),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@config_option
@_chosen
@click.option("--json", "in_json", is_flag=True, help="One JSON object a line.")
def list_letters(config_file: Path, in_json: bool, **chosen: Any) -> None:
    """Show what the topic holds, to its end as it stands."""
    import asyncio

    from bridge.dead_letters import Filter, as_json, as_line, letters

    write = as_json if in_json else as_line

    async def show(settings: "Settings", wanted: Filter) -> None:
        async with letters(settings, wanted) as found:
            async for letter in found:
                click.echo(write(letter))

    wanted = _wanted(chosen)
    settings = _settings(config_file)
    _hush_kafka()
    try:
        asyncio.run(show(settings, wanted))
    except BridgeError as exc:
        _fail(str(exc))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


@dead_letters.command("replay")
@config_option
@_chosen
@click.option("--dry-run", is_flag=True, help="Read them anew, and publish nothing.")
def replay_letters(config_file: Path, dry_run: bool, **chosen: Any) -> None:
    """Take what was refused through the gateway's stages once more.

    After a fix, of the program or of a topic. What is valid now is published, each event with
    the id that it would have had; what is not stays in its letter, and no new one is made. Ends 1
    where a letter could not be replayed.
    """
    import asyncio

    from bridge.dead_letters import as_verdict, replay
    from bridge.observability import logging as logs

    wanted = _wanted(chosen)
    settings = _settings(config_file)
    logs.configure("error", "console")
    _hush_kafka()
    replaying = replay(settings, wanted, lambda v: click.echo(as_verdict(v)), dry_run=dry_run)
    try:
        tally = asyncio.run(replaying)
    except BridgeError as exc:
        _fail(str(exc))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    click.echo(f"{'dry run: ' * dry_run}{tally}")
    if tally.given_up:
        _fail("Kafka takes none of them: given up")
    if tally.left:
        sys.exit(EXIT_FAILED)


def _wanted(chosen: dict[str, Any]) -> "Filter":
    from datetime import UTC, datetime

    from bridge.dead_letters import Filter, moment

    try:
        since = moment(chosen["since"], datetime.now(UTC)) if chosen["since"] else None
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--since") from exc
    reasons, endpoints = frozenset(chosen["reasons"]), frozenset(chosen["endpoints"])
    return Filter(reasons, endpoints, since, chosen["limit"])


@main.command()
@click.argument(
    "document",
    type=click.Choice(
        ["status", "rejected", "envelope", "rejected-envelope", "asyncapi", "config"]
    ),
)
def schema(document: str) -> None:
    """Write a document of the contract, as JSON.

    status, rejected: the JSON Schemas of an event's data. envelope, rejected-envelope: those of a
    whole event, for registries and SQL engines. asyncapi: the topics, as AsyncAPI 3. config: the
    JSON Schema of the configuration file, for editors and for checks without the program.
    """
    import json

    from bridge.contract.documents import DOCUMENTS

    click.echo(json.dumps(DOCUMENTS[document](), indent=2, ensure_ascii=False))


def _settings(config_file: Path, *, placeholders: bool = False) -> "Settings":
    from bridge.config.loader import load

    try:
        return load(config_file, os.environ, placeholders=placeholders)
    except ConfigError as exc:
        click.echo(str(exc), err=True)
        sys.exit(EXIT_CONFIG)


def _stream(settings: "Settings", name: str | None) -> "Stream":
    """Where the events of the named endpoint go; the first without a name."""
    from bridge.gateway.app import stream_of

    for endpoint in settings.endpoints:
        if name in (None, endpoint.name):
            return stream_of(settings, endpoint)
    known = ", ".join(endpoint.name for endpoint in settings.endpoints)
    raise click.BadParameter(f"{name!r} is none of {known}", param_hint="--endpoint")


def _program() -> str:
    """How this program was called, for the commands that it suggests."""
    called = Path(sys.argv[0])
    return f"{sys.executable} -m bridge" if called.name == "__main__.py" else str(called)


def _hush_kafka() -> None:
    """Silence the client's own lines: a command says in one line of its own what is wrong."""
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _fail(message: str) -> NoReturn:
    import logging

    for handler in logging.getLogger().handlers:
        handler.flush()  # what the log says of it comes before
    click.echo(f"sms-bridge: {message}", err=True)
    sys.exit(EXIT_FAILED)
