"""The sections of the configuration file and their settings: names, defaults, limits, descriptions.

They must not read files or the environment, and know nothing of YAML (loader.py). The types of
single settings are in types.py; what must agree between them is in conflicts.py.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from bridge.config.types import (
    BasicUser,
    ClientId,
    EndpointName,
    FileName,
    Host,
    NetworkText,
    NotEmpty,
    Port,
    ProviderUrl,
    Rank,
    Scope,
    Seconds,
    Secret,
    Servers,
    SourceUri,
    StatusWord,
    TimeZone,
    TokenUrl,
    TopicName,
    TypePrefix,
    UrlPath,
    UserName,
    Whole,
)
from bridge.model import MEANINGS, Meaning, Route

MAX_PROCESSES: Final = 64

Place = tuple[str | int, ...]
"""Where a setting stands: ("endpoints", 0, "path")."""

AS_FAR_AS_VALID: Final = "as far as valid"
"""The validation context that refuses nothing: a wrong value gives way to an example or default."""


def dotted(place: Place) -> str:
    """Write a place as people do: `endpoints[0].path`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]


class Section(BaseModel):
    """One mapping of the file: frozen, without unknown keys, silent about what it was given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _keys(cls, data: object, info: ValidationInfo) -> object:
        # A section whose every key is commented out is null in YAML.
        given = {} if data is None else data
        if info.context is not AS_FAR_AS_VALID:
            return given
        known = given if isinstance(given, dict) else {}
        fields = cls.model_fields.items()
        return {n: known.get(n) for n, field in fields if n in known or field.is_required()}

    @field_validator("*", mode="wrap")
    @classmethod
    def _value(
        cls, value: object, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        try:
            return validate(value)
        except ValueError:
            if info.context is not AS_FAR_AS_VALID:
                raise
        field = cls.model_fields[str(info.field_name)]
        if field.examples:
            return validate(field.examples[0])
        return field.get_default(call_default_factory=True)


class Server(Section):
    """The public listener, to which the provider posts."""

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - a container's service is reached from outside it
        description="Address to listen on; :: stands for all of IPv6 and IPv4.",
    )
    port: Port = Field(default=8080, description="TCP port; 0 means any free one.")
    processes: Whole = Field(
        default=1,
        ge=1,
        le=MAX_PROCESSES,
        description="Processes that share the port, one a core; each has all of these limits to "
        "itself.",
    )
    max_body_bytes: Whole = Field(
        default=4_194_304,
        ge=1,
        le=1_073_741_824,
        description="Largest body of one request, in bytes; a larger one is answered 413.",
    )
    max_states: Whole = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="States processed of one document; the rest is not acknowledged, so it "
        "comes again.",
    )
    max_in_flight: Whole = Field(
        default=256,
        ge=1,
        le=100_000,
        description="POSTs in flight at once; further ones are answered 503.",
    )
    max_in_flight_bytes: Whole = Field(
        default=33_554_432,
        ge=1,
        le=17_179_869_184,
        description="Bytes of the bodies of all POSTs in flight; beyond it the answer is "
        "503. Incomplete bodies may hold three quarters of it, and so may large "
        "documents.",
    )
    max_in_flight_states: Whole = Field(
        default=50_000,
        ge=1,
        le=10_000_000,
        description="States of all POSTs in flight; beyond it the answer is 503. Each "
        "stands for up to 4 KiB of memory: a state with many attributes or long "
        "values counts as several.",
    )
    body_timeout_seconds: Seconds = Field(
        default=10,
        gt=0,
        le=3600,
        description="Seconds for a body to arrive completely; after that the answer is 408.",
    )
    keep_alive_seconds: Whole = Field(
        default=75,
        ge=1,
        le=3600,
        description="Seconds that an idle connection stays open; set it longer than the "
        "proxy in front keeps its own.",
    )
    drain_delay_seconds: Seconds = Field(
        default=0,
        ge=0,
        le=3600,
        description="Seconds after SIGTERM in which the gateway, no longer ready, still "
        "serves POSTs while load balancers remove it.",
    )
    shutdown_grace_seconds: Seconds = Field(
        default=15,
        gt=0,
        le=3600,
        description="Seconds after the drain delay for requests in flight and the producer "
        "to finish.",
    )
    trusted_proxies: tuple[NetworkText, ...] = Field(
        default=(),
        description="Addresses and networks of the proxies whose X-Forwarded-For is trusted.",
        examples=[["10.0.0.0/8"]],
    )


class Admin(Section):
    """The private listener: /livez, /readyz and /metrics."""

    host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - probes and scrapes come from outside the container
        description="Address to listen on; :: stands for all of IPv6 and IPv4.",
    )
    port: Port = Field(default=8081, description="TCP port; 0 means any free one.")


class Inspector(Section):
    """The page that shows recent documents, on a listener of its own; it asks for no password."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on: whoever reaches it sees what the provider posts.",
    )
    port: Port = Field(default=8082, description="TCP port; 0 means any free one.")


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
        description="Topic configuration of a created topic; write every value as text.",
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
    """Who the bridge is to Kafka: by name and password, or by a token of an OAuth server's."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        description="How the bridge proves who it is. PLAIN sends the password and OAUTHBEARER a "
        "token, so use them with TLS only.",
        examples=["SCRAM-SHA-512"],
    )
    username: UserName | None = Field(
        default=None,
        description="User name; with PLAIN and SCRAM.",
        examples=["sms-bridge"],
    )
    password: Secret | None = Field(
        default=None, description="Password of the user.", examples=["${KAFKA_PASSWORD}"]
    )
    token_url: TokenUrl | None = Field(
        default=None,
        description="Address of the OAuth server's token endpoint, which gives tokens by the "
        "client credentials grant; with OAUTHBEARER.",
        examples=["https://login.example.com/oauth2/token"],
    )
    client_id: UserName | None = Field(
        default=None,
        description="Name of the bridge at the token endpoint.",
        examples=["sms-bridge"],
    )
    client_secret: Secret | None = Field(
        default=None,
        description="Secret of the client; sent by HTTP basic authentication.",
        examples=["${KAFKA_CLIENT_SECRET}"],
    )
    scope: Scope | None = Field(
        default=None,
        description="Scopes to ask for, with spaces between; by default the server chooses.",
        examples=["kafka"],
    )
    token_ca_file: FileName | None = Field(
        default=None,
        description="CAs that the token endpoint's certificate is checked against; by default the "
        "system's.",
        examples=["/run/secrets/login-ca/ca.crt"],
    )


class Tls(Section):
    """The PEM files of TLS; they are read again when they change."""

    ca_file: FileName | None = Field(
        default=None,
        description="CAs that the brokers' certificates are checked against; by default the "
        "system's.",
        examples=["/run/secrets/kafka-ca/ca.crt"],
    )
    cert_file: FileName | None = Field(
        default=None,
        description="Client certificate for the brokers, and its chain; needs key_file.",
        examples=["/run/secrets/kafka-user/user.crt"],
    )
    key_file: FileName | None = Field(
        default=None,
        description="Private key of cert_file.",
        examples=["/run/secrets/kafka-user/user.key"],
    )
    key_password: Secret | None = Field(
        default=None,
        description="Password of key_file, if it is encrypted.",
        examples=["${KAFKA_KEY_PASSWORD}"],
    )


class Security(Section):
    """How the bridge and the brokers know each other."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="Protocol of the brokers' listener: SSL means TLS, SASL a login.",
    )
    sasl: Sasl | None = Field(
        default=None,
        description="Login; required with SASL_PLAINTEXT and SASL_SSL, and allowed only "
        "with these.",
    )
    tls: Tls | None = Field(default=None, description="TLS files; only with SSL and SASL_SSL.")

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

    bootstrap_servers: Servers = Field(
        default=("kafka:9092",),
        description="Brokers to connect to first, each host:port: a list, or one text with commas.",
    )
    topic: TopicName = Field(
        default="sms.status",
        description="Topic of the status events of every endpoint without its own.",
    )
    dead_letter_topic: TopicName | None = Field(
        default="sms.status.rejected",
        description="Topic of dead letters: what cannot become a status event. With null it "
        "is logged, and never acknowledged.",
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
        description="If a status topic has fewer than 3 replicas, or min.insync.replicas "
        "below 2: warn, or require more before the gateway becomes ready.",
    )
    client_id: ClientId = Field(
        default="sms-bridge", description="Name of the bridge in the brokers' logs and quotas."
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Compression of the records on the wire and in the topic."
    )
    duplicates: Duplicates = Field(
        default_factory=Duplicates,
        description="The memory of recent events, which suppresses retries of what Kafka has.",
    )
    create_topics: CreateTopics = Field(
        default_factory=CreateTopics, description="Creation of missing topics."
    )
    security: Security = Field(
        default_factory=Security,
        description="Encryption and authentication between the bridge and the brokers.",
    )

    def with_dead_letters(self, topics: tuple[str, ...]) -> tuple[str, ...]:
        """These topics, and that of dead letters if there is one."""
        return (*topics, self.dead_letter_topic) if self.dead_letter_topic else topics


