"""The `dead-letters` commands: what the topic of dead letters holds, and the way back from it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.common import (
    EXIT_FAILED,
    config_option,
    fail,
    json_option,
    load_settings,
    now,
    run_with_kafka,
    since_option,
)
from bridge.clip import printable
from bridge.config.settings import Settings
from bridge.kafka.cloudevent import moment_of
from bridge.observability import logging as logs
from bridge.replay import Filter, Letter, Unreadable, Verdict, letters, replay


@click.group("dead-letters")
def dead_letters() -> None:
    """List what was rejected; replay it after a fix."""


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Which letters are meant: the same options for every command."""
    for option in (
        click.option(
            "--max",
            "limit",
            type=click.IntRange(min=1),
            metavar="N",
            help="Stop after N dead letters.",
        ),
        since_option,
        click.option(
            "--endpoint", "endpoints", multiple=True, help="Of this endpoint; repeatable."
        ),
        click.option("--reason", "reasons", multiple=True, help="With this reason; repeatable."),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@config_option
@_chosen
@json_option
def list_letters(config_file: Path, in_json: bool, **chosen: Any) -> None:
    """List the dead letters that the topic holds now."""
    wanted = _wanted(chosen)
    write = as_json if in_json else as_line
    run_with_kafka(_show(load_settings(config_file), wanted, write))


async def _show(
    settings: Settings, wanted: Filter, write: Callable[[Letter | Unreadable], str]
) -> None:
    async with letters(settings, wanted) as found:
        async for letter in found:
            click.echo(write(letter))


@dead_letters.command("replay")
@config_option
@_chosen
@click.option("--dry-run", is_flag=True, help="Process them, and publish nothing.")
def replay_letters(config_file: Path, dry_run: bool, **chosen: Any) -> None:
    """Process dead letters again, and publish what is valid now.

    For use after a fix of the program or of a topic. Each event has the id that it would have had
    at first. What is still invalid stays a dead letter, and no new one is published. The exit code
    is 1 if a dead letter could not be replayed.
    """
    wanted = _wanted(chosen)
    settings = load_settings(config_file)
    logs.configure("error", "console")
    replaying = replay(
        settings, wanted, lambda v: click.echo(as_verdict(v)), dry_run=dry_run, clock=now
    )
    tally = run_with_kafka(replaying)
    click.echo(f"{'dry run: ' * dry_run}{tally}")
    if tally.given_up:
        fail("Kafka accepted none of them: stopped early")
    if tally.left:
        sys.exit(EXIT_FAILED)


def _wanted(chosen: dict[str, Any]) -> Filter:
    reasons, endpoints = frozenset(chosen["reasons"]), frozenset(chosen["endpoints"])
    return Filter(reasons, endpoints, chosen["since"], chosen["limit"])


# --- for people and programs -----------------------------------------------------------------


def as_json(letter: Letter | Unreadable) -> str:
    """One line: the letter's place, time and identity, and all its data."""
    record = letter.record
    place: dict[str, Any] = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": moment_of(record),
    }
    if isinstance(letter, Unreadable):
        return orjson.dumps({**place, "error": letter.why}).decode()
    identity = {name: letter.event[name] for name in ("id", "source")}
    return orjson.dumps({**place, **identity, **letter.event["data"]}).decode()


def as_line(letter: Letter | Unreadable) -> str:
    """One line for people: time, endpoint, reason, id, detail, place."""
    record = letter.record
    if isinstance(letter, Unreadable):
        what = click.style(printable(letter.why), fg="magenta")
        return f"{moment_of(record)}  {what}  {record.partition}@{record.offset}"
    content = letter.content
    cells = [content.endpoint, content.reason, letter.id_sms or "-", content.detail]
    endpoint, reason, id_sms, detail = (printable(cell) for cell in cells)
    coloured = click.style(f"{reason:<16}", fg="red")
    line = [moment_of(record), f"{endpoint:<8}", coloured, f"{id_sms:<12}", detail, letter.where]
    return "  ".join(line)


def as_verdict(verdict: Verdict) -> str:
    """One line for people: place, endpoint, reason, id, and what became of it."""
    letter = verdict.letter
    word = click.style(verdict.word, fg="green" if verdict.fine else "red")
    what = f"{word}: {printable(verdict.why)}" if verdict.why else word
    if isinstance(letter, Unreadable):
        return f"{letter.record.partition}@{letter.record.offset}  {what}"
    content = letter.content
    cells = [letter.where, content.endpoint, content.reason, letter.id_sms or "-"]
    return "  ".join([*map(printable, cells), what])
