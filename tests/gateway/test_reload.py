"""The configuration is read again while the gateway serves: what follows, and what never does."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.fake_kafka import until
from tests.support.gateway import Gateway, configuration
from tests.support.senders import Sender, document, memory, read_answer
from tests.support.topics import read_topic

OLD, NEW = "an-old-token-of-the-test", "a-new-token-of-the-test"
RELOADS = 100
GROWTH_BYTES = 8 * 1024 * 1024  # after the first reloads; each keeps less than a page
Config = dict[str, Any]


class Reloaded(Gateway):
    """A gateway whose configuration changes."""

    def __init__(self, config: Mapping[str, Any], **options: Any) -> None:
        super().__init__(config, **options)
        self.config: Config = dict(config)
        self._told = 0
        self.has_started = False

    def _spawn(self, stdout: Any, stderr: Any) -> None:
        super()._spawn(stdout, stderr)
        self.has_started = True

    def write(self, config: Mapping[str, Any] | str) -> None:
        """Put another configuration in the file's place, in one step."""
        text = config if isinstance(config, str) else yaml.safe_dump(dict(config))
        new = self.config_file.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config_file)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def reload(self, config: Mapping[str, Any] | str) -> dict[str, Any]:
        """Change the configuration, ask for it, and return the line that says what came of it."""
        self.write(config)
        self.hang_up()
        return self.told()

    def told(self) -> dict[str, Any]:
        """The next line on a reload."""
        wait_until(lambda: len(self._said()) > self._told, "it says what came of the reload")
        self._told += 1
        return self._said()[self._told - 1]

    def _said(self) -> list[dict[str, Any]]:
        return [line for line in self.logs() if line["event"].startswith("configuration ")]

    def metric(self, name: str) -> float:
        text = self.admin("/metrics").body.decode()
        return next(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith(f"sms_bridge_{name}")
        )


def with_token(config: Config, *tokens: str, **changes: Any) -> Config:
    endpoint = config["endpoints"][0] | {"auth": {"tokens": list(tokens)}} | changes
    return config | {"endpoints": [endpoint]}


@pytest.fixture
def config(embedded: EmbeddedBroker, topic: str) -> Config:
    make(embedded, topic, f"{topic}.rejected")
    return with_token(configuration(embedded.bootstrap_servers, topic), OLD)


def make(embedded: EmbeddedBroker, *topics: str) -> None:
    """Topics of the in-memory broker appear when somebody asks for them."""
    producer = Producer({"bootstrap.servers": embedded.bootstrap_servers})
    for name in topics:
        producer.list_topics(name, timeout=30)


@pytest.fixture
def gateway(config: Config) -> Iterator[Reloaded]:
    with Reloaded(config) as running:
        yield running


def status(gateway: Gateway, path: str = "/webhook", token: str = NEW) -> int:
    return gateway.post(document("1"), path=f"{path}?token={token}").status


def test_tokens_are_taken_up_and_told_without_their_values(
    gateway: Reloaded, config: Config
) -> None:
    assert (status(gateway, token=OLD), status(gateway, token=NEW)) == (200, 401)
    line = gateway.reload(with_token(config, NEW, OLD))
    assert (line["event"], line["changed"]) == (
        "configuration reloaded",
        ["endpoints[main].auth.tokens"],
    )
    assert (status(gateway, token=OLD), status(gateway, token=NEW)) == (200, 200)
    assert gateway.reload(with_token(config, NEW))["changed"] == ["endpoints[main].auth.tokens"]
    assert (status(gateway, token=OLD), status(gateway, token=NEW)) == (401, 200)
    assert gateway.metric('config_reloads_total{result="success"}') == 2
    assert OLD not in gateway.output
    assert NEW not in gateway.output


