import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from bridge.demo import story
from bridge.demo.child import Child
from bridge.demo.child import wait_until as poll
from bridge.demo.processes import Gateway, Landed
from bridge.demo.story import Score, conclude, start_again
from bridge.errors import BridgeError
from tests.support.marked import MARK, processes


@contextmanager
def demo(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run the demo in a process, and hold afterwards that none of its own is left."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, MARK: mark, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process, mark
        finally:
            process.terminate()
    poll(lambda: not processes(mark), "the end of every process")


@pytest.mark.embedded
def test_the_demo_tells_the_story_and_misses_nothing() -> None:
    """500 states under load and 5 before: all acknowledged, all read back, and 0 at the end.

    20 more outlast five attempts, and come back all the same.
    """
    with demo("--messages", "500") as (process, _):
        shown, _ = process.communicate(timeout=300)

    lines = shown.splitlines()
    assert process.returncode == 0, shown
    assert lines[-1] == "acknowledged 505, in Kafka 505, missing 0"
    assert re.search(r"3234  read .* partition \d, offset \d", shown)
    assert "<id_sms>3234</id_sms>" in shown
    assert "HTTP 503 after 2" in shown
    assert re.search(r"HTTP 200 after .* s: lists 3237, 3238", shown)
    assert re.search(r"killed \(SIGKILL\) with \d+ of them in Kafka", shown)
    assert "sms-bridge reconcile asked 20, published 20" in shown
    assert re.search(r"^sent +525 ", shown, re.MULTILINE)
    assert re.search(r"^reconciled +20 ", shown, re.MULTILINE)
    assert re.search(
        r"^events +525  in Kafka: the acknowledged and the reconciled", shown, re.MULTILINE
    )
    assert re.search(r"^missing +0 ", shown, re.MULTILINE)
    assert "\x1b" not in shown
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80


@pytest.mark.embedded
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing_running(number: signal.Signals) -> None:
    """The signal comes while the broker is frozen and the gateway waits for it."""
    with demo() as (process, mark):
        assert process.stdout is not None
        next(line for line in process.stdout if "broker frozen" in line)
        assert len(processes(mark)) == 3  # itself, the broker, the gateway
        process.send_signal(number)
        rest = process.stdout.read()

    assert process.returncode == 128 + number
    assert "broker frozen" not in rest  # what is interrupted is not written again


@pytest.mark.embedded
def test_keep_leaves_all_running_until_ctrl_c() -> None:
    """What it prints can be used: `tail` takes the configuration, and the inspector answers."""
    with demo("--messages", "20", "--keep") as (process, _):
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if line.startswith("Kafka is at"):
                break
        config = re.search(r"tail --config (\S+)", shown)
        assert config is not None, shown
        inspector = re.search(r"^  (http://127\.0\.0\.1:\d+/)$", shown, re.MULTILINE)
        assert inspector is not None, shown
        with urlopen(inspector[1]) as page:
            assert "Recent documents" in page.read().decode()
        seen = CliRunner().invoke(
            main, ["tail", "--config", config[1], "--from-beginning", "--max", "25"]
        )
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)

    assert re.search(r"curl --data-binary '<response>.*</response>'", shown)
    assert seen.exit_code == 0, seen.output
    assert len(seen.stdout.splitlines()) == 25
    assert process.returncode == 130


def test_a_port_that_is_taken_gives_way_to_another(tmp_path: Path) -> None:
    """Those after it, for health checks and inspector, stay as they were asked for."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = Gateway(tmp_path, "127.0.0.1:1", port=port)

    assert str(port) not in gateway.url
    assert gateway.admin_url == f"http://127.0.0.1:{port + 1}"
    assert gateway.inspector_url == f"http://127.0.0.1:{port + 2}/"


def test_a_directory_that_cannot_be_had_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = CliRunner().invoke(main, ["demo", "--directory", str(tmp_path / "file/run")])

    assert result.exit_code == 1
    assert result.stderr == f"sms-bridge: {tmp_path}/file/run: Not a directory\n"


def test_without_the_extra_there_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)

    result = CliRunner().invoke(main, ["demo"])

    assert result.exit_code == 1
    assert "the extra `embedded`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# --- what is counted ---------------------------------------------------------------------


def landed(id_sms: str, offset: int = 0) -> Landed:
    return Landed(0, offset, f"{id_sms}.hash", id_sms, "read", "delivered")


def test_an_id_that_is_acknowledged_and_not_in_kafka_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    score = Score(sent={"1", "2"}, acknowledged={"1", "2"})

    assert not conclude(score, [landed("1"), landed("1", 1)])
    shown = capsys.readouterr().out
    assert shown.endswith("acknowledged 2, in Kafka 1, missing 1\n")
    assert re.search(r"^duplicates +1 ", shown, re.MULTILINE)


def test_an_id_that_stays_unacknowledged_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert not conclude(Score(sent={"1", "2"}, acknowledged={"1"}), [landed("1"), landed("2")])
    assert "1 were posted 5 times in vain" in capsys.readouterr().out


def test_an_id_that_is_reconciled_and_there_is_success_and_else_missing() -> None:
    score = Score(sent={"1", "2"}, acknowledged={"1"}, reconciled={"2"})
    assert conclude(score, [landed("1"), landed("2")])
    assert not conclude(score, [landed("1")])


def test_all_acknowledged_and_there_is_success() -> None:
    assert conclude(Score(sent={"1"}, acknowledged={"1"}), [landed("1")])


class SlowGateway(Gateway):
    """One that starts nothing, and is ready once the provider is frozen."""

    provider: Child

    def start(self) -> None:
        self._process = self.provider.process

    def ready(self) -> bool:
        return frozen(self.provider)


def frozen(child: Child) -> bool:
    status = Path(f"/proc/{child.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"


def test_the_provider_waits_for_a_gateway_that_starts_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its five attempts are over before a slow machine has started the gateway again."""
    monkeypatch.setattr(story, "LOAD_RETRY_SECONDS", 0.1)
    gateway = SlowGateway(tmp_path, "127.0.0.1:1")

    with Child("the provider", "cat") as provider:
        gateway.provider = provider
        assert start_again(gateway, provider) >= 0.1
        poll(lambda: not frozen(provider), "the provider to go on")


def test_a_gateway_that_ends_is_noticed_and_its_log_is_at_hand(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "127.0.0.1:1")
    gateway.config_file.write_text("nonsense: 1\n")

    with gateway, pytest.raises(BridgeError, match="the gateway is not running"):
        gateway.wait_until(gateway.ready, "the gateway")

    assert "nonsense: unknown key" in gateway.output
