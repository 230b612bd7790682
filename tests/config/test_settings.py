import re
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from bridge.config.conflicts import conflicts
from bridge.config.settings import (
    Admin,
    Auth,
    Basic,
    CreateTopics,
    Endpoint,
    Events,
    Inspector,
    Kafka,
    Log,
    Provider,
    Sasl,
    Section,
    Security,
    Server,
    Settings,
    Status,
    Tls,
    dotted,
    meanings,
)
from bridge.model import MEANINGS, Meaning

SECTIONS = (
    *(Server, Admin, Inspector, Kafka, CreateTopics, Security, Sasl, Tls),
    *(Endpoint, Provider, Auth, Basic, Events, Status, Log, Settings),
)
FIELDS = [(s, name, info) for s in SECTIONS for name, info in s.model_fields.items()]
IDS = [f"{section.__name__}.{name}" for section, name, _ in FIELDS]


def endpoint(**changes: Any) -> Endpoint:
    given = {
        "name": "main",
        "path": "/webhook",
        "source": "urn:example:sms:main",
        "timezone": "UTC",
        "auth": "none",
    }
    return Endpoint.model_validate(given | changes)


def settings(*endpoints: dict[str, Any], **sections: Any) -> Settings:
    events = {"type_prefix": "com.example.messaging"}
    given = [endpoint(**changes) for changes in endpoints or ({},)]
    return Settings.model_validate({"endpoints": given, "events": events, **sections})


def refusals(kept: Settings) -> list[str]:
    """What does not go together, with the setting to blame."""
    return [f"{dotted(conflict.place)}: {conflict.what}" for conflict in conflicts(kept)]


def other(**changes: Any) -> dict[str, Any]:
    return {"name": "other", "path": "/other", "source": "urn:example:sms:other"} | changes


@pytest.mark.parametrize(("section", "name", "info"), FIELDS, ids=IDS)
def test_every_setting_is_described(section: type[Section], name: str, info: FieldInfo) -> None:
    """Documentation is made of the descriptions."""
    assert info.description, f"{section.__name__}.{name}"
    assert info.description.endswith(".")


@pytest.mark.parametrize(("section", "name", "info"), FIELDS, ids=IDS)
def test_every_required_setting_has_an_example(
    section: type[Section], name: str, info: FieldInfo
) -> None:
    """Examples stand in for values that are unknown while a file is checked."""
    if info.is_required():
        assert info.examples, f"{section.__name__}.{name}"


@pytest.mark.parametrize(("section", "name", "info"), FIELDS, ids=IDS)
def test_every_number_has_limits(section: type[Section], name: str, info: FieldInfo) -> None:
    """No limit of the gateway can be set to nothing, or to no limit at all."""
    schema = section.model_json_schema()["properties"][name]
    if schema.get("type") in {"integer", "number"}:
        assert "maximum" in schema
        assert {"minimum", "exclusiveMinimum"} & set(schema)
        assert info.default is not None


def test_examples_are_valid_together() -> None:
    """What documentation shows can be used."""
    examples = {
        section: {n: i.examples[0] for n, i in section.model_fields.items() if i.examples}
        for section in SECTIONS
    }
    for section, given in examples.items():
        assert isinstance(section.model_validate(given), section)


def test_defaults_are_the_documented_ones() -> None:
    """A changed default changes what running gateways do: it must be a decision."""
    assert settings().model_dump() == {
        "server": {
            "host": "0.0.0.0",
            "port": 8080,
            "processes": 1,
            "max_body_bytes": 4194304,
            "max_states": 10000,
            "max_in_flight": 256,
            "max_in_flight_bytes": 33554432,
            "max_in_flight_states": 50000,
            "body_timeout_seconds": 10,
            "keep_alive_seconds": 75,
            "drain_delay_seconds": 0,
            "shutdown_grace_seconds": 15,
            "trusted_proxies": (),
        },
        "admin": {"host": "0.0.0.0", "port": 8081},
        "inspector": None,
        "kafka": {
            "bootstrap_servers": ("kafka:9092",),
            "topic": "sms.status",
            "dead_letter_topic": "sms.status.rejected",
            "publish_timeout_seconds": 4,
            "client_id": "sms-bridge",
            "compression": "none",
            "durability": "warn",
            "duplicates": {"remember": 100_000, "seconds": 600},
            "create_topics": {
                "enabled": False,
                "partitions": 6,
                "replication_factor": 3,
                "config": {"min.insync.replicas": "2"},
            },
            "security": {"protocol": "PLAINTEXT", "sasl": None, "tls": None},
        },
        "endpoints": (
            {
                "name": "main",
                "path": "/webhook",
                "source": "urn:example:sms:main",
                "timezone": "UTC",
                "auth": None,
                "topic": None,
                "provider": None,
            },
        ),
        "events": {
            "type_prefix": "com.example.messaging",
            "content_mode": "structured",
            "statuses": {},
        },
        "log": {"level": "info", "format": "json"},
    }


