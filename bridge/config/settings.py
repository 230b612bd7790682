"""The settings as types: names, defaults, limits, descriptions, and what must agree.

It must not read files or the environment, and knows nothing of YAML: see config.py.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from bridge.gateway.client_address import network_of

Place = tuple[str | int, ...]
"""Where a setting stands: ("endpoints", 0, "path")."""

UNCHECKED: Final = {"conflicts": "unchecked"}
"""The validation context under which Settings leaves `conflicts` to its caller."""

_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class _Rule:
    """Text that a regular expression describes, and what to tell a person otherwise."""

    pattern: str
    what: str

    def check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise ValueError(self.what)
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}


def _network(value: str) -> str:
    try:
        network_of(value)
    except ValueError:
        what = "must be an address or a network, with no bits set beyond its prefix"
        raise ValueError(what) from None
    return value


def _not_bool(value: object) -> object:
    # Python's True is the number 1, and YAML's `port: yes` is a mistake.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004 - pydantic's way
    return value


def _split(value: object) -> object:
    return [server.strip() for server in value.split(",")] if isinstance(value, str) else value


def _server_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    named = re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host)
    if not named or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:  # noqa: PLR2004
        raise ValueError("must be host:port, with a port from 1 to 65535")
    return value


def _not_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not min_length, which counts only the valid items and so would blame the list for them.
    if not value:
        raise ValueError("must have at least one item")
    return value


def _secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise ValueError("must not be empty")
    if text != text.strip() or not text.isprintable():
        raise ValueError("must not hold line breaks, nor white space at either end")
    return value


def _time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be a time zone's IANA name, such as Europe/Kyiv or UTC") from None
    return value


def _no_dot_segments(value: str) -> str:
    # HTTP clients resolve these before they send, so the route would never match.
    if {".", ".."} & set(value.split("/")):
        raise ValueError("must not hold the segments . and ..")
    return value


def _no_trailing_slash(value: str) -> str:
    return value.rstrip("/") or "/"


Whole = Annotated[int, BeforeValidator(_not_bool)]
Seconds = Annotated[float, BeforeValidator(_not_bool)]
Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(_not_bool)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]
Host = Annotated[str, _Rule(r"^[A-Za-z0-9._:%-]{1,255}$", "must be a host name or an IP address")]
TopicName = Annotated[
    str,
    _Rule(
        r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$",
        'must be 1 to 249 letters, digits, ".", "_" or "-", and not "." or ".."',
    ),
]
FileName = Annotated[str, _Rule(r"^[^\x00-\x1f\x7f]+$", "must be the path of a file")]
NetworkText = Annotated[
    str,
    _Rule(
        r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$",
        "must be an address or a network, such as 203.0.113.0/24 or 2001:db8::1",
    ),
    AfterValidator(_network),
]
ServerAddress = Annotated[str, AfterValidator(_server_address)]


class Section(BaseModel):
    """One mapping of the file: frozen, without unknown keys, silent about what it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, data: object) -> object:
        # A section whose every key is commented out is null in YAML.
        return {} if data is None else data


class Server(Section):
    """The public listener, to which the provider posts."""

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - a container's service is reached from outside it
        description="Address to listen on; :: stands for all of IPv6 and IPv4.",
    )
    port: Port = Field(default=8080, description="TCP port; 0 takes any free one.")
    max_body_bytes: Whole = Field(
        default=4_194_304,
        ge=1,
        le=1_073_741_824,
        description="Largest body of one request, in bytes; beyond it the answer is 413.",
    )
    max_states: Whole = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="States processed of one document; the others are not acknowledged.",
    )
    max_in_flight: Whole = Field(
        default=256,
        ge=1,
        le=100_000,
        description="POSTs served at once; beyond it the answer is 503.",
    )
    max_in_flight_bytes: Whole = Field(
        default=33_554_432,
        ge=1,
        le=17_179_869_184,
        description="Bytes of the bodies of all POSTs in flight; beyond it the answer is 503. "
        "Bodies of which more is to come may hold three quarters, large documents as much.",
    )
    max_in_flight_states: Whole = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="States of all POSTs in flight; beyond it the answer is 503. Each stands for "
        "4 KiB of memory at most: states with many attributes or long values count as several.",
    )
    body_timeout_seconds: Seconds = Field(
        default=10,
        gt=0,
        le=3600,
        description="Seconds within which a body must have come; after them the answer is 408.",
    )
    keep_alive_seconds: Whole = Field(
        default=75,
        ge=1,
        le=3600,
        description="Seconds an idle connection stays open: longer than the proxy before it "
        "keeps its own.",
    )
    drain_delay_seconds: Seconds = Field(
        default=0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which POSTs are still served, not ready, while "
        "load balancers take notice.",
    )
    shutdown_grace_seconds: Seconds = Field(
        default=15,
        gt=0,
        le=3600,
        description="Seconds that requests in flight and the producer have to finish, once the "
        "drain delay is over.",
    )
    trusted_proxies: tuple[NetworkText, ...] = Field(
        default=(),
        description="Addresses and networks of the proxies whose X-Forwarded-For is believed.",
        examples=[["10.0.0.0/8"]],
    )