class Basic(Section):
    """One user of HTTP basic authentication."""

    username: BasicUser = Field(description="User name; it holds no colon.", examples=["provider"])
    password: Secret = Field(description="Password.", examples=["${WEBHOOK_PASSWORD}"])


class Auth(Section):
    """Who may post: from one of the networks, and with one token or user, where there are any."""

    tokens: tuple[Secret, ...] = Field(
        default=(),
        description="Secrets that the sender passes as ?token= or as a bearer token.",
        examples=[["${WEBHOOK_TOKEN}"]],
    )
    basic: tuple[Basic, ...] = Field(
        default=(),
        description="Users that the sender passes as user:password@ in the URL.",
        examples=[[{"username": "provider", "password": "${WEBHOOK_PASSWORD}"}]],
    )

    allow: NotEmpty[NetworkText] = Field(
        default=(),
        description="Addresses and networks that may post; all others are answered 403. By "
        "default every address may.",
        examples=[["203.0.113.0/24"]],
    )

    @model_validator(mode="after")
    def _some_restriction(self) -> Self:
        if not self.tokens and not self.basic and not self.allow:
            what = "needs at least one of tokens, basic and allow; an open endpoint says none"
            raise ValueError(what)
        return self


class Provider(Section):
    """Where the states of an account's messages can be asked, and as whom."""

    url: ProviderUrl = Field(
        description="Address of the provider's API, to which /state.php and /time.php are added.",
        examples=["https://provider.example.com/xml"],
    )
    format: Literal["xml", "json"] = Field(
        default="xml",
        description="Form of its documents; the address says the same, /xml or /json.",
    )
    token: Secret | None = Field(
        default=None,
        description="Secret key of the account; either this, or login and password.",
    )
    login: UserName | None = Field(
        default=None, description="Login of the account.", examples=["account"]
    )
    password: Secret | None = Field(
        default=None, description="Password of the login.", examples=["${PROVIDER_PASSWORD}"]
    )

    @model_validator(mode="after")
    def _one_way_in(self, info: ValidationInfo) -> Self:
        given = [each is not None for each in (self.token, self.login, self.password)]
        ways_in = ([True, False, False], [False, True, True])
        if given not in ways_in and info.context is not AS_FAR_AS_VALID:
            raise ValueError("needs either a token, or login and password")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.url.startswith("https:")


