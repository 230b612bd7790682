"""The `demo` command: the whole story on one screen, every part a process of its own.

It counts only what it has read: ids in answers, and events in Kafka.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import xmltodict

from bridge.console import Progress, progress, table
from bridge.demo.child import POLL_SECONDS, Child
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.demo.processes import (
    DEAD_LETTER_TOPIC,
    TOPIC,
    Answer,
    Gateway,
    Landed,
    Reader,
    bridge,
    signals_as_exits,
)
from bridge.errors import BridgeError

FIRST_DOCUMENT = """\
<?xml version="1.0" encoding="utf-8" ?>
<response>
<state id_sms="3234" time="2026-01-05 12:57:46" viber="read">read</state>
<state id_sms="3235" time="2026-01-05 12:58:03" sms="expired">expired</state>
<state id_sms="3236" time="" sms="send">send</state>
</response>
"""
SECOND_DOCUMENT = """\
<?xml version="1.0" encoding="utf-8" ?>
<response>
<state id_sms="3237" time="2026-01-05 13:01:10" sms="deliver">deliver</state>
<state id_sms="3238" time="2026-01-05 13:01:11" sms="deliver">deliver</state>
</response>
"""
EXAMPLE = '<response><state id_sms="42" time="" sms="send">send</state></response>'

ATTEMPTS = 5  # the provider's (its page on the webhook)
RETRY_SECONDS = 1.0
LOAD_SECONDS = 3.0  # over which new states are spread, so that there is a midway
LOAD_RETRY_SECONDS = 2.5
LOAD_SEED = 1  # whose ids have ten digits: none is also in the documents above
LATE_MESSAGES = 20
LATE_RETRY_SECONDS = 0.2
LATE_SEED = 13  # of whose states each says something: none is a `send` without a time
LOG_LINES = 12


@dataclass(slots=True)
class Score:
    """What the provider knows: ids that it has sent, more than once, and seen listed.

    `reconciled` are those that it was asked for, since no attempt was listed.
    """

    sent: set[str] = field(default_factory=set)
    retried: int = 0
    acknowledged: set[str] = field(default_factory=set)
    reconciled: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Stage:
    """The parts in play."""

    broker: EmbeddedBroker
    gateway: Gateway
    reader: Reader
    directory: Path
    score: Score = field(default_factory=Score)


def demo(
    messages: int, *, keep: bool, program: str, port: int | None, directory: Path | None
) -> bool:
    """Play the story with `messages` states under load; whether all was acknowledged and is there.

    `program` is how this program is called, for suggested commands. With `keep` all goes on
    until a signal. `port` is the gateway's if it is free, `directory` has its configuration and
    log. Raises BridgeError or TimeoutError if a part fails, OSError if it cannot write there.
    """
    # No ExitStack: a signal that comes between a part's start and its entry there would leave it.
    with (
        signals_as_exits(),
        EmbeddedBroker(TOPIC, DEAD_LETTER_TOPIC) as broker,
        TemporaryDirectory(prefix="sms-bridge-demo-") as name,
        Gateway(directory or Path(name), broker.bootstrap_servers, port=port) as gateway,
        Reader(broker.bootstrap_servers) as reader,
    ):
        stage = Stage(broker, gateway, reader, Path(name))
        try:
            _say_where(stage, keep=keep)
            _tell(stage, messages)
            whole = conclude(stage.score, stage.reader.finish())
        except (BridgeError, TimeoutError):
            _show_log(stage.gateway)
            raise
        if not whole:
            _show_log(stage.gateway)
        if keep:
            with _api(stage):
                _keep(stage, program)
    return whole


def _say_where(stage: Stage, *, keep: bool) -> None:
    gateway = stage.gateway
    gateway.wait_until(gateway.ready, "the gateway to be ready")
    places = [
        ("Kafka", f"{stage.broker.bootstrap_servers} (in memory), topic {TOPIC}"),
        ("gateway", gateway.url),
    ]
    if keep:
        places += [
            ("health", f"{gateway.admin_url}/readyz (and /livez, /metrics)"),
            ("inspector", gateway.inspector_url),
            ("settings", str(gateway.config_file)),
        ]
    click.echo(table(places))


def _tell(stage: Stage, messages: int) -> None:
    _a_document_arrives(stage)
    _kafka_hangs(stage)
    _the_gateway_dies(stage, messages)
    _the_attempts_run_out(stage)


# --- the story ---------------------------------------------------------------------------


def _a_document_arrives(stage: Stage) -> None:
    _step(1, "The provider posts statuses, and they become events")
    _indented(FIRST_DOCUMENT)
    click.echo()
    answer, ids = _post(stage, FIRST_DOCUMENT)
    if answer.status != HTTPStatus.OK:
        raise BridgeError(f"the answer is {answer.status} and not 200")
    for event in sorted(stage.reader.find(ids), key=lambda event: event.id_sms):
        _say(
            f"{event.id_sms}  {event.status:<8} {event.outcome or '':<12}"
            f"in Kafka: partition {event.partition}, offset {event.offset}"
        )
    click.echo()
    _say(f"{_status(answer)} acknowledges what Kafka has taken:")
    _indented(answer.body)


def _kafka_hangs(stage: Stage) -> None:
    _step(2, "Kafka hangs: nothing is acknowledged until it is safe")
    stage.broker.freeze()
    _say("broker frozen; two more statuses are posted")
    try:
        answer, ids = _post(stage, SECOND_DOCUMENT)
        _say_answer(answer, ids)
    finally:
        stage.broker.thaw()
    _say("broker thawed; the provider posts them again")
    stage.score.retried += len(_ids_of(SECOND_DOCUMENT)) - len(ids)
    for _ in range(ATTEMPTS - 1):
        if answer.status == HTTPStatus.OK:
            break
        time.sleep(RETRY_SECONDS)
        answer, ids = _post(stage, SECOND_DOCUMENT)
        _say_answer(answer, ids)


def _the_gateway_dies(stage: Stage, messages: int) -> None:
    _step(3, f"The gateway is killed under load: {messages:,} statuses")
    report = stage.directory / "report.json"
    command = bridge("simulate", *_load(stage.gateway.url, messages, report))
    log = stage.directory / "provider.log"
    with Child("the provider", *command, log=log) as provider:
        with progress(messages, "in Kafka") as bar:
            told = _kill_midway(stage, provider, messages, bar)
        if not report.exists():
            raise BridgeError(f"the provider failed:\n{provider.output}")
    if not told:
        raise BridgeError("the load was over before the gateway could be killed")
    for line in told:
        _say(line)
    _add(stage.score, json.loads(report.read_text()))


def _the_attempts_run_out(stage: Stage) -> None:
    _step(4, "The gateway is away for longer than five attempts, and asks afterwards")
    stage.gateway.kill()
    report = stage.directory / "late.json"
    options = [
        *("--url", stage.gateway.url, "--serve-api", stage.gateway.provider_address),
        *("--messages", str(LATE_MESSAGES), "--seed", str(LATE_SEED), "--report", str(report)),
        *("--attempts", str(ATTEMPTS), "--retry-seconds", str(LATE_RETRY_SECONDS)),
    ]
    log = stage.directory / "late.log"
    with Child("the provider", *bridge("simulate", *options), log=log) as provider:
        provider.wait_until(report.exists, "the provider's fifth attempt")
        stage.gateway.start()
        late = json.loads(report.read_text())
        _add(stage.score, late)
        ids = late["unacknowledged_ids"]
        _say(f"{len(ids)} statuses were posted {ATTEMPTS} times in vain: they never come again")
        asked = _reconcile(stage, ids)
    told = f"asked {asked['asked']}, published {asked['published']}"
    _say(f"its API still knows them: sms-bridge reconcile {told}")
    stage.score.reconciled.update(ids)
    stage.gateway.wait_until(stage.gateway.ready, "the gateway to be ready again")


def _reconcile(stage: Stage, ids: list[str]) -> dict[str, int]:
    """Ask the provider's API for the messages; the report, of which every number is read."""
    listed = stage.directory / "ids"
    listed.write_text("\n".join(ids))
    options = ["--config", str(stage.gateway.config_file), "--json"]
    command = bridge("reconcile", str(listed), *options)
    with Child("reconcile", *command, log=stage.directory / "reconcile.log") as child:
        if child.process.wait() != 0:
            raise BridgeError(f"reconcile failed:\n{child.output}")
        report: dict[str, int] = json.loads(child.output.splitlines()[-1])
    return report


