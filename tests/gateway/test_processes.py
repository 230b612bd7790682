"""Several processes on one port: each serves, one that ends is replaced, all end together."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.config.settings import Settings
from bridge.demo.child import HOST, free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.demo.processes import bridge
from bridge.gateway import processes
from tests.support.gateway import Gateway, configuration
from tests.support.senders import Sender, document, read_answer
from tests.support.topics import read_topic

COUNT = 2
GRACE = 5.0
LEEWAY = 30.0  # of a busy machine

# A worker that says that it serves, and then what the test wants.
FAKE_WORKER = """
import json, socket, sys, time
control = socket.socket(fileno=int(sys.argv[-1].split(",")[-1]))
report = {"asked": 0, "not_ready_because": None, "metrics": []}
control.sendall(json.dumps(report).encode() + b"\\n")
"""


@pytest.fixture
def broker(new_embedded: type[EmbeddedBroker], topic: str) -> Iterator[EmbeddedBroker]:
    with new_embedded(topic, f"{topic}.rejected") as running:
        yield running


@pytest.fixture
def gateway(broker: EmbeddedBroker, topic: str) -> Iterator[Gateway]:
    server = {"processes": COUNT, "shutdown_grace_seconds": GRACE}
    config = configuration(broker.bootstrap_servers, topic, server=server)
    with Gateway(config) as running:
        # It is ready as soon as one is.
        wait_until(lambda: connected(running) == COUNT, "each process has its producer", LEEWAY)
        yield running


def workers(gateway: Gateway) -> list[int]:
    """The ids of the processes that the gateway has started."""
    return children(gateway.pid)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its status does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    text = gateway.admin("/metrics").body.decode()
    samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def counters(gateway: Gateway) -> dict[tuple[str, str], float]:
    """Every series that must not go backwards."""
    text = gateway.admin("/metrics").body.decode()
    return {
        (sample.name, str(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


def keys(broker: EmbeddedBroker, topic: str) -> set[str]:
    return {(r.key or b"").decode() for r in read_topic(broker.bootstrap_servers, topic)}


def connected(gateway: Gateway) -> float:
    return metric(gateway, "sms_bridge_producer_state", state="connected")


def served_by(gateway: Gateway) -> set[int]:
    return {line["process"] for line in gateway.logs() if line["event"] == "request"}


async def test_each_process_serves_and_one_answers_for_all(
    gateway: Gateway, broker: EmbeddedBroker, topic: str
) -> None:
    """Connections that are there at the same time are shared out; the metrics are sums."""
    senders = [Sender(gateway.server_address) for _ in range(8)]
    ids = [str(number) for number in range(8)]
    for sender, id_sms in zip(senders, ids, strict=True):
        assert (await sender.post(document(id_sms))).listed == {id_sms}
    assert keys(broker, topic) == {*ids}
    wait_until(lambda: served_by(gateway) == {1, 2}, "both have written their lines")
    assert metric(gateway, "sms_bridge_ids_total", listed="yes") == len(ids)
    assert metric(gateway, "sms_bridge_connections", listener="server") == len(ids)
    assert metric(gateway, "sms_bridge_processes") == COUNT
    assert metric(gateway, "sms_bridge_processes_configured") == COUNT
    assert metric(gateway, "sms_bridge_ready") == 1
    assert metric(gateway, "sms_bridge_build_info") == 1
    assert gateway.admin("/livez").status == 200
    (listening,) = [line for line in gateway.logs() if line["event"] == "listening"]
    assert listening["processes"] == COUNT
    for sender in senders:
        sender.close()


def test_one_that_is_killed_is_replaced_and_nothing_acknowledged_is_missing(
    gateway: Gateway, broker: EmbeddedBroker, topic: str
) -> None:
    """The other serves on, and what the dead one has counted counts on."""
    acknowledged = set[str]()
    for turn in range(3):
        for number in range(20):
            id_sms = f"{turn}-{number}"
            acknowledged.update(gateway.post(document(id_sms)).ids)
        before, running = counters(gateway), workers(gateway)
        os.kill(running[0], signal.SIGKILL)
        wait_until(lambda: not is_there(running[0]), "it is dead")  # noqa: B023 -- at once
        assert gateway.admin("/readyz").status == 200
        after = counters(gateway)
        assert {key for key in before if after.get(key, -1) < before[key]} == set()
        acknowledged.update(gateway.post(document(f"{turn}-other")).ids)
        wait_until(lambda: metric(gateway, "sms_bridge_processes") == COUNT, "it is back", LEEWAY)
    assert len(acknowledged) == 3 * 21
    assert keys(broker, topic) >= acknowledged
    assert metric(gateway, "sms_bridge_process_restarts_total", cause="killed") == 3
    ended = [line for line in gateway.logs() if line["event"] == "process ended"]
    assert {(line["cause"], line["status"]) for line in ended} == {("killed", "-9")}
    assert gateway.terminate() == 0


def test_one_that_is_terminated_alone_drains_and_is_replaced(gateway: Gateway) -> None:
    """As who restarts them by hand does."""
    first = workers(gateway)[0]
    os.kill(first, signal.SIGTERM)
    wait_until(lambda: not is_there(first), "it has ended", LEEWAY)
    wait_until(lambda: metric(gateway, "sms_bridge_processes") == COUNT, "it is back", LEEWAY)
    assert metric(gateway, "sms_bridge_process_restarts_total", cause="exited") == 1
    assert gateway.terminate() == 0


@pytest.mark.parametrize("to_all", [False, True], ids=["the parent", "every process"])
async def test_what_is_in_flight_is_answered_before_all_end(
    gateway: Gateway, broker: EmbeddedBroker, topic: str, *, to_all: bool
) -> None:
    """Who stops services may send SIGTERM to each process: that is no second signal."""
    body = document("1")
    half_sent = []
    for _ in range(6):
        reader, writer = await asyncio.open_connection(*gateway.server_address)
        writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body[:20])
        half_sent.append((reader, writer))
    wait_until(
        lambda: metric(gateway, "sms_bridge_in_flight_bytes") >= 6 * 20, "they are in flight"
    )
    running = workers(gateway)
    for pid in [*running, gateway.pid] if to_all else [gateway.pid]:
        os.kill(pid, signal.SIGTERM)
    draining = {None, 1, 2}
    wait_until(
        lambda: {x.get("process") for x in gateway.logs() if x["event"] == "draining"} == draining,
        "all of them drain",
    )
    assert gateway.admin("/readyz").status == 503
    for reader, writer in half_sent:
        writer.write(body[20:])
        status, _, content = await read_answer(reader)
        writer.transport.abort()
        assert status == 200
        assert b"<id_sms>1</id_sms>" in content
    assert await asyncio.to_thread(gateway.process.wait, GRACE + LEEWAY) == 0
    assert keys(broker, topic) == {"1"}
    assert not any(map(is_there, running))
    assert gateway.logs()[-1]["event"] == "stopped"
    assert "process" not in gateway.logs()[-1]


def test_a_hangup_ends_none_of_them(gateway: Gateway) -> None:
    """It is passed on to those that serve."""
    running = workers(gateway)
    os.kill(gateway.pid, signal.SIGHUP)
    assert gateway.post(document("1")).ids == ["1"]
    assert metric(gateway, "sms_bridge_processes") == COUNT
    assert workers(gateway) == running
    assert gateway.terminate() == 0


async def test_a_second_signal_ends_all_at_once(gateway: Gateway) -> None:
    _, writer = await asyncio.open_connection(*gateway.server_address)
    writer.write(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n<response>")
    wait_until(lambda: metric(gateway, "sms_bridge_in_flight_bytes") > 0, "it is in flight")
    running = workers(gateway)
    for _ in range(2):
        os.kill(gateway.pid, signal.SIGINT)
        wait_until(lambda: b"draining" in gateway.log_file.read_bytes(), "it drains")
    assert await asyncio.to_thread(gateway.process.wait, LEEWAY) == -signal.SIGINT
    wait_until(lambda: not any(map(is_there, running)), "none is left", GRACE / 2)
    writer.close()


@pytest.mark.parametrize("frozen", [False, True])
def test_no_process_outlives_the_parent(gateway: Gateway, *, frozen: bool) -> None:
    """Not even one that could not notice; the port is free for the next."""
    running = workers(gateway)
    assert len(running) == COUNT
    if frozen:
        os.kill(running[0], signal.SIGSTOP)
    os.kill(gateway.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_there, running)), "none is left")


def test_a_port_that_cannot_be_had_is_an_error_as_with_one_process(
    broker: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    (admin,) = free_ports(1)
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        config = configuration(
            broker.bootstrap_servers, topic, server={"port": port}, admin={"port": admin}
        )
        said = [run(config, tmp_path, *options) for options in ((), ("--processes", "3"))]
    assert said[0] == said[1]
    assert said[0][0] == 1
    assert f"sms-bridge: cannot listen on {HOST}:{port}" in said[0][1]


def run(config: dict[str, Any], directory: Path, *options: str) -> tuple[int, str]:
    """Run `serve` to its end; its status, and its last line."""
    file = directory / "bridge.yaml"
    file.write_text(yaml.safe_dump(config))
    command = bridge("serve", "--config", str(file), *options)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("in_file", [False, True])
def test_the_inspector_of_several_processes_is_refused(tmp_path: Path, *, in_file: bool) -> None:
    """It shows what one process has seen."""
    config = configuration("127.0.0.1:9", "t", inspector={})
    config["server"]["processes"] = 2 if in_file else 1
    status, said = run(config, tmp_path, *(() if in_file else ("--processes", "2")))
    assert status == (78 if in_file else 2)
    assert "inspector: only with server.processes 1" in said


def test_with_one_process_there_is_no_other(broker: EmbeddedBroker, topic: str) -> None:
    with Gateway(configuration(broker.bootstrap_servers, topic)) as gateway:
        assert workers(gateway) == []
        assert metric(gateway, "sms_bridge_processes") == 1
        assert not any("process" in line for line in gateway.logs())


# --- the parent alone, with workers that do as the test wants ----------------------------


def settings() -> Settings:
    return Settings.model_validate(
        configuration("127.0.0.1:9", "t", server={"processes": COUNT, "shutdown_grace_seconds": 1})
    )


def supervised(script: str) -> "asyncio.Task[int]":
    command = [sys.executable, "-c", script]
    return asyncio.create_task(processes.supervise(settings(), command, None))


async def test_workers_that_cannot_start_end_it_with_their_status() -> None:
    assert await supervised("import sys; sys.exit(78)") == 78


async def test_workers_may_end_before_they_are_sent_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their end of the socket is closed by then."""
    connect = asyncio.open_unix_connection

    async def late(**arguments: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await asyncio.sleep(0.5)
        return await connect(**arguments)

    monkeypatch.setattr(asyncio, "open_unix_connection", late)
    assert await supervised("import sys; sys.exit(3)") == 3


async def test_a_worker_that_ends_again_and_again_is_started_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 0.1, 0.2, 0.4, ... seconds."""
    monkeypatch.setattr(processes, "FIRST_BACKOFF_SECONDS", 0.1)
    starts = tmp_path / "starts"
    note = f"open({str(starts)!r}, 'a').write('.')\ntime.sleep(0.5)\nsys.exit(3)"
    started = time.monotonic()
    task = supervised(FAKE_WORKER + note)
    while not starts.exists() or len(starts.read_text()) < COUNT * 4:
        assert not task.done()
        await asyncio.sleep(0.05)
    assert time.monotonic() - started > 4 * 0.5 + 0.1 + 0.2 + 0.4 - 0.5
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


async def test_a_worker_that_hangs_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(processes, "HUNG_SECONDS", 0.5)
    starts = tmp_path / "starts"
    task = supervised(FAKE_WORKER + f"open({str(starts)!r}, 'a').write('.')\ntime.sleep(600)")
    while not starts.exists() or len(starts.read_text()) < COUNT * 2:
        assert not task.done()
        await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


@pytest.mark.parametrize(
    "report", [b"no JSON\n", b"1" * 2000 + b"\n"], ids=["no JSON", "too large"]
)
async def test_a_report_that_is_not_valid_costs_its_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, report: bytes
) -> None:
    monkeypatch.setattr(processes, "MAX_REPORT_BYTES", 1000)
    starts = tmp_path / "starts"
    note = f"open({str(starts)!r}, 'a').write('.')\n"
    task = supervised(FAKE_WORKER + note + f"control.sendall({report!r})\ntime.sleep(600)")
    while not starts.exists() or len(starts.read_text()) <= COUNT:
        assert not task.done()
        await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


async def test_a_worker_that_starts_has_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a second of a processor, and all of them start at once."""
    monkeypatch.setattr(processes, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(processes, "HUNG_SECONDS", 0.2)
    starts = tmp_path / "starts"
    slow = f"import time\nopen({str(starts)!r}, 'a').write('.')\ntime.sleep(2)\n"
    task = supervised(slow + FAKE_WORKER + "time.sleep(600)")
    while not starts.exists() or len(starts.read_text()) <= COUNT:  # hung, after its first report
        assert not task.done()
        await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


def test_workers_outlive_a_pause_of_the_parent() -> None:
    """As long as they answer: it has heard nothing of them because it could not listen."""
    script = FAKE_WORKER + (
        "while control.recv(4096): control.sendall(json.dumps(report).encode() + b'\\n')"
    )
    parent = f"""
import asyncio, sys
from bridge.gateway import processes
from tests.gateway.test_processes import settings
processes.REPORT_SECONDS, processes.HUNG_SECONDS = 0.5, 1.0
command = [sys.executable, "-c", {script!r}]
asyncio.run(processes.supervise(settings(), command, None))
"""
    with subprocess.Popen([sys.executable, "-c", parent]) as process:
        try:
            wait_until(lambda: len(children(process.pid)) == COUNT, "they run", LEEWAY)
            time.sleep(1.5)
            before = children(process.pid)
            process.send_signal(signal.SIGSTOP)
            time.sleep(2.5)  # longer than a worker may be silent
            process.send_signal(signal.SIGCONT)
            time.sleep(1.5)
            assert children(process.pid) == before
            process.send_signal(signal.SIGTERM)
            process.wait(LEEWAY)
        finally:
            process.kill()


async def test_a_worker_that_does_not_end_in_time_is_killed() -> None:
    """That is a failure: what it had in flight got no answer."""
    ignore = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    task = supervised(ignore + FAKE_WORKER + "time.sleep(600)")
    await asyncio.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task in {1, 143}


@pytest.mark.parametrize(
    ("line", "marked"),
    [
        (b'{"event":"x"}', b'{"event":"x","process":3}\n'),
        (b"Traceback", b"[3] Traceback\n"),
        (b"now [info] x taken={1}", b"[3] now [info] x taken={1}\n"),
        (b"", b"[3] \n"),
    ],
)
def test_a_line_says_whose_it_is(line: bytes, marked: bytes) -> None:
    assert processes._marked(line, 3) == marked


# --- the configuration -------------------------------------------------------------------


def test_each_process_reads_the_configuration_again(gateway: Gateway) -> None:
    """On the parent's SIGHUP. A process whose configuration is refused shows in the total."""
    config = yaml.safe_load(gateway.config_file.read_text())
    config["endpoints"][0]["auth"] = {"tokens": ["a-token-of-sixteen"]}
    reload(gateway, config)
    wait_until(lambda: reloads(gateway, "success") >= COUNT, "each has reloaded", LEEWAY)
    assert {gateway.post(document(str(n))).status for n in range(20)} == {401}
    path = "/webhook?token=a-token-of-sixteen"
    assert {gateway.post(document(str(n)), path=path).status for n in range(20)} == {200}
    assert metric(gateway, "sms_bridge_config_last_reload_successful") == 1
    assert 0 <= time.time() - metric(gateway, RELOADED_AT) < gateway_age(gateway)

    config["endpoints"][0]["source"] = "urn:other"
    reload(gateway, config)
    wait_until(lambda: reloads(gateway, "refused") >= COUNT, "each refuses it", LEEWAY)
    assert metric(gateway, "sms_bridge_config_last_reload_successful") == 0
    assert {gateway.post(document(str(n)), path=path).status for n in range(20)} == {200}
    assert gateway.terminate() == 0


async def test_one_that_is_replaced_serves_by_what_the_others_serve_by(
    gateway: Gateway, broker: EmbeddedBroker, topic: str
) -> None:
    """Whatever the file says by then that they refuse, or if it is gone."""
    config = yaml.safe_load(gateway.config_file.read_text())
    config["endpoints"][0]["auth"] = {"tokens": ["a-token-of-sixteen"]}
    reload(gateway, config)
    wait_until(lambda: reloads(gateway, "success") >= COUNT, "each has reloaded", LEEWAY)
    config["endpoints"][0]["source"] = "urn:other"
    reload(gateway, config)
    wait_until(lambda: reloads(gateway, "refused") >= COUNT, "each refuses it", LEEWAY)
    running = workers(gateway)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_there, running)), "they are dead")
    wait_until(lambda: connected(gateway) == COUNT, "others are there", LEEWAY)
    wait_until(lambda: reloads(gateway, "refused") >= 2 * COUNT, "they refuse it, too", LEEWAY)
    gateway.config_file.unlink()
    os.kill(workers(gateway)[0], signal.SIGKILL)
    wait_until(lambda: connected(gateway) == COUNT, "one more is there", LEEWAY)
    path = "/webhook?token=a-token-of-sixteen"
    assert {gateway.post(document(str(n)), path=path).status for n in range(20)} == {200}
    assert {gateway.post(document(str(n))).status for n in range(20)} == {401}
    records = read_topic(broker.bootstrap_servers, topic)
    assert {json.loads(r.value or b"")["source"] for r in records} == {"urn:example:sms:main"}
    assert gateway.terminate() == 0