def _open_only_on_purpose(value: object) -> object:
    # A key left empty, or a template without a value, must not open the endpoint.
    if value is None or (isinstance(value, str) and value != "none"):
        raise ValueError("must be none, or a mapping with tokens, basic or allow")
    return None if value == "none" else value


class Endpoint(Section):
    """One path to which one account of the provider posts."""

    name: EndpointName = Field(
        description="Name in logs, metrics and dead letters.", examples=["main"]
    )
    path: UrlPath = Field(
        description="Path of the URL that you give the provider; with a trailing slash it "
        "is the same path.",
        examples=["/webhook"],
    )
    source: SourceUri = Field(
        description="CloudEvents source: which account of the provider, in which "
        "environment. It is part of every event id: never change it.",
        examples=["urn:example:sms:main"],
    )
    timezone: TimeZone = Field(
        description="IANA name of the zone of the provider's local times; ask the provider.",
        examples=["UTC"],
    )
    auth: Annotated[Auth | None, BeforeValidator(_open_only_on_purpose)] = Field(
        description="The word none, or who may post: credentials, one of which must match, "
        "or addresses, or both.",
        examples=["none"],
    )
    topic: TopicName | None = Field(
        default=None,
        description="Topic of this endpoint's status events; by default kafka.topic.",
        examples=["sms.status.brand"],
    )
    provider: Provider | None = Field(
        default=None,
        description="The provider's API, for reconcile and check --provider; serve never uses it.",
    )

    @property
    def tzinfo(self) -> ZoneInfo:
        """The time zone itself; zoneinfo keeps one object a zone."""
        return ZoneInfo(self.timezone)