@pytest.mark.parametrize(("given", "port"), [({}, 8082), ({"port": 9}, 9)])
def test_the_inspector_is_on_where_it_is_written_and_on_loopback(
    given: dict[str, Any], port: int
) -> None:
    """What it shows is not for the network unless somebody says so."""
    inspector = settings(inspector=given).inspector
    assert inspector is not None
    assert (inspector.host, inspector.port) == ("127.0.0.1", port)


def test_settings_cannot_be_changed() -> None:
    """What was checked stays as it was checked."""
    with pytest.raises(ValidationError, match="frozen"):
        settings().kafka.topic = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (Server, {"host": "::"}),
        (Server, {"host": "fe80::1%eth0", "port": 0}),
        (Server, {"host": "bridge.example", "port": "65535"}),
        (Server, {"drain_delay_seconds": 0, "body_timeout_seconds": 0.1}),
        (Server, {"trusted_proxies": []}),
        (Server, {"trusted_proxies": ["10.0.0.0/8", "fd00::/8", "::1", "0.0.0.0/0"]}),
        (Kafka, {"dead_letter_topic": None}),
        (Kafka, {"topic": "..."}),
        (Kafka, {"topic": "a" * 249, "compression": "zstd"}),
        (Kafka, {"bootstrap_servers": "[::1]:9092"}),
        (Kafka, {"create_topics": {"config": {}}}),
        (Basic, {"username": "u s e r", "password": "p w:d"}),
        (Auth, {"tokens": ["a"]}),
        (Auth, {"basic": [{"username": "u", "password": "p"}]}),
        (Auth, {"allow": ["203.0.113.7", "2001:db8::/32", "::ffff:203.0.113.0/120"]}),
        (Auth, {"tokens": ["a"], "allow": ["203.0.113.0/24"]}),
        (Events, {"type_prefix": "a.b", "content_mode": "binary"}),
        (Events, {"type_prefix": "com.my-company.x1"}),
        (Log, {"level": "debug", "format": "console"}),
        (Provider, {"url": "http://[::1]:8090/json/", "format": "json", "token": "t"}),
        (Provider, {"url": "https://provider.example.com", "login": "l", "password": "p"}),
    ],
)
def test_valid(section: type[Section], given: dict[str, Any]) -> None:
    """Unusual and right."""
    assert isinstance(section.model_validate(given), section)


OAUTH = {
    "mechanism": "OAUTHBEARER",
    "token_url": "https://login.example.com/token",
    "client_id": "c",
    "client_secret": "s",
}
API = {"url": "https://provider.example.com/xml"}