def test_everything_at_once(gateway: Reloaded, config: Config) -> None:
    """Limits, addresses, statuses, the log, endpoints that are added and removed."""
    main = config["endpoints"][0]
    brand = main | {"name": "brand", "path": "/brand", "source": "urn:example:sms:brand"}
    line = gateway.reload(
        config
        | {
            "endpoints": [main | {"path": "/moved"}, brand],
            "server": config["server"]
            | {"max_body_bytes": 500, "max_in_flight": 3, "trusted_proxies": ["127.0.0.1"]},
            "events": config["events"] | {"statuses": {"accepted": {"outcome": "pending"}}},
            "log": {"level": "debug", "format": "json"},
        }
    )
    assert line["added"] == ["endpoints[brand]"]
    assert set(line["changed"]) == {
        "endpoints[main].path",
        "events.statuses",
        "log.level",
        "server.max_body_bytes",
        "server.max_in_flight",
        "server.trusted_proxies",
    }
    assert [status(gateway, path, OLD) for path in ("/webhook", "/moved", "/brand/")] == [
        404,
        200,
        200,
    ]
    assert gateway.post(b"x" * 501, path=f"/brand?token={OLD}").status == 413
    assert gateway.metric("in_flight_posts_limit") == 3
    accepted = document("2", status="accepted")
    assert gateway.post(accepted, path=f"/brand?token={OLD}").status == 200
    labels = 'endpoint="brand",outcome="published",status="accepted"'
    assert gateway.metric(f"states_total{{{labels}}}") == 1
    told = gateway.post(b"", path="/brand", headers={"X-Forwarded-For": "203.0.113.9"})
    assert told.status == 401
    wait_until(
        lambda: any(line.get("client") == "203.0.113.9" for line in gateway.logs()),
        "the log names the client that the proxy names",
    )

    line = gateway.reload(with_token(config, OLD))
    assert line["removed"] == ["endpoints[brand]"]
    assert status(gateway, "/brand", OLD) == 404
    assert 'endpoint="brand"' not in gateway.admin("/metrics").body.decode()


def test_the_log_s_level_and_form_change(gateway: Reloaded, config: Config) -> None:
    """Of lines that go past structlog, and of those that do not; and back again."""
    forms = [("warning", "json"), ("info", "console"), ("info", "json")]
    for number, (level, form) in enumerate(forms, start=1):
        gateway.write(config | {"log": {"level": level, "format": form}})
        gateway.hang_up()  # its line may be none, or for people
        wait_until(partial(has_reloaded, gateway, number), "it has reloaded")
        assert status(gateway, token=OLD) == 200
    wait_until(
        lambda: len([line for line in gateway.logs() if line["event"] == "request"]) == 1,
        "one line in JSON",
    )
    (request,) = [line for line in gateway.output.splitlines() if "status=200" in line]
    assert "[info" in request


def has_reloaded(gateway: Reloaded, times: int) -> bool:
    return gateway.metric('config_reloads_total{result="success"}') == times


REFUSED: dict[str, tuple[Callable[[Config], Config | str], str]] = {
    "port": (lambda c: c | {"server": c["server"] | {"port": 9999}}, "server.port"),
    "source": (lambda c: with_token(c, OLD, source="urn:x"), "endpoints[main].source"),
    "brokers": (
        lambda c: c | {"kafka": c["kafka"] | {"bootstrap_servers": "other:9092"}},
        "kafka.bootstrap_servers",
    ),
    "unknown key": (lambda c: c | {"server": c["server"] | {"prot": 1}}, "server.prot"),
    "not YAML": (lambda _: "endpoints: [", "not valid YAML"),
    "half of it": (lambda c: yaml.safe_dump(c)[:150], "required"),
    "empty": (lambda _: "", "is empty"),
    "open": (with_token, "needs at least one of tokens"),
}


