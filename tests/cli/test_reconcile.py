"""`reconcile` as a command: lists, the topic, faults of the API, signals, and the way on."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka.admin import AdminClient

from bridge.cli.main import main
from bridge.demo.child import free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.simulate.api import Api, ApiFault
from tests.support.brokers import ExternalKafka
from tests.support.commands import command, options
from tests.support.gateway import configuration
from tests.support.provider import TOKEN, known
from tests.support.topics import read_topic

PAGE = Path(__file__).parents[2] / "docs/reconcile.md"
IDS = ["1", "2", "3", "4"]
FAST = ("--rate", "1000")


class Stage:
    """A topic, a configuration of it, and the provider's API."""

    def __init__(self, servers: str, topic: str, directory: Path, api: Api) -> None:
        self.servers = servers
        self.topic = topic
        self.api = api
        self.directory = directory
        self.file = directory / "bridge.yaml"
        self.config = configuration(servers, topic)
        self.configure(url=f"{api.url}/xml", token=TOKEN)

    def configure(self, **provider: Any) -> None:
        self.config["endpoints"][0]["provider"] = provider
        self.file.write_text(yaml.safe_dump(self.config))

    def run(self, *arguments: str, ids: Sequence[str] = IDS) -> Result:
        command = ["reconcile", "--config", str(self.file), *FAST, *arguments]
        return CliRunner().invoke(main, command, input="".join(f"{i}\n" for i in ids))

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "bridge", "reconcile", "--config", str(self.file)),
                *(*FAST, *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def published(self, expect: int = 0) -> list[str]:
        """The ids of the messages whose events the topic has."""
        records = read_topic(self.servers, self.topic, expect=expect)
        return sorted((r.key or b"").decode() for r in records)


@pytest.fixture
def stage(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> Iterator[Stage]:
    admin = AdminClient({"bootstrap.servers": embedded.bootstrap_servers, "log_level": 0})
    for name in (topic, f"{topic}.rejected"):
        admin.list_topics(name, timeout=10)
    with Api(known(IDS), token=TOKEN) as api:
        yield Stage(embedded.bootstrap_servers, topic, tmp_path, api)


def report(of: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(of.stdout.splitlines()[-1])
    return found


def test_a_list_of_ids_is_asked_for_and_published(stage: Stage) -> None:
    done = stage.run("-")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "asked      4",
        "answered   4",
        "new        4",
        "published  4",
        "unchanged  0",
    ]
    assert stage.published(4) == IDS


def test_the_log_is_a_work_list(stage: Stage) -> None:
    log = stage.directory / "bridge.log"
    lines = [
        {"event": "listening"},
        {"event": "request", "endpoint": "main", "unlisted_ids": ["1", "2"]},
        {"event": "request", "endpoint": "main", "unlisted_ids": ["2", "3"]},
    ]
    log.write_text("".join(f"[pod/a/gateway] {json.dumps(line)}\n" for line in lines))
    done = stage.run(str(log), "--json")
    assert done.exit_code == 0, done.output
    assert report(done) == report(done) | {"ok": True, "asked": 3, "published": 3}
    assert stage.published(3) == ["1", "2", "3"]


def test_a_dry_run_shows_what_would_be_published_and_publishes_nothing(stage: Stage) -> None:
    done = stage.run("-", "--dry-run")
    assert done.exit_code == 0, done.output
    shown = done.stdout.splitlines()
    assert re.match(r"would publish  1 +deliver +2026-01-05T12:00:00Z +1\.[0-9a-f]{32}$", shown[0])
    assert shown[-2:] == ["published  none: a dry run", "unchanged  0"]
    in_json = [
        json.loads(line) for line in stage.run("-", "--dry-run", "--json").stdout.splitlines()
    ]
    assert [line["key"] for line in in_json[:-1]] == IDS
    assert in_json[0]["value"]["data"]["status"] == "deliver"
    assert (in_json[-1]["new"], in_json[-1]["published"]) == (4, 0)
    assert stage.published() == []


def test_what_the_topic_has_is_not_published_again(stage: Stage) -> None:
    assert stage.run("-").exit_code == 0
    stage.api.states = {**known(["1", "2"], "read"), **known(["3", "4"])}
    done = stage.run("--from-topic", "--json")
    assert done.exit_code == 0, done.output
    assert report(done) == report(done) | {"asked": 4, "new": 2, "published": 2, "unchanged": 2}
    assert stage.published(6) == sorted([*IDS, "1", "2"])
    # What is final now is not asked for, but for what was not heard of lately.
    assert report(stage.run("--from-topic", "--json"))["asked"] == 2
    assert report(stage.run("--from-topic", "--older-than", "0s", "--json"))["asked"] == 4
    assert report(stage.run("--from-topic", "--older-than", "1h", "--json"))["asked"] == 2
    assert report(stage.run("--from-topic", "--since", "2100-01-01", "--json"))["asked"] == 0


def test_the_exit_code_is_1_for_whatever_is_left(stage: Stage) -> None:
    for ids, name in ((["9"], "unknown"), (["two words"], "unreadable_lines")):
        done = stage.run("-", "--json", ids=[*IDS, *ids])
        assert done.exit_code == 1
        assert report(done)["published"] == 4
        assert report(done)[name]
    stage.api.states = known(IDS, "not a word")
    done = stage.run("-", "--json")
    assert (done.exit_code, report(done)["rejected"]) == (1, 4)


# --- faults ------------------------------------------------------------------------------

FAULTS = {
    "`<error>`": ApiFault.ERROR,
    "5xx": ApiFault.UNAVAILABLE,
    "a hang": ApiFault.HANG,
    "a broken connection": ApiFault.CUT,
    "not its own answer": ApiFault.HTML,
    "a redirect": ApiFault.REDIRECT,
    "an answer without end": ApiFault.HUGE,
    "a foreign id": ApiFault.FOREIGN,
    "a message left out": ApiFault.MISSING,
}
OTHERWISE = {"wrong login", "no connection", "a certificate that is not valid"}


def table() -> dict[str, tuple[str, str]]:
    """The page's faults: what each says, and what is published."""
    section = PAGE.read_text("utf-8").partition("## When the provider fails")[2]
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| (.+?) \|$", section, re.MULTILINE)
    return {fault: (said, published) for fault, said, published in rows}


def test_the_page_has_every_fault_of_the_simulated_api() -> None:
    assert {*table()} == {*FAULTS, *OTHERWISE}
    assert {*FAULTS.values()} == {*ApiFault} - {ApiFault.LOGIN}  # a wrong login is its own


def expect(stage: Stage, fault: str, *arguments: str) -> None:
    """Hold a run against the page's row of a fault."""
    said, published = table()[fault]
    done = stage.run("-", "--json", *arguments)
    pattern = re.escape(said).replace("…", ".*")
    assert re.search(pattern, done.stderr), (said, done.stderr)
    assert TOKEN not in done.output
    if published.startswith("all"):
        assert done.exit_code == 0, done.output
        assert stage.published(4) == IDS
    else:
        assert published.startswith("nothing")
        assert (done.exit_code, report(done)["not_asked"]) == (1, 4)
        assert stage.published() == []


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_says_what_the_page_says_and_loses_nothing(stage: Stage, fault: str) -> None:
    stage.api.faults.append(FAULTS[fault])
    expect(stage, fault, "--timeout-seconds", "1")


def test_a_wrong_login_is_not_tried_a_third_time(stage: Stage) -> None:
    stage.configure(url=f"{stage.api.url}/xml", token="wrong")
    expect(stage, "wrong login")
    assert stage.api.asked == []


def test_a_provider_that_comes_back_is_asked_again(stage: Stage) -> None:
    """The first request finds nobody; the API is there at the second."""
    said, _ = table()["no connection"]
    (port,) = free_ports(1)
    stage.configure(url=f"http://127.0.0.1:{port}/xml", token=TOKEN)
    ids = stage.directory / "ids"
    ids.write_text("\n".join(IDS))
    with stage.start(str(ids), "--json") as process:
        assert process.stderr is not None
        lines = [process.stderr.readline(), process.stderr.readline()]
        assert re.search(re.escape(said).replace("…", ".*"), lines[1]), lines
        with Api(known(IDS), token=TOKEN, port=port):
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert stage.published(4) == IDS


# --- interrupted -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_where_it_was_and_goes_on_from_there(
    stage: Stage, number: signal.Signals
) -> None:
    ids = [str(n) for n in range(100, 140)]
    stage.api.states = known(ids)
    stage.api.pause_seconds = 0.1
    work, place = stage.directory / "ids", stage.directory / "place"
    work.write_text("\n".join(ids))
    arguments = [str(work), "--resume", str(place), "--batch", "4"]
    with stage.start(*arguments) as process:
        wait_until(lambda: len(stage.api.asked) >= 3, "some batches were asked for")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    told = re.search(r"interrupted: (\d+) of 40 messages settled; go on with --resume (.*)", said)
    assert told is not None, said
    settled = int(told[1])
    assert 4 <= settled < 40
    assert settled == len(stage.published(settled))

    stage.api.pause_seconds = 0
    done = stage.run("--resume", str(place), "--json")
    assert done.exit_code == 0, done.output
    # The report is of the whole run.
    assert report(done) == report(done) | {"ok": True, "asked": 40, "published": 40}
    assert {*stage.published(40)} == {*ids}
    assert not place.exists()


def test_a_file_of_another_run_is_not_gone_on_with(stage: Stage) -> None:
    place = str(stage.directory / "place")
    stage.api.faults.append(ApiFault.REDIRECT)
    assert stage.run("-", "--resume", place).exit_code == 1
    other = stage.run("-", "--resume", place, ids=["7"])
    assert other.exit_code == 1
    assert "was written by a run for other messages" in other.stderr
    assert stage.run("-", "--resume", place).exit_code == 0
    again = stage.run("--resume", place)
    assert again.stderr.endswith("does not exist: there is nothing to go on with\n")


# --- usage and configuration -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name the messages"),
        (["-", "--since", "1d"], "--since and --older-than are about --from-topic"),
        (["-", "--dry-run", "--resume", "f"], "a --dry-run settles nothing"),
        (["--from-topic", "--since", "yesterday"], "must be a time"),
        (["-", "--batch", "0"], "--batch"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["reconcile", *arguments], input="1\n")
    assert done.exit_code == 2
    assert said in done.stderr


def write(directory: Path, *endpoints: dict[str, Any], servers: str = "127.0.0.1:1") -> str:
    config = configuration(servers, "t")
    config["endpoints"] = [config["endpoints"][0] | changes for changes in endpoints]
    (directory / "bridge.yaml").write_text(yaml.safe_dump(config))
    return str(directory / "bridge.yaml")


PROVIDER = {"provider": {"url": "https://127.0.0.1:1/xml", "token": TOKEN}}
OTHER = {"name": "other", "path": "/other", "source": "urn:example:sms:other"}


@pytest.mark.parametrize(
    ("endpoints", "arguments", "said"),
    [
        ([{}], [], "any endpoint has no provider: set endpoints[].provider"),
        ([PROVIDER, OTHER], ["--endpoint", "other"], "other has no provider"),
        ([PROVIDER], ["--endpoint", "brand"], "there is no endpoint brand: there are main"),
        ([PROVIDER, OTHER | PROVIDER], [], "name one of main, other with --endpoint"),
        ([PROVIDER], [], "cannot reach Kafka"),
    ],
)
def test_what_cannot_begin_is_one_clear_line(
    tmp_path: Path, endpoints: list[dict[str, Any]], arguments: list[str], said: str
) -> None:
    config = write(tmp_path, *endpoints)
    done = CliRunner().invoke(main, ["reconcile", "-", "--config", config, *arguments], input="1\n")
    assert done.exit_code == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ids_of_an_endpoint_without_a_provider_are_left_out_and_told(stage: Stage) -> None:
    line = json.dumps({"endpoint": "elsewhere", "unlisted_ids": ["5", "6"]})
    done = stage.run("-", ids=["1", line])
    assert done.exit_code == 1
    assert "left out   no provider is configured for 2 of elsewhere" in done.stdout
    assert stage.published(1) == ["1"]


def test_a_topic_that_is_not_durable_enough_takes_nothing(
    kafka: ExternalKafka, topic: str, tmp_path: Path
) -> None:
    """As with serve, of which readiness keeps the provider's posts away."""
    kafka.create_topic(topic, 1)
    kafka.create_topic(f"{topic}.rejected", 1)
    with Api(known(IDS)) as api:
        stage = Stage(kafka.bootstrap_servers, topic, tmp_path, api)
        stage.config["kafka"]["durability"] = "require"
        stage.configure(url=f"{api.url}/xml", token=TOKEN)
        done = stage.run("-")
    assert done.exit_code == 1
    assert "is not durable, and durability is require" in done.stderr
    assert api.asked == []


def test_plain_http_works_with_a_warning(stage: Stage) -> None:
    what = "the credentials for the provider's API go over the network in the clear"
    assert stage.run("-").stderr == f"sms-bridge: warning: endpoint main: {what}\n"


def test_credentials_are_no_options_which_everyone_on_the_machine_could_read() -> None:
    for name in ("reconcile", "check"):
        assert not {"--token", "--login", "--password"} & options(command(name))
