"""The `check` command: what a configuration amounts to, and whether Kafka agrees with it."""

from collections.abc import Iterator, Mapping

import click

from bridge.config.settings import Settings
from bridge.config.types import network_of
from bridge.kafka.admin import TopicDescription, creation_command


def summary(settings: Settings) -> Iterator[str]:
    """The endpoints and where their events go, one a line."""
    for endpoint in settings.endpoints:
        topic = settings.topic_of(endpoint)
        yield (
            f"endpoint {endpoint.name}: POST {endpoint.path} -> topic {topic}, "
            f"times in {endpoint.timezone}"
        )
    yield f"dead letters -> {_dead_letters(settings)}"


def _dead_letters(settings: Settings) -> str:
    topic = settings.kafka.dead_letter_topic
    return f"topic {topic}" if topic else "none: what is invalid is logged, never acknowledged"


def warnings(settings: Settings) -> Iterator[str]:
    """What is allowed, and should be on purpose."""
    for endpoint in settings.endpoints:
        if endpoint.auth is None:
            yield f"endpoint {endpoint.name}: auth is none: anyone who can reach it can post"
    security = settings.kafka.security
    if (
        security.protocol == "SASL_PLAINTEXT"
        and security.sasl
        and security.sasl.mechanism == "PLAIN"
    ):
        yield "kafka.security: the password goes over the network in the clear; use SASL_SSL"
    for network in settings.server.trusted_proxies:
        if not network_of(network).prefixlen:
            yield f"server.trusted_proxies: {network} believes every sender about its own address"


def wanted_topics(settings: Settings) -> tuple[str, ...]:
    """The topics that must exist: those of status events, and that of dead letters."""
    dead_letters = settings.kafka.dead_letter_topic
    return (*settings.topics, dead_letters) if dead_letters else settings.topics


def findings(settings: Settings, found: Mapping[str, TopicDescription]) -> Iterator[str]:
    """What the cluster says of each topic, with the command that makes a missing one."""
    for name in wanted_topics(settings):
        if name in found:
            topic = found[name].topic
            if topic.must_allow:
                denied = click.style("not authorized", fg="red")
                yield f"topic {name}: {denied}: allow {topic.must_allow} on it to the bridge's user"
            if topic.denied:
                continue
            layout = f"{_count(topic.partitions, 'partition')}, {_count(topic.replicas, 'replica')}"
            yield f"topic {name}: {click.style('exists', fg='green')}, {layout}"
            warning = click.style("warning", fg="yellow")
            for risk in found[name].at_risk:
                what = f"not durable: {risk}"
                yield f"topic {name}: {warning}: {what}"
            for what in found[name].warnings:
                yield f"topic {name}: {warning}: {what}"
    yield from missing(settings, found)


def not_durable(settings: Settings, found: Mapping[str, TopicDescription]) -> bool:
    """Whether `durability: require` would keep the gateway from being ready."""
    return settings.kafka.durability == "require" and any(
        found[name].at_risk for name in settings.topics if name in found
    )


def denied(found: Mapping[str, TopicDescription]) -> bool:
    """Whether a topic may not be written to, as far as the cluster tells."""
    return any(each.topic.must_allow for each in found.values())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def missing(settings: Settings, found: Mapping[str, object]) -> Iterator[str]:
    """The topics that the gateway needs and the cluster does not have; none if all is well."""
    for name in wanted_topics(settings):
        if name not in found:
            yield f"topic {name}: {click.style('missing', fg='red')}; to create it:"
            yield f"  {creation_command(settings.kafka, name)}"