def test_what_is_refused_changes_nothing(gateway: Reloaded, config: Config) -> None:
    """Not even the part of it that could be taken up: the token and the level that come along."""
    for make, named in REFUSED.values():
        changed = make(config)
        if isinstance(changed, dict):
            changed = changed | {"log": {"level": "debug", "format": "json"}}
        line = gateway.reload(changed)
        assert line["event"] == "configuration not reloaded; the former one stays in use"
        assert any(named in problem for problem in line["problems"]), line
        assert gateway.metric("config_last_reload_successful") == 0
        assert status(gateway, token=OLD) == 200
    assert gateway.metric('config_reloads_total{result="refused"}') == len(REFUSED)
    assert gateway.reload(config)["event"] == "configuration reloaded: nothing has changed"
    assert gateway.metric("config_last_reload_successful") == 1
    assert not [line for line in gateway.logs() if line["level"] == "debug"]


def test_a_change_of_the_file_is_enough_and_a_wrong_one_is_told_once(
    gateway: Reloaded, config: Config
) -> None:
    gateway.write("endpoints: [")
    assert "not reloaded" in gateway.told()["event"]
    gateway.write(with_token(config, NEW))
    assert gateway.told()["event"] == "configuration reloaded"
    assert status(gateway) == 200
    assert gateway.metric('config_reloads_total{result="refused"}') == 1


def test_what_does_not_fit_the_command_line_is_refused_like_all_else(config: Config) -> None:
    """In the parent and in each process that serves: a line, and no traceback."""
    with Reloaded(config, options=("--processes", "2")) as gateway:
        gateway.write(config | {"inspector": {"port": 0}})
        refused = [gateway.told() for _ in range(3)]
        what = "inspector: only with server.processes 1, and --processes is 2"
        for line in refused:
            assert line["event"] == "configuration not reloaded; the former one stays in use"
            assert line["problems"] == [f"{gateway.config_file}: {what}"]
            assert "exception" not in line
        gateway.write(with_token(config, NEW))
        wait_until(lambda: status(gateway) == 200, "what fits is taken up")


def test_a_secret_s_file_is_followed_through_links(config: Config, tmp_path: Path) -> None:
    """As Kubernetes renews a mounted Secret: one link is replaced, and no file changes."""
    for name, token in (("first", OLD), ("second", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"{token}\n")
    (tmp_path / "data").symlink_to("first")
    (tmp_path / "token").symlink_to("data/token")
    with Reloaded(with_token(config, f"${{file:{tmp_path}/token}}", "${OLD_TOKEN:-}")) as gateway:
        assert status(gateway, token=OLD) == 200
        (tmp_path / "new").symlink_to("second")
        (tmp_path / "new").rename(tmp_path / "data")
        assert gateway.told()["changed"] == ["endpoints[main].auth.tokens"]
        assert (status(gateway, token=OLD), status(gateway, token=NEW)) == (401, 200)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "no regular file"),
    "a directory": (Path.mkdir, "Is a directory"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels"),
    "a link to what never ends": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "nothing": (lambda _: None, "No such file"),
    "far too much": (lambda path: path.write_bytes(b"#" * (1 << 20) + b"#"), "larger than 1 MiB"),
    "what is no text": (lambda path: path.write_bytes(b"\xff"), "not UTF-8"),
}


@pytest.mark.parametrize("what", ["configuration", "secret"])
def test_a_file_that_cannot_be_read_holds_nothing_up(
    config: Config, tmp_path: Path, what: str
) -> None:
    """Not even one that nobody writes to: it is refused, and what is put right is taken up."""
    secret = tmp_path / "token"
    secret.write_text(OLD)
    with Reloaded(with_token(config, f"${{file:{secret}}}")) as gateway:
        path = secret if what == "secret" else gateway.config_file
        right = path.read_text()
        threads = thread_count(gateway)
        for make, why in BAD_FILES.values():
            path.unlink()
            make(path)
            gateway.hang_up()
            line = gateway.told()
            assert line["event"] == "configuration not reloaded; the former one stays in use"
            assert why in str(line["problems"])
            assert status(gateway, token=OLD) == 200
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            path.write_text(right)
            gateway.hang_up()
            assert gateway.told()["event"] == "configuration reloaded: nothing has changed"
        assert thread_count(gateway) <= threads + 1  # one reads, now and then
        path.unlink()
        os.mkfifo(path)
        gateway.told()  # without being asked
        assert gateway.terminate() == 0


