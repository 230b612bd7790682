import platform
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from bridge import __version__
from bridge.cli.main import main
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.simulate.api import Api
from bridge.versions import VERSIONS, expat_warning
from tests.support.brokers import ExternalKafka
from tests.support.gateway import configuration
from tests.support.provider import TOKEN

CONFIG = """\
kafka:
  bootstrap_servers: {servers}
  topic: {topic}
  dead_letter_topic: {topic}.rejected
endpoints:
  - name: main
    path: /webhook
    source: urn:test
    timezone: Europe/Kyiv
    auth: {auth}
events: {{type_prefix: com.example}}
"""


def config(
    directory: Path, servers: str = "kafka:9092", topic: str = "t", auth: str = "none"
) -> str:
    file = directory / "bridge.yaml"
    file.write_text(CONFIG.format(servers=servers, topic=topic, auth=auth))
    return str(file)


@pytest.fixture(autouse=True)
def _expat_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever it is here."""
    monkeypatch.setattr("bridge.cli.check.expat_warning", lambda: None)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["check", *arguments])


def make(broker: EmbeddedBroker, *topics: str) -> None:
    """Make topics on the in-memory broker, by asking for them."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
    for topic in topics:
        admin.list_topics(topic, timeout=10)


def test_an_old_expat_is_a_warning_and_its_version_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.cli.check.expat_warning", lambda: expat_warning("2.6.4"))

    result = run("--config", config(tmp_path, auth="{allow: [203.0.113.7]}"))

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: Expat 2.6.4, which parses the bodies, is older")
    assert result.stdout.splitlines()[0] == (
        f"sms-bridge {__version__}, Python {platform.python_version()}, Expat {VERSIONS['expat']}"
    )


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0"])
def test_to_trust_everybody_as_a_proxy_is_a_warning(tmp_path: Path, network: str) -> None:
    """Whoever is believed about the own address can be on any list of addresses."""
    file = config(tmp_path, auth="{allow: [203.0.113.7]}")
    with Path(file).open("a") as more:
        more.write(f"server: {{trusted_proxies: ['10.0.0.0/8', '{network}']}}\n")

    result = run("--config", file)

    assert result.exit_code == 0
    what = f"server.trusted_proxies: {network} believes every sender about its own address"
    assert result.stderr.splitlines() == [f"warning: {what}"]


def test_a_good_configuration_is_summed_up(tmp_path: Path) -> None:
    file = config(tmp_path, auth="{tokens: [a-token-of-a-test]}")

    result = run("--config", file)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines()[1:] == [
        "endpoint main: POST /webhook -> topic t, times in Europe/Kyiv",
        "dead letters -> topic t.rejected",
        f"{file}: ok",
    ]


def test_an_open_endpoint_is_a_warning(tmp_path: Path) -> None:
    result = run("--config", config(tmp_path))

    assert result.exit_code == 0
    assert result.stderr.startswith("warning: endpoint main: auth is none")


def test_a_token_that_is_short_is_a_warning(tmp_path: Path) -> None:
    """Of sixteen characters it is none; the token itself is never shown."""
    short = run("--config", config(tmp_path, auth="{tokens: [0123456789abcdef, 0123456789abcde]}"))
    enough = run("--config", config(tmp_path, auth="{tokens: [0123456789abcdef]}"))

    assert (short.exit_code, enough.exit_code) == (0, 0)
    assert short.stderr.splitlines() == [
        "warning: endpoint main: a token has fewer than 16 characters: it can be guessed"
    ]
    assert "0123456789abcde" not in short.output
    assert enough.stderr == ""


