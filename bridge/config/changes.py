"""Which settings a running gateway takes up, and which need a restart; what differs between two.

It names keys and never values: any of them may be a secret.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from bridge.config.settings import Section, Settings

RELOADED: Final = frozenset(
    {
        "server.max_body_bytes",
        "server.max_states",
        "server.max_in_flight",
        "server.max_in_flight_bytes",
        "server.max_in_flight_states",
        "server.body_timeout_seconds",
        "server.keep_alive_seconds",
        "server.drain_delay_seconds",
        "server.shutdown_grace_seconds",
        "server.trusted_proxies",
        "kafka.duplicates.remember",
        "kafka.duplicates.seconds",
        "kafka.security.sasl.username",
        "kafka.security.sasl.password",
        "kafka.security.sasl.client_id",
        "kafka.security.sasl.client_secret",
        "kafka.security.tls.key_password",
        "endpoints[].name",  # one with another name is another endpoint
        "endpoints[].path",
        "endpoints[].timezone",
        "endpoints[].auth.tokens",
        "endpoints[].auth.basic",
        "endpoints[].auth.allow",
        "endpoints[].provider.url",
        "endpoints[].provider.format",
        "endpoints[].provider.token",
        "endpoints[].provider.login",
        "endpoints[].provider.password",
        "events.statuses",
        "log.level",
        "log.format",
    }
)
"""What is taken up while the gateway runs."""

RESTART: Final = frozenset(
    {
        "server.host",
        "server.processes",
        "server.port",
        "admin.host",
        "admin.port",
        "inspector.host",
        "inspector.port",
        "kafka.bootstrap_servers",
        "kafka.topic",
        "kafka.dead_letter_topic",
        "kafka.publish_timeout_seconds",
        "kafka.durability",
        "kafka.client_id",
        "kafka.compression",
        "kafka.create_topics.enabled",
        "kafka.create_topics.partitions",
        "kafka.create_topics.replication_factor",
        "kafka.create_topics.config",
        "kafka.security.protocol",
        "kafka.security.sasl.mechanism",
        "kafka.security.sasl.token_url",
        "kafka.security.sasl.scope",
        "kafka.security.sasl.token_ca_file",
        "kafka.security.tls.ca_file",
        "kafka.security.tls.cert_file",
        "kafka.security.tls.key_file",
        "endpoints[].source",
        "endpoints[].topic",
        "events.type_prefix",
        "events.content_mode",
    }
)
"""What a running gateway keeps: its listeners, its way to Kafka, and what subscribers rest on."""

_ENDPOINTS: Final = "endpoints"


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs, as keys such as `endpoints[main].auth.tokens`; endpoints go by their names.

    `refused` are those of `changed` that need a restart.
    """

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.removed)


def changes(old: Settings, new: Settings) -> Changes:
    """What differs between two configurations."""
    keys = list(_between(old, new, "", ""))
    before, after = ({each.name: each for each in one.endpoints} for one in (old, new))
    for name in (name for name in after if name in before):
        shown = f"{_ENDPOINTS}[{name}]."
        keys += _between(before[name], after[name], f"{_ENDPOINTS}[].", shown)
    return Changes(
        changed=tuple(shown for _, shown in keys),
        added=tuple(f"{_ENDPOINTS}[{name}]" for name in after if name not in before),
        removed=tuple(f"{_ENDPOINTS}[{name}]" for name in before if name not in after),
        refused=tuple(shown for key, shown in keys if _needs_restart(key)),
    )


def _between(old: Section, new: Section, key: str, shown: str) -> Iterator[tuple[str, str]]:
    """Each setting that differs, as a key of the tables above and as people read it."""
    for name in type(old).model_fields:
        one, other = getattr(old, name), getattr(new, name)
        if isinstance(one, Section) and isinstance(other, Section):
            yield from _between(one, other, f"{key}{name}.", f"{shown}{name}.")
        elif name != _ENDPOINTS and _given(one) != _given(other):
            yield f"{key}{name}", f"{shown}{name}"


def _given(value: object) -> object:
    """A value as it was written: of a status word, null is not the same as nothing."""
    if isinstance(value, Mapping):
        return {name: _given(each) for name, each in value.items()}
    return value.model_dump(exclude_unset=True) if isinstance(value, Section) else value


def _needs_restart(key: str) -> bool:
    """Of a section that appears or goes, any of its settings."""
    return any(each == key or each.startswith(f"{key}.") for each in RESTART)