class Admin(Section):
    """The private listener: /livez, /readyz and /metrics."""

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - probes and scrapes come from outside the container
        description="Address to listen on; :: stands for all of IPv6 and IPv4.",
    )
    port: Port = Field(default=8081, description="TCP port; 0 takes any free one.")


class Inspector(Section):
    """The page that shows recent documents, on a listener of its own; it asks for no password."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on: whoever reaches it sees what the provider posts.",
    )
    port: Port = Field(default=8082, description="TCP port; 0 takes any free one.")


class CreateTopics(Section):
    """Whether missing topics are created at start, and how."""

    enabled: bool = Field(default=False, description="Create missing topics at start.")
    partitions: Whole = Field(
        default=6, ge=1, le=100_000, description="Partitions of a created topic."
    )
    replication_factor: Whole = Field(
        default=3, ge=1, le=32_767, description="Replicas of each partition of a created topic."
    )
    config: Mapping[str, str] = Field(
        default={"min.insync.replicas": "2"},
        description="Topic configuration of a created topic; Kafka takes every value as text.",
        examples=[{"min.insync.replicas": "2", "retention.ms": "604800000"}],
    )


class Duplicates(Section):
    """The memory of recent events, which a provider's retry need not write again."""

    remember: Whole = Field(
        default=100_000,
        ge=0,
        le=10_000_000,
        description="Events remembered, some 200 bytes each; 0 turns it off.",
    )
    seconds: Seconds = Field(
        default=600, gt=0, le=86_400, description="Longest time that an event is remembered."
    )


class Sasl(Section):
    """Who the bridge is to Kafka, by name and password."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        description="How the password is proved; PLAIN sends it, which only TLS hides.",
        examples=["SCRAM-SHA-512"],
    )
    username: Annotated[
        str, _Rule(r"^[^\x00-\x1f\x7f]{1,256}$", "must be 1 to 256 characters, on one line")
    ] = Field(description="User name.", examples=["sms-bridge"])
    password: Secret = Field(description="Password.", examples=["${KAFKA_PASSWORD}"])


class Tls(Section):
    """The PEM files of TLS; they are read again when they change."""

    ca_file: FileName | None = Field(
        default=None,
        description="CAs by whose certificates brokers are trusted; the system's where absent.",
        examples=["/run/secrets/kafka-ca/ca.crt"],
    )
    cert_file: FileName | None = Field(
        default=None,
        description="Certificate that the bridge shows the brokers, and its chain; with key_file.",
        examples=["/run/secrets/kafka-user/user.crt"],
    )
    key_file: FileName | None = Field(
        default=None,
        description="Private key of cert_file.",
        examples=["/run/secrets/kafka-user/user.key"],
    )
    key_password: Secret | None = Field(
        default=None,
        description="Password of key_file, where that is encrypted.",
        examples=["${KAFKA_KEY_PASSWORD}"],
    )


class Security(Section):
    """How the bridge and the brokers know each other."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="What the brokers' listener speaks: SSL stands for TLS, SASL for a login.",
    )
    sasl: Sasl | None = Field(
        default=None, description="Login; with SASL_PLAINTEXT and SASL_SSL, and only with these."
    )
    tls: Tls | None = Field(default=None, description="Files of TLS; only with SSL and SASL_SSL.")

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def logs_in(self) -> bool:
        """Whether connections begin with a login."""
        return self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}