@pytest.mark.parametrize(
    ("section", "given"),
    [
        (Server, {"host": ""}),
        (Server, {"host": "http://x"}),
        (Server, {"port": -1}),
        (Server, {"port": 65536}),
        (Server, {"port": False}),
        (Server, {"keep_alive_seconds": 0}),
        (Server, {"drain_delay_seconds": -1}),
        (Server, {"shutdown_grace_seconds": float("nan")}),
        (Server, {"body_timeout_seconds": float("inf")}),
        (Kafka, {"topic": ""}),
        (Kafka, {"topic": "."}),
        (Kafka, {"topic": ".."}),
        (Kafka, {"topic": "a" * 250}),
        (Kafka, {"topic": "a/b"}),
        (Kafka, {"topic": "a\n"}),
        (Kafka, {"topic": None}),
        (Kafka, {"dead_letter_topic": ""}),
        (Kafka, {"compression": "GZIP"}),
        (Kafka, {"client_id": ""}),
        (Kafka, {"bootstrap_servers": ""}),
        (Kafka, {"bootstrap_servers": []}),
        (Kafka, {"bootstrap_servers": "kafka"}),
        (Kafka, {"bootstrap_servers": "kafka:0"}),
        (Kafka, {"bootstrap_servers": "kafka:65536"}),
        (Kafka, {"bootstrap_servers": "kafka:9092,"}),
        (Kafka, {"bootstrap_servers": "PLAINTEXT://kafka:9092"}),
        (Kafka, {"bootstrap_servers": "::1:9092"}),
        (Kafka, {"bootstrap_servers": ["a:1,b:2"]}),
        (Kafka, {"create_topics": {"partitions": 0}}),
        (Kafka, {"create_topics": {"replication_factor": 40_000}}),
        (Auth, {}),
        (Auth, {"tokens": [], "basic": []}),
        (Auth, {"allow": []}),
        (Auth, {"tokens": ["a"], "allow": []}),
        (Auth, {"tokens": ["a"], "allow": None}),
        (Auth, {"tokens": ["a"], "allow": "203.0.113.0/24"}),
        (Auth, {"tokens": ["a"], "allow": [""]}),
        (Auth, {"tokens": ["a"], "allow": ["203.0.113.1/24"]}),
        (Auth, {"tokens": ["a"], "allow": ["203.0.113.0/33"]}),
        (Auth, {"tokens": ["a"], "allow": ["203.0.113.0/255.255.255.0"]}),
        (Auth, {"tokens": ["a"], "allow": ["2001:db8::1/32"]}),
        (Auth, {"tokens": ["a"], "allow": ["proxy.example"]}),
        (Auth, {"tokens": ["a"], "allow": ["fe80::1%eth0"]}),
        (Auth, {"tokens": ["a"], "allow": [3405803783]}),
        (Server, {"trusted_proxies": ["*"]}),
        (Server, {"trusted_proxies": "10.0.0.0/8"}),
        (Auth, {"tokens": [""]}),
        (Auth, {"tokens": ["a\n"]}),
        (Auth, {"tokens": "abc"}),
        (Basic, {"username": "", "password": "p"}),
        (Basic, {"username": "a:b", "password": "p"}),
        (Basic, {"username": "a", "password": ""}),
        (Events, {"type_prefix": ""}),
        (Events, {"type_prefix": "com"}),
        (Events, {"type_prefix": "Com.example"}),
        (Events, {"type_prefix": "com.-a"}),
        (Events, {"type_prefix": "com.a."}),
        (Events, {"type_prefix": "com." + "a" * 128}),
        (Log, {"level": "INFO"}),
        (Sasl, OAUTH | {"token_url": "login.example.com/token"}),
        (Sasl, OAUTH | {"token_url": "https://c:s@login.example.com/token"}),
        (Sasl, OAUTH | {"token_url": "https://login.example.com/token#a"}),
        (Sasl, OAUTH | {"token_url": "https://login.example.com:0x1/token"}),
        (Sasl, OAUTH | {"client_secret": ""}),
        (Sasl, OAUTH | {"scope": ""}),
        (Sasl, OAUTH | {"scope": "a  b"}),
        (Sasl, OAUTH | {"scope": 'a"'}),
        (Sasl, OAUTH | {"mechanism": "GSSAPI"}),
        (Provider, {"url": "provider.example.com/xml", "token": "t"}),
        (Provider, {"url": "https://user:password@provider.example.com/xml", "token": "t"}),
        (Provider, {"url": "https://provider.example.com/xml?token=t", "token": "t"}),
        (Provider, {"url": "https://provider.example.com/xml#t", "token": "t"}),
        (Provider, {"url": "https://provider.example.com:65536/xml", "token": "t"}),
        (Provider, API | {"format": "csv", "token": "t"}),
        (Provider, API),
        (Provider, API | {"token": "t", "login": "l"}),
        (Provider, API | {"token": "t", "password": "p"}),
        (Provider, API | {"token": "t", "login": "l", "password": "p"}),
        (Provider, API | {"login": "l"}),
        (Provider, API | {"password": "p"}),
        (Provider, API | {"login": "", "password": "p"}),
    ],
)
def test_invalid(section: type[Section], given: dict[str, Any]) -> None:
    """Wrong in one point."""
    with pytest.raises(ValidationError) as caught:
        section.model_validate(given)
    assert caught.value.error_count() == 1