def thread_count(gateway: Gateway) -> int:
    return len(list(Path(f"/proc/{gateway.pid}/task").iterdir()))


def test_a_token_that_is_short_is_warned_of_once(gateway: Reloaded, config: Config) -> None:
    for level in ("info", "debug"):
        changed = with_token(config, "short", OLD) | {"log": {"level": level, "format": "json"}}
        gateway.reload(changed)
    warned = [line for line in gateway.logs() if "fewer than 16" in line["event"]]
    assert [line["endpoint"] for line in warned] == ["main"]


def test_endpoints_have_topics_of_their_own(
    gateway: Reloaded, config: Config, embedded: EmbeddedBroker, topic: str
) -> None:
    """The topic is known before the first post comes to it."""
    make(embedded, f"{topic}.brand")
    main = config["endpoints"][0]
    brand = {"name": "brand", "path": "/brand", "source": "urn:b", "topic": f"{topic}.brand"}
    gateway.reload(config | {"endpoints": [main, main | brand]})
    assert status(gateway, "/brand", OLD) == 200
    assert [r.key for r in read_topic(embedded.bootstrap_servers, f"{topic}.brand")] == [b"1"]


# --- under load --------------------------------------------------------------------------


class Client:
    """One connection that posts for as long as it is told to, with one token and then another."""

    def __init__(self, gateway: Reloaded, name: str) -> None:
        self._gateway = gateway
        self._sender = Sender(gateway.server_address)
        self._name = name
        self.token = OLD
        self.statuses: list[int | None] = []
        self.acknowledged: set[str] = set()
        self.wrong: list[object] = []

    async def run(self, ended: asyncio.Event) -> None:
        number = 0
        while not ended.is_set():
            id_sms = f"{self._name}.{number}"
            post = await self._post(id_sms)
            self.statuses.append(post.status)
            if post.listed != {id_sms} or post.closes:
                self.wrong.append((id_sms, post))
            self.acknowledged |= post.listed
            number += 1
        self._sender.close()

    async def _post(self, id_sms: str) -> Any:
        body = document(id_sms)
        head = f"POST /webhook?token={self.token} HTTP/1.1\r\nHost: x\r\n"
        return await self._sender.request(
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )


async def test_under_load_nothing_is_lost_and_nothing_answered_wrongly(
    gateway: Reloaded, config: Config, embedded: EmbeddedBroker, topic: str
) -> None:
    """A token is rotated while eight connections post, kept alive all the time.

    Each uses the old token until the new one was taken up, and the new one before the old one goes.
    """
    clients = [Client(gateway, f"c{n}") for n in range(8)]
    ended = asyncio.Event()
    tasks = [asyncio.create_task(client.run(ended)) for client in clients]

    async def some_posts() -> None:
        counts = [len(client.statuses) for client in clients]
        await until(
            lambda: all(len(c.statuses) > n + 3 for c, n in zip(clients, counts, strict=True))
        )

    await some_posts()
    for before, after in ((OLD, NEW), (NEW, OLD)) * 3:
        both = with_token(config, before, after)
        both["server"] = config["server"] | {"max_states": 100 + len(clients[0].statuses)}
        await asyncio.to_thread(gateway.reload, both)
        await some_posts()
        for client in clients:
            client.token = after
        await some_posts()
        await asyncio.to_thread(gateway.reload, with_token(config, after))
        await some_posts()
    ended.set()
    await asyncio.gather(*tasks)

    assert [client.wrong for client in clients if client.wrong] == []
    acknowledged = set().union(*(client.acknowledged for client in clients))
    records = read_topic(embedded.bootstrap_servers, topic, expect=len(acknowledged))
    assert {record.key.decode() for record in records if record.key} == acknowledged
    assert gateway.metric('config_reloads_total{result="success"}') == 12
    refused = gateway.metric('refused_total{endpoint="main",reason="credentials"}')
    assert refused == 0