class Kafka(Section):
    """Where events go."""

    bootstrap_servers: Annotated[
        tuple[ServerAddress, ...],
        BeforeValidator(_split, json_schema_input_type=str | list[str]),
        AfterValidator(_not_empty),
    ] = Field(
        default=("kafka:9092",),
        json_schema_extra={"minItems": 1},
        description="Brokers to ask first, each host:port: a list, or one text with commas.",
    )
    topic: TopicName = Field(
        default="sms.status",
        description="Topic of the status events of every endpoint without its own.",
    )
    dead_letter_topic: TopicName | None = Field(
        default="sms.status.rejected",
        description="Topic of what cannot become a status event; with null it is logged and "
        "never acknowledged.",
    )
    publish_timeout_seconds: Seconds = Field(
        default=4,
        gt=0,
        le=300,
        description="Seconds for a whole request, from the last byte of its body to the answer: "
        "many senders give up after 5.",
    )
    durability: Literal["warn", "require"] = Field(
        default="warn",
        description="What to do about a status topic with fewer than 3 replicas or "
        "min.insync.replicas below 2: say what is at risk, or not be ready.",
    )
    client_id: Annotated[
        str,
        _Rule(r"^[A-Za-z0-9._-]{1,249}$", 'must be 1 to 249 letters, digits, ".", "_" or "-"'),
    ] = Field(default="sms-bridge", description="How the broker's logs and quotas name the bridge.")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Compression of the records on the wire and in the topic."
    )
    duplicates: Duplicates = Field(
        default_factory=Duplicates, description="Memory of recent events."
    )
    create_topics: CreateTopics = Field(
        default_factory=CreateTopics, description="Creation of missing topics."
    )
    security: Security = Field(
        default_factory=Security, description="How the bridge and the brokers know each other."
    )


class Basic(Section):
    """One user of HTTP basic authentication."""

    # A colon ends the user name on the wire (RFC 7617, 2).
    username: Annotated[
        str, _Rule(r"^[^:\x00-\x1f\x7f]{1,256}$", "must be 1 to 256 characters without a colon")
    ] = Field(description="User name; it holds no colon.", examples=["provider"])
    password: Secret = Field(description="Password.", examples=["${WEBHOOK_PASSWORD}"])


class Auth(Section):
    """Who may post: from one of the networks, and with one token or user, where there are any."""

    tokens: tuple[Secret, ...] = Field(
        default=(),
        description="Secrets that come as ?token= or as a bearer token.",
        examples=[["${WEBHOOK_TOKEN}"]],
    )
    basic: tuple[Basic, ...] = Field(
        default=(),
        description="Users that come as user:password@ in the URL.",
        examples=[[{"username": "provider", "password": "${WEBHOOK_PASSWORD}"}]],
    )

    allow: Annotated[tuple[NetworkText, ...], AfterValidator(_not_empty)] = Field(
        default=(),
        json_schema_extra={"minItems": 1},
        description="Addresses and networks that may post; from all others the answer is 403. "
        "Every address may where it is left out.",
        examples=[["203.0.113.0/24"]],
    )

    @model_validator(mode="after")
    def _some_restriction(self) -> Self:
        if not self.tokens and not self.basic and not self.allow:
            what = "needs at least one of tokens, basic and allow; an open endpoint says none"
            raise ValueError(what)
        return self