@pytest.mark.parametrize(
    ("given", "path"),
    [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b.c~d/", "/a/b.c~d"), ("/...", "/...")],
)
def test_path_loses_its_trailing_slash(given: str, path: str) -> None:
    """Both spellings are one path, so that duplicates are seen."""
    assert endpoint(path=given).path == path


@pytest.mark.parametrize(
    "path",
    ["", "a", "//", "/a//b", "/a//", "/a?b", "/a#b", "/a b", "/{a}", "/a%20b", "/é", "/../b", "/."],
)
def test_paths_that_never_match_are_refused(path: str) -> None:
    """Route templates, and what a client or the server would decode or resolve first."""
    with pytest.raises(ValidationError, match="path"):
        endpoint(path=path)


@pytest.mark.parametrize("source", ["", "a b", "a\tb", "a\n", "é", "a%2", "a" * 257, "<a>"])
def test_source_must_be_a_uri_reference(source: str) -> None:
    """CloudEvents 1.0 asks for a URI-reference that is not empty."""
    with pytest.raises(ValidationError, match="source"):
        endpoint(source=source)


@pytest.mark.parametrize("source", ["a", "/x/y", "https://a.example/b?c=%20#d", "urn:" + "a" * 252])
def test_source_is_kept_as_given(source: str) -> None:
    """It is part of every event id: not a character may change."""
    assert endpoint(source=source).source == source


@pytest.mark.parametrize("timezone", ["", "Mars/Base", "../etc/passwd", "/UTC", "Europe", "UTC\0"])
def test_unknown_time_zones_are_refused(timezone: str) -> None:
    """Every way in which zoneinfo fails is one error."""
    with pytest.raises(ValidationError, match="IANA"):
        endpoint(timezone=timezone)


@pytest.mark.parametrize(
    ("timezone", "meant"),
    [
        ("Europe/Kiyv", "Europe/Kyiv"),
        ("kyiv", "Europe/Kyiv"),
        ("europe/berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
    ],
)
def test_a_time_zone_with_a_typo_is_guessed(timezone: str, meant: str) -> None:
    """As an unknown key is."""
    with pytest.raises(ValidationError, match=f'did you mean "{meant}"'):
        endpoint(timezone=timezone)


@pytest.mark.parametrize("timezone", ["UTC+3", "GMT+2", "Etc/GMT+33", "MSK", "MEZ", "utc"])
def test_of_an_offset_or_a_short_word_no_zone_is_guessed(timezone: str) -> None:
    """Etc/GMT+3 is three hours behind: a guess that looks right would shift every time."""
    with pytest.raises(ValidationError) as raised:
        endpoint(timezone=timezone)
    assert "did you mean" not in str(raised.value)


def test_time_zone_is_at_hand() -> None:
    """The text is what was configured, the property what computes."""
    kyiv = endpoint(timezone="Europe/Kyiv")
    assert kyiv.timezone == kyiv.tzinfo.key == "Europe/Kyiv"


@pytest.mark.parametrize("auth", [None, "", "None", "open", False, [], 3])
def test_only_the_word_none_opens_an_endpoint(auth: object) -> None:
    """An empty value, as a template without its secret leaves one, must not."""
    with pytest.raises(ValidationError, match="auth"):
        endpoint(auth=auth)


def test_auth_cannot_be_left_out() -> None:
    """To be open to everyone is a decision."""
    given = endpoint().model_dump(exclude={"auth"})
    with pytest.raises(ValidationError, match="Field required"):
        Endpoint.model_validate(given)


def test_credentials_are_secrets() -> None:
    """Tokens and passwords print as stars."""
    auth = endpoint(auth={"tokens": ["t0k"], "basic": [{"username": "u", "password": "pw"}]}).auth
    assert auth is not None
    assert auth.tokens == (SecretStr("t0k"),)
    assert auth.basic[0].password == SecretStr("pw")
    assert "t0k" not in repr(auth)
    assert "pw" not in repr(auth)


def test_errors_hide_what_was_given() -> None:
    """Pydantic's own message would show it."""
    with pytest.raises(ValidationError) as caught:
        endpoint(auth={"tokens": [" t0k"]})
    assert "t0k" not in str(caught.value)


@pytest.mark.parametrize("given", ["a:1, b:2", ["a:1", "b:2"], ("a:1", "b:2")])
def test_bootstrap_servers_are_a_list_or_a_text(given: object) -> None:
    """Both spellings are one value."""
    assert Kafka.model_validate({"bootstrap_servers": given}).bootstrap_servers == ("a:1", "b:2")


def test_topic_of_an_endpoint() -> None:
    """Its own, or else that of all; each topic counts once."""
    mine = settings({}, other(topic="brand"), kafka={"topic": "all"})
    assert [mine.topic_of(e) for e in mine.endpoints] == ["all", "brand"]
    assert mine.topics == ("all", "brand")
    assert settings({}, other()).topics == ("sms.status",)


def test_statuses_add_words_and_correct_the_built_in_ones() -> None:
    """Of a built-in word what is not given stays; of another it is null."""
    given = {
        "accepted": {"outcome": "pending", "final": False, "rank": 1},
        "deliver": {"final": True},
        "expired": {"outcome": None, "rank": 0},
        "lost": {"outcome": "undelivered"},
    }
    events = Events.model_validate({"type_prefix": "a.b", "statuses": given})

    assert meanings(events) == {
        **MEANINGS,
        "accepted": Meaning(final=False, outcome="pending", rank=1),
        "deliver": Meaning(final=True, outcome="delivered", rank=2),
        "expired": Meaning(final=True, outcome=None, rank=0),
        "lost": Meaning(final=None, outcome="undelivered", rank=None),
    }
    assert MEANINGS["deliver"].final is False


@pytest.mark.parametrize(
    "statuses",
    [
        {"DELIVRD": {"rank": 1}},
        {"two words": {"rank": 1}},
        {"a" * 65: {"rank": 1}},
        {"accepted": {}},
        {"accepted": None},
        {"accepted": {"rank": True}},
        {"accepted": {"rank": -1}},
        {"accepted": {"rank": 101}},
        {"accepted": {"outcome": "gone"}},
        {"accepted": {"label": "x"}},
        {f"word_{number}": {"rank": 1} for number in range(101)},
    ],
)
def test_statuses_that_are_none_are_refused(statuses: object) -> None:
    with pytest.raises(ValidationError):
        Events.model_validate({"type_prefix": "a.b", "statuses": statuses})


@pytest.mark.parametrize(
    ("endpoints", "sections", "place"),
    [
        ([{}, other(name="main")], {}, "endpoints[1].name"),
        ([{}, other(path="/webhook/")], {}, "endpoints[1].path"),
        ([{}, other(source="urn:example:sms:main", topic="b")], {}, "endpoints[1].source"),
        ([{"topic": "sms.status.rejected"}], {}, "kafka.dead_letter_topic"),
        ([{}], {"kafka": {"topic": "a", "dead_letter_topic": "a"}}, "kafka.dead_letter_topic"),
        ([{}], {"admin": {"port": 8080}}, "admin.port"),
        ([{}], {"server": {"host": "::1"}, "admin": {"port": 8080}}, "admin.port"),
        ([{}], {"server": {"port": 1, "host": "::"}, "admin": {"port": 1}}, "admin.port"),
        ([{}], {"inspector": {"port": 8080}}, "inspector.port"),
        ([{}], {"admin": {"port": 8082}, "inspector": {}}, "inspector.port"),
    ],
)
def test_conflicts_are_refused(
    endpoints: list[dict[str, Any]], sections: dict[str, Any], place: str
) -> None:
    """Settings that are each valid and do not go together."""
    refused = refusals(settings(*endpoints, **sections))
    assert [said.partition(": ")[0] for said in refused] == [place]


@pytest.mark.parametrize(
    ("endpoints", "sections"),
    [
        ([{}, other(source="urn:example:sms:main")], {}),
        ([{}, other(source="urn:example:sms:main", topic="sms.status")], {}),
        ([{"topic": "sms.status"}, other(topic="b")], {}),
        ([{"topic": "b"}], {"kafka": {"topic": "a", "dead_letter_topic": "a"}}),
        ([{}], {"kafka": {"dead_letter_topic": None}}),
        ([{}], {"server": {"port": 0}, "admin": {"port": 0}}),
        (
            [{}],
            {"server": {"port": 1, "host": "10.0.0.1"}, "admin": {"port": 1, "host": "127.0.0.1"}},
        ),
    ],
)
def test_what_goes_together_is_accepted(
    endpoints: list[dict[str, Any]], sections: dict[str, Any]
) -> None:
    """Near misses of the conflicts."""
    assert refusals(settings(*endpoints, **sections)) == []


SASL = {"mechanism": "SCRAM-SHA-512", "username": "u", "password": "p"}
OVER_TLS = {"protocol": "SASL_SSL"}
PAIR = {"cert_file": "c", "key_file": "k"}


@pytest.mark.parametrize(
    ("security", "said"),
    [
        ({"protocol": "SASL_SSL"}, "protocol: SASL_SSL needs kafka.security.sasl"),
        ({"protocol": "SASL_PLAINTEXT"}, "protocol: SASL_PLAINTEXT needs kafka.security.sasl"),
        ({"sasl": SASL}, "sasl: only with kafka.security.protocol SASL_SSL or"),
        ({"protocol": "SSL", "sasl": SASL}, "sasl: only with"),
        ({"tls": {}}, "tls: only with kafka.security.protocol SSL or SASL_SSL"),
        ({"protocol": "SASL_PLAINTEXT", "sasl": SASL, "tls": PAIR}, "tls: only with"),
        (OVER_TLS | {"sasl": {"mechanism": "PLAIN"}}, "sasl.mechanism: PLAIN needs kafka.secu"),
        (OVER_TLS | {"sasl": SASL | {"scope": "s"}}, "sasl.scope: only with kafka.security.sasl.m"),
        (OVER_TLS | {"sasl": OAUTH | {"username": "u"}}, "sasl.username: only with kafka.secur"),
        (OVER_TLS | {"sasl": {"mechanism": "OAUTHBEARER"}}, "sasl.mechanism: OAUTHBEARER needs"),
        ({"protocol": "SSL", "tls": {"cert_file": "c"}}, "tls.cert_file: needs kafka.security.tls"),
        ({"protocol": "SSL", "tls": {"key_file": "k"}}, "tls.key_file: needs kafka.security.tls"),
        ({"protocol": "SSL", "tls": {"key_password": "p"}}, "tls.key_password: needs kafka."),
    ],
)
def test_security_that_does_not_agree_is_refused(security: dict[str, Any], said: str) -> None:
    refused = refusals(settings(kafka={"security": security}))
    assert any(problem.startswith(f"kafka.security.{said}") for problem in refused)


@pytest.mark.parametrize(
    "security",
    [
        {"protocol": "SSL"},  # public CAs, and nobody asks who the bridge is
        {"protocol": "SSL", "tls": PAIR | {"key_password": "p", "ca_file": "ca"}},
        {"protocol": "SASL_SSL", "sasl": SASL},
        {"protocol": "SASL_SSL", "sasl": SASL, "tls": PAIR},
        {"protocol": "SASL_PLAINTEXT", "sasl": SASL},
        {"protocol": "SASL_SSL", "sasl": OAUTH},
        {"protocol": "SASL_SSL", "sasl": OAUTH | {"scope": "a b", "token_ca_file": "ca"}},
        {"sasl": None, "tls": None},
    ],
)
def test_security_that_agrees_is_accepted(security: dict[str, Any]) -> None:
    kept = settings(kafka={"security": security})
    assert refusals(kept) == []
    assert kept.kafka.security.encrypted == ("SSL" in kept.kafka.security.protocol)


def test_secrets_of_security_are_masked() -> None:
    tls = PAIR | {"key_password": "hunter2hunter2"}
    for sasl in (SASL | {"password": "hunter2"}, OAUTH | {"client_secret": "hunter2"}):
        kept = settings(kafka={"security": {"protocol": "SASL_SSL", "sasl": sasl, "tls": tls}})
        for shown in (repr(kept), str(kept), str(kept.model_dump()), kept.model_dump_json()):
            assert "hunter2" not in shown


def test_dotted() -> None:
    """Places are written as people write them."""
    assert dotted(("endpoints", 0, "auth", "tokens", 1)) == "endpoints[0].auth.tokens[1]"
    assert dotted(()) == ""


def test_json_schema_tells_the_rules() -> None:
    """An editor can check a file while it is written."""
    schema = Settings.model_json_schema()
    kafka = schema["$defs"]["Kafka"]["properties"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["endpoints"]["minItems"] == 1
    assert kafka["topic"]["pattern"].endswith("{1,249}$")
    assert kafka["compression"]["enum"] == ["none", "gzip", "snappy", "lz4", "zstd"]
    text, listed = kafka["bootstrap_servers"]["anyOf"]
    assert re.fullmatch(text["pattern"], "a:1, [::1]:2")
    assert not re.fullmatch(listed["items"]["pattern"], "a")
