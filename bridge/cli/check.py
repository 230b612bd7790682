"""The `check` command: what a configuration amounts to, and whether Kafka and provider agree."""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import click

from bridge.cli.common import config_option, fail, load_settings, now, run_with_kafka
from bridge.config.settings import Endpoint, Settings
from bridge.config.warnings import warnings
from bridge.errors import BridgeError
from bridge.kafka.admin import TopicDescription, describe, missing_topic
from bridge.provider.client import connected
from bridge.provider.clock import Comparison, compare, differing
from bridge.versions import VERSIONS, expat_warning

MINUTE = timedelta(minutes=1)
PROVIDER_SECONDS = 10.0  # for an answer, which somebody waits for
ASK = (
    "a clock alone cannot tell zones apart; ask the provider: in which time zone are the times of "
    "this account's statuses, and do its clocks change in summer?"
)


@click.command()
@config_option
@click.option("--no-env", is_flag=True, help="Accept unset variables and absent files: for CI.")
@click.option("--connect", is_flag=True, help="Check the topics in Kafka, too.")
@click.option("--provider", is_flag=True, help="Compare the account's clock with `timezone`, too.")
def check(config_file: Path, no_env: bool, connect: bool, provider: bool) -> None:
    """Check the configuration; with --connect Kafka, with --provider the provider's clock."""
    if no_env and (connect or provider):
        option = "--connect" if connect else "--provider"
        raise click.UsageError(f"{option} needs the values that --no-env does without")
    settings = load_settings(config_file, placeholders=no_env)
    for warning in (*warnings(settings), expat_warning()):
        if warning is not None:
            click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    click.echo("sms-bridge {version}, Python {python}, Expat {expat}".format_map(VERSIONS))
    for line in summary(settings):
        click.echo(line)
    if connect:
        _check_kafka(settings)
    if provider:
        _check_clocks(settings)
    click.echo(f"{config_file}: {click.style('ok', fg='green')}")


def _check_kafka(settings: Settings) -> None:
    """Print what Kafka says of the topics; ends the program if one cannot be used."""
    found = run_with_kafka(describe(settings.kafka, settings.wanted_topics))
    for line in findings(settings, found):
        click.echo(line)
    if len(found) < len(settings.wanted_topics):
        fail("a topic is missing")
    if any(each.topic.must_allow for each in found.values()):
        fail("a topic is not authorized")
    if settings.kafka.durability == "require" and any(
        found[name].at_risk for name in settings.topics if name in found
    ):
        fail("a topic is not durable enough, and durability is require")


def _check_clocks(settings: Settings) -> None:
    """Print what the accounts' clocks say; ends the program if one cannot be asked, or is off."""
    asked = [endpoint for endpoint in settings.endpoints if endpoint.provider is not None]
    if not asked:
        fail("no endpoint has a provider: set endpoints[].provider to ask its API")
    wrong = [what for endpoint in asked if (what := _clock_problem(endpoint))]
    if wrong:
        fail("\nsms-bridge: ".join(wrong))


def _clock_problem(endpoint: Endpoint) -> str:
    """Print what an account's clock says; what is wrong with it or with asking, or nothing."""
    try:
        compared = asyncio.run(_compared(endpoint))
    except BridgeError as exc:
        return f"endpoint {endpoint.name}: {exc}"
    for line in clock_findings(endpoint, compared, now()):
        click.echo(line)
    if compared.fits:
        return ""
    return f"endpoint {endpoint.name}: the account's clock does not fit {endpoint.timezone}"


async def _compared(endpoint: Endpoint) -> Comparison:
    if endpoint.provider is None:
        raise BridgeError("no provider")
    async with connected(endpoint.provider, PROVIDER_SECONDS) as client:
        text = await client.clock()
    return compare(text, endpoint.tzinfo, now())


# --- for people --------------------------------------------------------------------------


def summary(settings: Settings) -> Iterator[str]:
    """The endpoints and where their events go, one a line."""
    for endpoint in settings.endpoints:
        topic = settings.topic_of(endpoint)
        yield (
            f"endpoint {endpoint.name}: POST {endpoint.path} -> topic {topic}, "
            f"times in {endpoint.timezone}"
        )
    topic = settings.kafka.dead_letter_topic or ""
    none = "none: what is invalid is logged, never acknowledged"
    yield f"dead letters -> {f'topic {topic}' if topic else none}"


def findings(settings: Settings, found: Mapping[str, TopicDescription]) -> Iterator[str]:
    """What the cluster says of each topic, with the command that creates a missing one."""
    for name in settings.wanted_topics:
        if name in found:
            for what in _of_topic(found[name]):
                yield f"topic {name}: {what}"
    for name in settings.wanted_topics:
        if name not in found:
            yield click.style(missing_topic(settings.kafka, name), fg="red")


def _of_topic(found: TopicDescription) -> Iterator[str]:
    topic = found.topic
    if topic.must_allow:
        denied = click.style("not authorized", fg="red")
        yield f"{denied}: allow {topic.must_allow} on it to the bridge's user"
    if topic.denied:
        return
    layout = f"{_count(topic.partitions, 'partition')}, {_count(topic.replicas, 'replica')}"
    yield f"{click.style('exists', fg='green')}, {layout}"
    warning = click.style("warning", fg="yellow")
    for risk in found.at_risk:
        yield f"{warning}: not durable: {risk}"
    for what in found.warnings:
        yield f"{warning}: {what}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def clock_findings(endpoint: Endpoint, compared: Comparison, at: datetime) -> Iterator[str]:
    """What an account's clock says of the endpoint's time zone, and what it does not say."""
    of = f"endpoint {endpoint.name}: the account's clock"
    zones = [zone for zone in compared.zones if zone != endpoint.timezone]
    if compared.fits:
        fits = click.style("fits", fg="green")
        skew = f", {_seconds(compared.skew)} off" if abs(compared.skew) >= MINUTE else ""
        yield f"{of} {fits} {endpoint.timezone} now, {_utc(compared.offset)}{skew}"
        zones = differing(zones, endpoint.timezone, at)
        also = "so do the clocks of zones that differ from it in half a year"
    else:
        way = "ahead of" if compared.ahead > timedelta(0) else "behind"
        off = click.style(f"is {_hours(compared.ahead)} {way}", fg="red")
        yield f"{of} {off} {endpoint.timezone}: it is {_utc(compared.offset)}"
        also = "these zones have that offset now"
    if zones:
        yield f"  {also}: {', '.join(zones)}"
    if zones or not compared.fits:
        yield f"  {ASK}"


def _utc(offset: timedelta) -> str:
    sign = "-" if offset < timedelta(0) else "+"
    return f"UTC{sign}{_clock(abs(offset))}"


def _hours(ahead: timedelta) -> str:
    return f"{_clock(abs(ahead))} h"


def _clock(span: timedelta) -> str:
    minutes = round(span / MINUTE)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _seconds(span: timedelta) -> str:
    return f"{abs(span).total_seconds():.0f} s"