class Endpoint(Section):
    """One path to which one account of the provider posts."""

    name: Annotated[
        str,
        _Rule(
            r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            'must be 1 to 64 letters, digits, ".", "_" or "-", the first a letter or digit',
        ),
    ] = Field(description="Name in logs, metrics and dead letters.", examples=["main"])
    path: Annotated[
        str,
        _Rule(
            r"^/$|^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?$",
            "must begin with / and hold no query, fragment, space, brace or percent sign",
        ),
        AfterValidator(_no_dot_segments),
        AfterValidator(_no_trailing_slash),
    ] = Field(
        description="Path of the URL that is given to the provider; a trailing slash is the "
        "same path.",
        examples=["/webhook"],
    )
    source: Annotated[
        str,
        _Rule(
            r"^(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,256}$",
            "must be a URI of 1 to 256 characters, without spaces",
        ),
    ] = Field(
        description="CloudEvents source: which account of the provider, in which environment. "
        "Part of every event id, never to change.",
        examples=["urn:example:sms:main"],
    )
    timezone: Annotated[str, AfterValidator(_time_zone)] = Field(
        description="IANA name of the zone of the provider's local times; ask the provider.",
        examples=["UTC"],
    )
    auth: Auth | None = Field(
        description="The word none, or who may post: credentials of which one must match, "
        "addresses, or both.",
        examples=["none"],
    )
    topic: TopicName | None = Field(
        default=None,
        description="Topic of this endpoint's status events; kafka.topic where absent.",
        examples=["sms.status.brand"],
    )

    @field_validator("auth", mode="before")
    @classmethod
    def _open_only_on_purpose(cls, value: object) -> object:
        # A key left empty, or a template without a value, must not open the endpoint.
        if value is None or (isinstance(value, str) and value != "none"):
            raise ValueError("must be none, or a mapping with tokens, basic or allow")
        return None if value == "none" else value

    @property
    def tzinfo(self) -> ZoneInfo:
        """The time zone itself; zoneinfo keeps one object a zone."""
        return ZoneInfo(self.timezone)


class Events(Section):
    """How a status is written as a CloudEvent."""

    type_prefix: Annotated[
        str,
        _Rule(
            r"^(?=.{1,128}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$",
            "must be a reverse DNS name in lower case, such as com.example.messaging",
        ),
    ] = Field(
        description="Reverse DNS name of who defines the events; their types begin with it.",
        examples=["com.example.messaging"],
    )
    content_mode: Literal["structured", "binary"] = Field(
        default="structured",
        description="CloudEvents content mode: the whole event as JSON, or its attributes as "
        "ce_ headers.",
    )


class Log(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity that is logged."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or lines for people."
    )


class Settings(Section):
    """Everything that the configuration file says."""

    server: Server = Field(default_factory=Server, description="The public listener.")
    admin: Admin = Field(default_factory=Admin, description="The private listener.")
    inspector: Inspector | None = Field(
        default=None, description="The page that shows recent documents; off where absent."
    )
    kafka: Kafka = Field(default_factory=Kafka, description="Where events go.")
    endpoints: Annotated[tuple[Endpoint, ...], AfterValidator(_not_empty)] = Field(
        json_schema_extra={"minItems": 1},
        description="The paths to which the provider posts.",
        examples=[
            [
                {
                    "name": "main",
                    "path": "/webhook",
                    "source": "urn:example:sms:main",
                    "timezone": "UTC",
                    "auth": "none",
                }
            ]
        ],
    )
    events: Events = Field(
        description="How a status is written as a CloudEvent.",
        examples=[{"type_prefix": "com.example.messaging"}],
    )
    log: Log = Field(default_factory=Log, description="What is logged, on standard error.")

    @model_validator(mode="after")
    def _agreement(self, info: ValidationInfo) -> Self:
        if info.context is not UNCHECKED:
            for conflict in conflicts(self):
                raise ValueError(f"{dotted(conflict.place)}: {conflict.what}")
        return self

    def topic_of(self, endpoint: Endpoint) -> str:
        """Name the topic of an endpoint's status events."""
        return endpoint.topic or self.kafka.topic

    @property
    def topics(self) -> tuple[str, ...]:
        """The distinct status topics, in order of the endpoints."""
        return tuple(dict.fromkeys(self.topic_of(endpoint) for endpoint in self.endpoints))


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are each valid and do not go together.

    `place` is the one to blame; `between` holds every place that the finding rests on.
    """

    place: Place
    what: str
    between: tuple[Place, ...]


def dotted(place: Place) -> str:
    """Write a place as people do: `endpoints[0].path`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]