def test_a_configuration_from_a_pipe_is_that_of_each(broker: EmbeddedBroker, topic: str) -> None:
    """`--config <(decrypt)`: the parent alone can read it."""
    config = configuration(broker.bootstrap_servers, topic, server={"processes": COUNT})
    with Gateway(config, prefix=("bash", "-c", PIPED, "bash")) as gateway:
        wait_until(lambda: connected(gateway) == COUNT, "each has its producer", LEEWAY)
        assert gateway.post(document("1")).ids == ["1"]


# Reads the last argument, which is the file, into a pipe.
PIPED = 'file="${@: -1}"; exec "${@:1:$#-1}" <(cat "$file")'
RELOADED_AT = "sms_bridge_config_last_reload_success_timestamp_seconds"


def reload(gateway: Gateway, config: dict[str, Any]) -> None:
    new = gateway.config_file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config))
    new.rename(gateway.config_file)
    os.kill(gateway.pid, signal.SIGHUP)


def reloads(gateway: Gateway, result: str) -> float:
    return metric(gateway, "sms_bridge_config_reloads_total", result=result)


def gateway_age(gateway: Gateway) -> float:
    """Seconds since its first line."""
    first = datetime.fromisoformat(gateway.logs()[0]["timestamp"])
    return (datetime.now(UTC) - first).total_seconds()