def test_a_password_in_the_clear_is_a_warning(tmp_path: Path) -> None:
    sasl = {"mechanism": "PLAIN", "username": "u", "password": "hunter2"}
    settings = configuration("kafka:9092", "t")
    settings["kafka"]["security"] = {"protocol": "SASL_PLAINTEXT", "sasl": sasl}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(settings))

    result = run("--config", str(file))

    assert result.exit_code == 0
    assert "the password goes over the network in the clear" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("protocol", "url", "warned"),
    [
        (
            "SASL_SSL",
            "http://login.example.com/token",
            "kafka.security.sasl.token_url: the client's secret",
        ),
        (
            "SASL_PLAINTEXT",
            "https://login.example.com/token",
            "kafka.security: the token goes over the network in",
        ),
        ("SASL_SSL", "https://login.example.com/token", None),
        ("SASL_SSL", "http://127.0.0.1:8080/token", None),
        ("SASL_SSL", "http://[::1]/token", None),
    ],
)
def test_a_token_in_the_clear_is_a_warning(
    tmp_path: Path, protocol: str, url: str, warned: str | None
) -> None:
    """Unless it does not leave the machine."""
    sasl = {"mechanism": "OAUTHBEARER", "client_id": "c", "client_secret": "hunter2"}
    settings = configuration("kafka:9092", "t")
    settings["kafka"]["security"] = {"protocol": protocol, "sasl": {**sasl, "token_url": url}}
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(settings))

    result = run("--config", str(file))

    assert result.exit_code == 0
    assert "hunter2" not in result.output
    if warned is None:
        assert "over the network" not in result.stderr
    else:
        assert f"warning: {warned}" in result.stderr


def test_a_word_that_means_something_else_than_the_built_in_one_is_a_warning(
    tmp_path: Path,
) -> None:
    settings = configuration("kafka:9092", "t")
    settings["endpoints"][0]["auth"] = {"tokens": ["a-token-of-a-test"]}
    settings["events"]["statuses"] = {
        "expired": {"outcome": "delivered"},
        "deliver": {"final": True, "outcome": "delivered"},
        "accepted": {"outcome": "pending", "final": False, "rank": 1},
        "lost": {"outcome": "undelivered"},
    }
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(settings))

    result = run("--config", str(file))

    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "warning: events.statuses.expired: the built-in word means undelivered, and here delivered",
        "warning: events.statuses.lost: without a rank it never comes before a word that has one",
    ]


def test_no_env_takes_an_unset_name_for_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEBHOOK_TOKEN", raising=False)
    file = config(tmp_path, auth='{tokens: ["${WEBHOOK_TOKEN}"]}')

    assert run("--config", file, "--no-env").exit_code == 0
    strict = run("--config", file)
    assert strict.exit_code == 78
    assert "WEBHOOK_TOKEN is not set" in strict.stderr


def test_no_env_and_connect_exclude_each_other(tmp_path: Path) -> None:
    assert run("--config", config(tmp_path), "--no-env", "--connect").exit_code == 2