def conflicts(settings: Settings) -> Iterator[Conflict]:
    """Find every pair of settings that do not go together."""
    yield from _repeated(settings, "name")
    yield from _repeated(settings, "path")
    yield from _divided_sources(settings)
    yield from _rejected_among_statuses(settings)
    yield from _one_port_for_two(settings)
    yield from _bodies_that_never_fit(settings)
    yield from _security_that_does_not_agree(settings.kafka.security)
    yield from _half_a_certificate(settings.kafka.security.tls)


def _repeated(settings: Settings, key: str) -> Iterator[Conflict]:
    first: dict[str, Place] = {}
    for number, endpoint in enumerate(settings.endpoints):
        place = ("endpoints", number, key)
        earlier = first.setdefault(getattr(endpoint, key), place)
        if earlier != place:
            yield Conflict(place, f"the same as {dotted(earlier)}", (place, earlier))


def _divided_sources(settings: Settings) -> Iterator[Conflict]:
    for (m, one), (n, two) in combinations(enumerate(settings.endpoints), 2):
        if one.source == two.source and settings.topic_of(one) != settings.topic_of(two):
            sources: tuple[Place, ...] = (("endpoints", m, "source"), ("endpoints", n, "source"))
            yield Conflict(
                sources[1],
                f"the same as {dotted(sources[0])}, but with another topic: one source must "
                "have one topic",
                (*sources, *_topic_places(settings, m), *_topic_places(settings, n)),
            )


def _topic_places(settings: Settings, number: int) -> tuple[Place, ...]:
    own: Place = ("endpoints", number, "topic")
    return (own,) if settings.endpoints[number].topic else (own, ("kafka", "topic"))


def _rejected_among_statuses(settings: Settings) -> Iterator[Conflict]:
    place = ("kafka", "dead_letter_topic")
    for number, endpoint in enumerate(settings.endpoints):
        if settings.topic_of(endpoint) == settings.kafka.dead_letter_topic:
            topics = _topic_places(settings, number)
            what = f"must differ from {dotted(topics[-1])}"
            yield Conflict(place, what, (place, *topics))


def _one_port_for_two(settings: Settings) -> Iterator[Conflict]:
    listeners: list[tuple[str, Server | Admin | Inspector]] = [
        ("server", settings.server),
        ("admin", settings.admin),
    ]
    if settings.inspector is not None:
        listeners.append(("inspector", settings.inspector))
    for (first, one), (second, two) in combinations(listeners, 2):
        meet = one.host == two.host or not _ANY_HOST.isdisjoint({one.host, two.host})
        if one.port == two.port != 0 and meet:
            between = tuple((name, key) for name in (first, second) for key in ("host", "port"))
            yield Conflict((second, "port"), f"must differ from {first}.port", between)


def _bodies_that_never_fit(settings: Settings) -> Iterator[Conflict]:
    if settings.server.max_in_flight_bytes < settings.server.max_body_bytes:
        places = (("server", "max_in_flight_bytes"), ("server", "max_body_bytes"))
        yield Conflict(places[0], "must be at least server.max_body_bytes", places)


def _security_that_does_not_agree(security: Security) -> Iterator[Conflict]:
    section: Place = ("kafka", "security")
    protocol, sasl, tls = ((*section, key) for key in ("protocol", "sasl", "tls"))
    if security.logs_in and security.sasl is None:
        what = f"{security.protocol} needs kafka.security.sasl: mechanism, username, password"
        yield Conflict(protocol, what, (protocol, sasl))
    if security.sasl is not None and not security.logs_in:
        what = "only with kafka.security.protocol SASL_SSL or SASL_PLAINTEXT"
        yield Conflict(sasl, what, (sasl, protocol))
    if security.tls is not None and not security.encrypted:
        what = "only with kafka.security.protocol SSL or SASL_SSL"
        yield Conflict(tls, what, (tls, protocol))


def _half_a_certificate(tls: Tls | None) -> Iterator[Conflict]:
    needs = (("cert_file", "key_file"), ("key_file", "cert_file"), ("key_password", "key_file"))
    for key, needed in needs:
        if tls is not None and getattr(tls, key) and not getattr(tls, needed):
            places: tuple[Place, ...] = tuple(
                ("kafka", "security", "tls", k) for k in (key, needed)
            )
            yield Conflict(places[0], f"needs {dotted(places[1])}", places)
