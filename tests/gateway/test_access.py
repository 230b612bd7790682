"""Who may post, as its users run it: several endpoints, addresses, and secrets that stay secret."""

import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka.admin import AdminClient

from bridge.cli.main import main
from bridge.config import loader as config
from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.gateway.app import public_app
from bridge.gateway.auth import Authenticator
from tests.support.gateway import Answer, Gateway, configuration
from tests.support.topics import Record, read_topic

SECRETS = {
    "WEBHOOK_TOKEN": "new+t0ken/of=the&main",
    "OLD_TOKEN": "old-t0ken",
    "WEBHOOK_PASSWORD": "pass:w0rd of main",
    "BRAND_TOKEN": "t0ken-of-brand",
}
FILED = "t0ken-in-a-file"
WRONG = "wr0ng-t0ken"  # what is nearly a secret is nobody's business either
USER = "provider"


def document(id_sms: str) -> bytes:
    state = f'<state id_sms="{id_sms}" time="2011-07-01 12:00:00" sms="read">read</state>'
    return f"<response>{state}</response>".encode()


def basic(password: str) -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(f'{USER}:{password}'.encode()).decode()}"}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def settings(servers: str, topic: str, directory: Path) -> dict[str, Any]:
    """Two accounts of the provider, all that may differ between them different; and addresses."""
    (directory / "token").write_text(f"{FILED}\n")
    main_one = {
        "name": "main",
        "path": "/webhook",
        "source": "urn:example:sms:main",
        "timezone": "Europe/Kyiv",
        "auth": {
            "tokens": ["${WEBHOOK_TOKEN}", "${OLD_TOKEN}", f"${{file:{directory}/token}}"],
            "basic": [{"username": USER, "password": "${WEBHOOK_PASSWORD}"}],
        },
    }
    brand = {
        "name": "brand",
        "path": "/accounts/brand",
        "source": "urn:example:sms:brand",
        "timezone": "Asia/Almaty",
        "auth": {"tokens": ["${BRAND_TOKEN}"]},
        "topic": f"{topic}.brand",
    }
    near = {
        "name": "near",
        "path": "/near",
        "source": "urn:example:sms:near",
        "timezone": "UTC",
        "auth": {"allow": ["127.0.0.2", "203.0.113.0/24"]},
    }
    whole = configuration(servers, topic, log={"level": "debug"})
    whole["server"] |= {"trusted_proxies": ["127.0.0.3"], "max_body_bytes": 100_000}
    return whole | {"endpoints": [main_one, brand, near]}


@pytest.fixture
def gateway(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Gateway]:
    """The program with secrets wherever they may stand, and its log at its wordiest."""
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap_servers, "log_level": 0})
    for name in (topic, f"{topic}.brand", f"{topic}.rejected"):
        admin.list_topics(name, timeout=10)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    # uvicorn's own way to believe X-Forwarded-For, which must have no say.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    with Gateway(settings(embedded.bootstrap_servers, topic, tmp_path)) as running:
        yield running