def test_connect_shows_topics_that_exist(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    make(embedded, topic, f"{topic}.rejected")

    result = run("--config", config(tmp_path, embedded.bootstrap_servers, topic), "--connect")

    assert result.exit_code == 0, result.output
    assert f"topic {topic}: exists, 4 partitions, 1 replica" in result.stdout
    assert f"topic {topic}.rejected: exists, 4 partitions, 1 replica" in result.stdout


def test_connect_says_how_to_create_what_is_missing(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    """One topic of two is missing: it is not made by the look at it, and the end is 1."""
    make(embedded, topic)
    file = config(tmp_path, embedded.bootstrap_servers, topic)

    for _ in range(2):
        result = run("--config", file, "--connect")

        assert result.exit_code == 1
        assert f"topic {topic}: exists" in result.stdout
        assert f"topic {topic}.rejected: missing" in result.stdout
        assert "  kafka-topics.sh --create --bootstrap-server" in result.stdout
        assert ": ok" not in result.stdout


def test_connect_ends_with_1_where_no_broker_answers(tmp_path: Path) -> None:
    result = run("--config", config(tmp_path, "127.0.0.1:1"), "--connect")

    assert result.exit_code == 1
    assert "sms-bridge: cannot reach Kafka at 127.0.0.1:1" in result.stderr


def test_connect_says_what_is_at_risk_and_require_makes_it_a_failure(
    kafka: ExternalKafka, kafka_topic: str, tmp_path: Path
) -> None:
    """One replica: what is acknowledged is lost with its broker."""
    settings = configuration(kafka.bootstrap_servers, kafka_topic)
    settings["kafka"]["dead_letter_topic"] = None
    for durability, code in (("warn", 0), ("require", 1)):
        settings["kafka"]["durability"] = durability
        file = tmp_path / "bridge.yaml"
        file.write_text(yaml.safe_dump(settings))
        result = CliRunner().invoke(main, ["check", "--config", str(file), "--connect"])
        assert "not durable: replication factor 1: use 3" in result.stdout
        assert "not durable: min.insync.replicas 1: use 2" in result.stdout
        assert result.exit_code == code
    assert "durability is require" in result.stderr


# --- the provider ------------------------------------------------------------------------


def asked(directory: Path, timezone: str = "UTC", **provider: str) -> str:
    """A configuration with an account that can be asked."""
    whole = configuration("127.0.0.1:1", "t")
    whole["endpoints"][0] |= {"timezone": timezone, "provider": provider}
    (directory / "bridge.yaml").write_text(yaml.safe_dump(whole))
    return str(directory / "bridge.yaml")


def test_a_clock_that_fits_the_time_zone(tmp_path: Path) -> None:
    with Api({}, timezone="Asia/Kolkata") as api:
        file = asked(tmp_path, "Asia/Kolkata", url=f"{api.url}/xml", token=TOKEN)
        result = run("--config", file, "--provider")
    assert result.exit_code == 0, result.output
    assert "the account's clock fits Asia/Kolkata now, UTC+05:30" in result.stdout


def test_a_clock_that_does_not_fit_names_zones_that_would_and_what_to_ask(tmp_path: Path) -> None:
    """And which zone it is, is not concluded."""
    with Api({}, timezone="Asia/Kolkata") as api:
        file = asked(tmp_path, "Asia/Tokyo", url=f"{api.url}/json", format="json", token=TOKEN)
        result = run("--config", file, "--provider")
    assert result.exit_code == 1
    assert "is 03:30 h behind Asia/Tokyo: it is UTC+05:30" in result.stdout
    assert "these zones have that offset now: Asia/Kolkata" in result.stdout
    assert "ask the provider: in which time zone" in result.stdout
    fault = "endpoint main: the account's clock does not fit Asia/Tokyo"
    assert result.stderr.splitlines()[-1] == f"sms-bridge: {fault}"


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ({"token": "wrong"}, 'the provider refuses the request: "Incorrect login or password"'),
        ({"url": "https://127.0.0.1:1/xml"}, "cannot reach https://127.0.0.1:1/xml/time.php: "),
        ({"url": "{api}/nowhere"}, "/nowhere/time.php answers HTTP 404"),
    ],
)
def test_an_account_that_cannot_be_asked_is_one_line(
    tmp_path: Path, provider: dict[str, str], said: str
) -> None:
    with Api({}, token=TOKEN) as api:
        given = {"url": f"{api.url}/xml", "token": TOKEN} | provider
        file = asked(tmp_path, **{k: v.replace("{api}", api.url) for k, v in given.items()})
        result = run("--config", file, "--provider")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    assert lines[0].startswith("sms-bridge: endpoint main: ")
    assert said in lines[0]
    assert TOKEN not in result.output


def test_without_an_account_there_is_nothing_to_ask(tmp_path: Path) -> None:
    result = run("--config", config(tmp_path), "--provider")
    assert result.exit_code == 1
    assert "no endpoint has a provider" in result.stderr
    assert run("--config", config(tmp_path), "--provider", "--no-env").exit_code == 2