async def test_what_is_in_flight_ends_as_it_began(gateway: Reloaded, config: Config) -> None:
    """A body of which half has come, by a token, a path and a limit that are gone by then."""
    body = document("1")
    reader, writer = await asyncio.open_connection(*gateway.server_address)
    head = f"POST /webhook?token={OLD} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:20])
    assert (await Sender(gateway.server_address).get("/no")).status == 404  # it has been read
    changed = with_token(config, NEW, path="/moved", name="other")
    changed["server"] = config["server"] | {"max_body_bytes": 50, "body_timeout_seconds": 0.001}
    await asyncio.to_thread(gateway.reload, changed)
    writer.write(body[20:])
    said, _, content = await read_answer(reader)
    assert (said, b"<id_sms>1</id_sms>" in content) == (200, True)
    writer.write(head.encode() + body)  # the same connection, and a request that begins now
    assert (await read_answer(reader))[0] == 404
    writer.transport.abort()
    assert gateway.metric("in_flight_bytes") == 0


def test_a_hundred_reloads_leave_nothing_behind(gateway: Reloaded, config: Config) -> None:
    """No memory, no descriptor, no thread; endpoints come and go."""

    def reload(number: int) -> None:
        token = f"{OLD}-{number}"
        extra = {"name": f"e{number}", "path": f"/{number}", "source": f"urn:x:{number}"}
        endpoints = [with_token(config, token)["endpoints"][0], config["endpoints"][0] | extra]
        line = gateway.reload(config | {"endpoints": endpoints})
        assert line["event"] == "configuration reloaded"
        assert status(gateway, token=token) == 200

    def open_files() -> int:
        return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))

    for number in range(RELOADS // 5):
        reload(number)
    before = memory(gateway.process.pid)[0], open_files(), thread_count(gateway)
    for number in range(RELOADS // 5, RELOADS):
        reload(number)
    wait_until(lambda: open_files() <= before[1], "descriptors are given back")
    assert thread_count(gateway) <= before[2]
    assert memory(gateway.process.pid)[0] - before[0] < GROWTH_BYTES
    series = gateway.admin("/metrics").body.decode()
    assert f'endpoint="e{RELOADS - 1}"' in series
    assert f'endpoint="e{RELOADS - 2}"' not in series


# --- whenever it comes -------------------------------------------------------------------


def test_a_hang_up_at_any_moment_ends_nothing(config: Config) -> None:
    """While it starts, serves and drains, from the first line of the command on."""
    delayed = config | {"server": config["server"] | {"drain_delay_seconds": 0.5}}
    gateway = Reloaded(delayed, wait_ready=False)
    ended = threading.Event()

    def hang_up_again_and_again() -> None:
        wait_until(lambda: gateway.has_started and _minds_hang_ups(gateway), "it minds hang-ups")
        while not ended.is_set() and gateway.process.poll() is None:
            gateway.hang_up()
            time.sleep(0.02)

    thread = threading.Thread(target=hang_up_again_and_again)
    thread.start()
    try:
        with gateway:
            assert status(gateway, token=OLD) in {200, 503}
            wait_until(lambda: status(gateway, token=OLD) == 200, "it has found Kafka")
            assert gateway.terminate() == 0
    finally:
        ended.set()
        thread.join()


def _minds_hang_ups(gateway: Reloaded) -> bool:
    """Whether SIGHUP, the first of the signals, is ignored or caught."""
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigIgn", "SigCgt"))]
    return any(mask & 1 for mask in masks)