class Status(Section):
    """What a status word means; a built-in word keeps what is not given, for another it is null."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    outcome: Literal["pending", "delivered", "undelivered"] | None = Field(
        default=None, description="What it means for the message.", examples=["pending"]
    )
    final: bool | None = Field(
        default=None,
        description="Whether the provider says that it will not change.",
        examples=[False],
    )
    rank: Rank | None = Field(
        default=None,
        description="How much is known: 0 nothing yet, 1 under way, 2 an outcome, 3 read. The "
        "latest status of a message has the greatest rank.",
        examples=[1],
    )

    @model_validator(mode="after")
    def _some_meaning(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one of outcome, final and rank")
        return self


class Events(Section):
    """How a status is written as a CloudEvent."""

    type_prefix: TypePrefix = Field(
        description="Reverse DNS name of whoever defines the events; their types begin with it.",
        examples=["com.example.messaging"],
    )
    content_mode: Literal["structured", "binary"] = Field(
        default="structured",
        description="CloudEvents content mode: the whole event as JSON, or its attributes as "
        "ce_ headers.",
    )
    statuses: Mapping[StatusWord, Status] = Field(
        default={},
        max_length=100,
        description="Status words by name: others than the built-in ones, or corrections of "
        "these, as accounts differ in what is final.",
        examples=[{"accepted": {"outcome": "pending", "final": False, "rank": 1}}],
    )


class Log(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Lowest severity that is logged; debug also shows the Kafka client's lines.",
    )
    format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or lines for people."
    )


class Settings(Section):
    """Everything that the configuration file says."""

    server: Server = Field(default_factory=Server, description="The public listener.")
    admin: Admin = Field(default_factory=Admin, description="The private listener.")
    inspector: Inspector | None = Field(
        default=None, description="The page that shows recent documents; off unless set."
    )
    kafka: Kafka = Field(
        default_factory=Kafka, description="The brokers and topics that events go to."
    )
    endpoints: NotEmpty[Endpoint] = Field(
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

    def topic_of(self, endpoint: Endpoint) -> str:
        """Name the topic of an endpoint's status events."""
        return endpoint.topic or self.kafka.topic

    @property
    def topics(self) -> tuple[str, ...]:
        """The distinct status topics, in order of the endpoints."""
        return tuple(dict.fromkeys(self.topic_of(endpoint) for endpoint in self.endpoints))

    @property
    def wanted_topics(self) -> tuple[str, ...]:
        """The topics that must exist: those of status events, and that of dead letters."""
        return self.kafka.with_dead_letters(self.topics)


def meanings(events: Events) -> Mapping[str, Meaning]:
    """What each known status word means: the built-in ones, corrected and added to."""
    table = dict(MEANINGS)
    for word, status in events.statuses.items():
        given = {name: getattr(status, name) for name in status.model_fields_set}
        table[word] = table.get(word, Meaning())._replace(**given)
    return table


def route_of(settings: Settings, endpoint: Endpoint) -> Route:
    """Where the endpoint's events come from and go to."""
    return Route(
        endpoint=endpoint.name,
        source=endpoint.source,
        timezone=endpoint.tzinfo,
        topic=settings.topic_of(endpoint),
        dead_letter_topic=settings.kafka.dead_letter_topic,
        type_prefix=settings.events.type_prefix,
        content_mode=settings.events.content_mode,
        statuses=meanings(settings.events),
    )
