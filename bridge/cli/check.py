"""The `check` command: what a configuration amounts to, and whether Kafka agrees with it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from bridge.cli.common import config_option, fail, load_settings, run_with_kafka
from bridge.config.settings import Settings
from bridge.config.warnings import warnings
from bridge.kafka.admin import TopicDescription, describe, missing_topic


@click.command()
@config_option
@click.option("--no-env", is_flag=True, help="Accept unset variables and absent files: for CI.")
@click.option("--connect", is_flag=True, help="Check the topics in Kafka, too.")
def check(config_file: Path, no_env: bool, connect: bool) -> None:
    """Check the configuration and, with --connect, Kafka."""
    if no_env and connect:
        raise click.UsageError("--connect needs the values that --no-env does without")
    settings = load_settings(config_file, placeholders=no_env)
    for warning in warnings(settings):
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    for line in summary(settings):
        click.echo(line)
    if connect:
        _check_kafka(settings)
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