def post_from(gateway: Gateway, source: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Post to /near from another address of the loopback network."""
    connection = http.client.HTTPConnection(
        *gateway.server_address, timeout=30, source_address=(source, 0)
    )
    try:
        connection.request("POST", "/near", body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()


def raw(gateway: Gateway, request: bytes) -> bytes:
    """Whatever comes back for bytes that no client library would send."""
    with socket.create_connection(gateway.server_address, timeout=30) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def events(broker: EmbeddedBroker, topic: str, expect: int) -> list[dict[str, Any]]:
    records = read_topic(broker.bootstrap_servers, topic, expect=expect)
    return [json.loads(record.value or b"") for record in records]


def test_two_accounts_of_the_provider(
    gateway: Gateway, embedded: EmbeddedBroker, topic: str
) -> None:
    """Each with its own path, secret, source, time zone and topic; no secret opens the other."""
    main_token, brand_token = SECRETS["WEBHOOK_TOKEN"], SECRETS["BRAND_TOKEN"]
    brand = "/accounts/brand"
    assert gateway.post(document("1"), headers=bearer(main_token)).ids == ["1"]
    assert gateway.post(document("1"), path=brand, headers=bearer(brand_token)).ids == ["1"]
    assert gateway.post(document("2"), headers=bearer(brand_token)).status == 401
    assert gateway.post(document("2"), path=brand, headers=bearer(main_token)).status == 401
    (ours,), (theirs,) = events(embedded, topic, 1), events(embedded, f"{topic}.brand", 1)
    assert (ours["source"], ours["time"]) == ("urn:example:sms:main", "2011-07-01T09:00:00Z")
    assert (theirs["source"], theirs["time"]) == ("urn:example:sms:brand", "2011-07-01T06:00:00Z")
    assert ours["id"] != theirs["id"]


@pytest.mark.parametrize("token", [SECRETS["WEBHOOK_TOKEN"], SECRETS["OLD_TOKEN"], FILED])
def test_each_way_to_present_a_secret(gateway: Gateway, token: str) -> None:
    path = f"/webhook?token={quote(token, safe='')}"
    assert gateway.post(document("1"), path=path).ids == ["1"]
    assert gateway.post(document("1"), headers=bearer(token)).ids == ["1"]
    assert gateway.post(document("1"), headers=basic(SECRETS["WEBHOOK_PASSWORD"])).ids == ["1"]
    assert gateway.post(document("1"), headers=basic(token)).status == 401


SENDERS = [
    ("127.0.0.2", None, 200),
    ("127.0.0.1", None, 403),
    ("127.0.0.1", "127.0.0.2", 403),
    ("127.0.0.3", None, 403),
    ("127.0.0.3", "203.0.113.7", 200),
    ("127.0.0.3", "[::ffff:203.0.113.7]:5678, 127.0.0.3", 200),
    ("127.0.0.3", "203.0.113.7, 198.51.100.1", 403),
]


def test_addresses_of_real_connections(
    gateway: Gateway, embedded: EmbeddedBroker, topic: str
) -> None:
    """What is refused leaves no trace in Kafka, neither as a status nor as a dead letter."""
    expected = set()
    for number, (source, forwarded, status) in enumerate(SENDERS):
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        assert post_from(gateway, source, headers, document(str(number))).status == status
        not_xml = post_from(gateway, source, headers, f"not XML {number}".encode())
        assert not_xml.status == (400 if status == 200 else 403)
        if status == 200:
            expected.add(str(number))
    found = events(embedded, topic, len(expected))
    assert {event["subject"] for event in found} == expected
    buried = events(embedded, f"{topic}.rejected", len(expected))
    assert {event["data"]["body"].split()[-1] for event in buried} == expected


# --- secrets -----------------------------------------------------------------------------


def forms() -> list[str]:
    """Every secret, as it is and as it travels."""
    secrets = [*SECRETS.values(), FILED, WRONG]
    travelling = [basic(secret)["authorization"].split()[1] for secret in secrets]
    return [*secrets, *travelling, *(quote(secret, safe="") for secret in secrets)]


def found_in(text: str | bytes) -> list[str]:
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return [secret for secret in forms() if secret in text]


def every_kind_of_request(gateway: Gateway) -> Iterator[bytes]:
    """One of each answer, credentials in every place; the answers, heads included."""
    good, password = SECRETS["WEBHOOK_TOKEN"], SECRETS["WEBHOOK_PASSWORD"]
    credentials: list[tuple[str, dict[str, str]]] = [
        *((f"?token={quote(t, safe='')}", {}) for t in (good, FILED, WRONG)),
        *(("", bearer(t)) for t in (good, SECRETS["OLD_TOKEN"], WRONG)),
        *(("", basic(p)) for p in (password, WRONG)),
        (f"?token={WRONG}", bearer(good)),
    ]
    bodies = [document("1"), document("b@d"), b"not XML", b"", b" ", b"x" * 100_001]
    for query, headers in credentials:
        for body in bodies:
            yield shown(gateway.post(body, path=f"/webhook{query}", headers=headers))
        yield shown(gateway.post(b"", path=f"/nowhere{query}", headers=headers))
        encoded = headers | {"content-encoding": "gzip"}
        yield shown(gateway.post(b"x", path=f"/webhook{query}", headers=encoded))
    token = quote(good, safe="").encode()
    for line in (
        b"GET /webhook?token=%b HTTP/1.1\r\n",
        b"POST /webhook?token=%b HTTP/1.0\r\n",
        b"POST /webhook?token=%b HTTP/9.9\r\n",
        b"POST /webhook?token=%b\x01 HTTP/1.1\r\n",
        b"POST /webhook?token=%b HTTP/1.1\r\nContent-Length: 99\r\n\r\n<response>",
        b"POST /webhook?token=%b HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n",
    ):
        yield raw(gateway, line % token + b"Host: x\r\n\r\n")


def shown(answer: Answer) -> bytes:
    return repr(answer).encode()


def records(broker: EmbeddedBroker, topic: str, expect: int) -> list[Record]:
    return read_topic(broker.bootstrap_servers, topic, expect=expect)


def test_no_secret_shows_anywhere(gateway: Gateway, embedded: EmbeddedBroker, topic: str) -> None:
    """Not in an answer, the log at debug, the metrics, Kafka, or the list of processes."""
    answers = list(every_kind_of_request(gateway))
    statuses = {
        code for code in (200, 400, 401, 404, 413, 415) for a in answers if b"%d" % code in a
    }
    assert statuses == {200, 400, 401, 404, 413, 415}
    assert [found for answer in answers if (found := found_in(answer))] == []
    for path in ("/metrics", "/livez", "/readyz", f"/nowhere?token={WRONG}"):
        assert found_in(gateway.admin(path).body) == []
    kept = [r for t in (topic, f"{topic}.rejected") for r in records(embedded, t, 1)]
    assert [found for record in kept if (found := found_in(repr(record)))] == []
    process = Path(f"/proc/{gateway.process.pid}")
    for file in ("cmdline", "comm", "status"):
        assert found_in((process / file).read_bytes()) == []
    gateway.terminate()
    output = gateway.output
    assert found_in(output) == []
    assert "?token" not in output
    # It was there to be found: the log is at debug, and says that credentials were wrong.
    assert '"debug"' in output
    assert '"credentials":"wrong"' in output


def test_no_secret_shows_where_kafka_is_away(
    tmp_path: Path, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client's own complaints, and the ids that were not listed, are all that is said."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    whole = settings("127.0.0.1:1", topic, tmp_path)
    whole["kafka"]["publish_timeout_seconds"] = 0.3
    with Gateway(whole, wait_ready=False) as alone:
        path = f"/webhook?token={FILED}"
        assert alone.post(document("4711"), path=path).status == 503
        wait_until(lambda: "4711" in alone.output, "the id is in the log")
        wait_until(lambda: "cannot reach Kafka" in alone.output, "it complains")
        assert found_in(alone.output) == []


def test_no_secret_shows_in_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "bridge.yaml"
    whole = settings("127.0.0.1:1", "t", tmp_path)
    for broken in ({}, {"prot": 1}):
        whole["server"] |= broken
        file.write_text(yaml.safe_dump(whole))
        for command in (["check"], ["check", "--no-env"], ["check", "--connect"], ["convert"]):
            arguments = [*command, "--config", str(file)]
            result = CliRunner().invoke(main, arguments, input=document("1"))
            assert result.exit_code in (0, 1, 78), result.output
            assert found_in(result.output) == []


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    """Nor in what a debugger or a traceback prints of the parts."""
    text = yaml.safe_dump(settings("127.0.0.1:1", "t", tmp_path))
    loaded = config.parse(text, file="F", environ=SECRETS)
    auths = [endpoint.auth for endpoint in loaded.endpoints]
    shown_parts = [loaded, *auths, *map(Authenticator.of, auths), public_app]
    for part in shown_parts:
        assert found_in(f"{part!r} {part}") == []
    assert found_in(loaded.model_dump_json()) == []