def _load(url: str, messages: int, report: Path) -> list[str]:
    return [
        *("--url", url),
        *("--messages", str(messages)),
        *("--per-post", str(min(20, messages // 10 + 1))),
        *("--rate", str(messages / LOAD_SECONDS)),
        *("--attempts", str(ATTEMPTS)),
        *("--retry-seconds", str(LOAD_RETRY_SECONDS)),
        *("--seed", str(LOAD_SEED)),
        *("--report", str(report)),
    ]


def _kill_midway(stage: Stage, provider: Child, messages: int, bar: Progress) -> list[str]:
    """Kill the gateway once a third of the load is in Kafka, and start it again at once.

    Returns, when the provider is done, what there is to tell of it.
    """
    before = stage.reader.count
    told: list[str] = []
    while provider.running:
        landed = stage.reader.count - before
        bar.at(landed)
        if not told and landed >= messages // 3:
            stage.gateway.kill()
            took = start_again(stage.gateway, provider)
            told = [
                f"killed (SIGKILL) with {landed:,} of them in Kafka, and started again",
                f"ready again after {took:.1f} s; what was not listed is posted again",
            ]
        time.sleep(POLL_SECONDS)
    bar.at(stage.reader.count - before)
    return told


def start_again(gateway: Gateway, provider: Child) -> float:
    """Start the gateway; the seconds until it is ready.

    The provider pauses if that takes longer than one interval of its attempts: on a slow machine
    the gateway would otherwise be away for all five.
    """
    started = time.monotonic()
    gateway.start()
    try:
        gateway.wait_until(gateway.ready, "the gateway to be ready again", LOAD_RETRY_SECONDS)
    except TimeoutError:
        provider.freeze()
        gateway.wait_until(gateway.ready, "the gateway to be ready again")
        provider.thaw()
    return time.monotonic() - started


# --- the closing table -------------------------------------------------------------------


def conclude(score: Score, landed: list[Landed]) -> bool:
    """Print what was counted; whether nothing is missing.

    Every id was acknowledged, or else reconciled, and all of these are in Kafka.
    """
    in_kafka = {event.id_sms for event in landed}
    events = {event.event_id for event in landed}
    settled = score.acknowledged | score.reconciled
    missing = settled - in_kafka
    given_up = score.sent - settled
    click.echo()
    click.echo(table(_rows(score, len(events), len(landed) - len(events), len(missing))))
    whole = not missing and not given_up
    if given_up:
        click.echo(f"{len(given_up):,} were posted {ATTEMPTS} times in vain, and not asked for")
    there = len(score.acknowledged & in_kafka)
    click.secho(
        f"acknowledged {len(score.acknowledged)}, in Kafka {there}, missing {len(missing)}",
        fg="green" if whole else "red",
        bold=True,
    )
    return whole


def _rows(score: Score, events: int, duplicates: int, missing: int) -> Iterator[tuple[str, str]]:
    yield "sent", f"{len(score.sent):>7,}  statuses"
    yield "acknowledged", f"{len(score.acknowledged):>7,}"
    yield "retried", f"{score.retried:>7,}  not acknowledged at first, sent again"
    yield "reconciled", f"{len(score.reconciled):>7,}  never acknowledged: asked for, and published"
    yield "events", f"{events:>7,}  in Kafka: the acknowledged and the reconciled, read back"
    yield "duplicates", f"{duplicates:>7,}  the same event again: consumers drop them by its id"
    yield "missing", f"{missing:>7,}  acknowledged or reconciled, and not in Kafka"


def _add(score: Score, report: dict[str, list[str] | int]) -> None:
    """Add what the simulated provider reports."""
    acknowledged, unacknowledged = report["acknowledged_ids"], report["unacknowledged_ids"]
    if isinstance(acknowledged, list) and isinstance(unacknowledged, list):
        score.sent.update(acknowledged, unacknowledged)
        score.acknowledged.update(acknowledged)
    if isinstance(report["retried"], int):
        score.retried += report["retried"]


# --- afterwards --------------------------------------------------------------------------


def _api(stage: Stage) -> Child:
    """The provider's API once more, for `reconcile` and `check --provider` with these settings."""
    address = ("--serve-api", stage.gateway.provider_address)
    states = ("--messages", str(LATE_MESSAGES), "--seed", str(LATE_SEED))
    log = stage.directory / "api.log"
    return Child("the provider's API", *bridge("simulate", *address, *states), log=log)


def _keep(stage: Stage, program: str) -> None:
    """Leave all running until a signal, or until the gateway ends."""
    config = f"--config {stage.gateway.config_file}"
    click.echo(
        "\nStill running, until Ctrl-C. See in a browser what arrives and what becomes of it:"
    )
    click.echo(f"  {stage.gateway.inspector_url}")
    click.echo("To post, and to follow what subscribers see:")
    click.echo(f"  curl --data-binary '{EXAMPLE}' \\\n    {stage.gateway.url}")
    click.echo(f"  {program} tail {config} --from-beginning")
    click.echo(f"Kafka is at {stage.broker.bootstrap_servers}")
    while stage.gateway.running:
        time.sleep(POLL_SECONDS)
    raise BridgeError("the gateway has ended")


def _show_log(gateway: Gateway) -> None:
    click.echo("the gateway's last lines:", err=True)
    for line in gateway.output.splitlines()[-LOG_LINES:]:
        click.echo(f"  {line}", err=True)


# --- one post ----------------------------------------------------------------------------


def _post(stage: Stage, document: str) -> tuple[Answer, list[str]]:
    """Post a document and note what its answer lists."""
    stage.score.sent.update(_ids_of(document))
    answer = stage.gateway.post(document)
    root = xmltodict.parse(answer.body, force_list=("id_sms",)).get("response") or {}
    ids = list(root.get("id_sms", ()))
    stage.score.acknowledged.update(ids)
    return answer, ids


def _ids_of(document: str) -> list[str]:
    return [state["@id_sms"] for state in xmltodict.parse(document)["response"]["state"]]


# --- the screen --------------------------------------------------------------------------


def _step(number: int, title: str) -> None:
    click.secho(f"\n{number}  {title}", bold=True)


def _say(text: str) -> None:
    click.echo(f"   {text}")


def _indented(document: str) -> None:
    for line in document.rstrip("\n").split("\n"):
        click.secho(f"   {line}", dim=True)


def _say_answer(answer: Answer, ids: list[str]) -> None:
    what = f"lists {', '.join(ids)}" if ids else "an empty <response>, nothing listed"
    _say(f"{_status(answer)} after {answer.seconds:.1f} s: {what}")


def _status(answer: Answer) -> str:
    good = answer.status == HTTPStatus.OK
    return click.style(f"HTTP {answer.status}", fg="green" if good else "yellow")
