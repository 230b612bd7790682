"""An outage that outlasts five attempts, and what `reconcile` makes of it, on a real Kafka.

The provider here keeps histories of its own: a first state of most messages, and a last one of
all. A third of the last ones fall into the outage, with all of some messages.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any

import yaml

from bridge import subscriber
from bridge.simulate.api import Api
from bridge.simulate.documents import SentState, listed_ids, render
from tests.support.brokers import ExternalKafka
from tests.support.gateway import Gateway, configuration
from tests.support.provider import TOKEN
from tests.support.topics import Record, read_topic

ATTEMPTS = 5  # the provider's
PER_POST = 500
FIRST = datetime(2026, 1, 5, 12)  # noqa: DTZ001 - the provider's local time
LAST = FIRST + timedelta(hours=2)

# What is told of a message at first, and at last: pending, or a channel of a cascade that failed.
FIRST_STATES = (
    ("send", "", "send", None),
    ("partly_deliver", FIRST, "partly_deliver", None),
    ("not_deliver", FIRST, None, "not_deliver"),
)
LAST_STATES = (
    ("deliver", LAST, "deliver", None),
    ("read", LAST, "deliver", "read"),
    ("expired", LAST, "expired", None),
)


@dataclass(frozen=True, slots=True)
class History:
    """What the provider knows of a message, and whether its last state fell into the outage."""

    first: SentState | None
    last: SentState
    lost: bool


def histories(messages: int, seed: int) -> dict[str, History]:
    """A third is lost; of one message in ten the gateway hears nothing before."""
    rng = random.Random(seed)
    found = {}
    for number in range(1, messages + 1):
        id_sms = str(617_000_000 + number)
        lost = number % 3 == 0
        first = None if number % 30 == 0 else _state(id_sms, rng.choice(FIRST_STATES), rng)
        found[id_sms] = History(first, _state(id_sms, rng.choice(LAST_STATES), rng), lost)
    return found


def _state(id_sms: str, kind: Sequence[Any], rng: random.Random) -> SentState:
    word, moment, sms, viber = kind
    at = str(moment + timedelta(seconds=rng.randrange(3600))) if moment else ""
    return SentState(id_sms, word, at, sms, viber)


@dataclass(slots=True)
class Proof:
    """What came of it: messages, records, and what is wrong if anything is."""

    messages: int = 0
    lost: int = 0
    in_question: int = 0  # messages whose latest status was not the provider's before
    wrong: list[str] = field(default_factory=list)
    two_events_of_one_id: list[str] = field(default_factory=list)
    records: int = 0
    repeated: int = 0
    kills: int = 0
    seconds: float = 0.0
    report: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        asked = {n: self.report[n] for n in ("asked", "answered", "new", "published", "unchanged")}
        return (
            f"{self.messages:,} messages, {self.lost:,} of them beyond five attempts: "
            f"{self.in_question:,} latest statuses wrong before, {len(self.wrong):,} after; "
            f"{len(self.two_events_of_one_id)} ids with two events; {self.records:,} records, "
            f"{self.repeated:,} repeated; killed {self.kills} times; {self.seconds:.1f} s; {asked}"
        )


class Bench:
    """One proof's topic, gateway and provider; `directory` holds its files."""

    def __init__(self, kafka: ExternalKafka, topic: str, directory: Path, messages: int) -> None:
        self.kafka = kafka
        self.topic = topic
        self.directory = directory
        self.known = histories(messages, seed=1)
        self.config_file = directory / "bridge.yaml"
        kafka.create_topic(topic, 6)
        kafka.create_topic(f"{topic}.rejected", 1)

    def prove(self, kills: int = 0, batch: int = 200) -> Proof:
        """An outage, and then `reconcile`, killed so many times on its way."""
        proof = Proof(len(self.known), sum(each.lost for each in self.known.values()))
        latest = {id_sms: each.last for id_sms, each in self.known.items()}
        with Api(latest, token=TOKEN) as api:
            self._configure(api)
            self._suffer_the_outage()
            proof.in_question = len(self._wrong(self._read()))
            arguments = ["--from-topic", "--older-than", "0s", "--batch", str(batch)]
            started = time.monotonic()
            if kills:
                api.pause_seconds = 0.02
            proof.kills = self._kill(arguments, kills)
            proof.report = self._reconcile(arguments)
            proof.seconds = time.monotonic() - started
        records = self._read()
        proof.wrong = self._wrong(records)
        proof.records = len(records)
        self._compare(records, proof)
        return proof

    def _configure(self, api: Api) -> None:
        config = configuration(self.kafka.bootstrap_servers, self.topic)
        config["endpoints"][0]["provider"] = {"url": f"{api.url}/xml", "token": TOKEN}
        self.config_file.write_text(yaml.safe_dump(config))

    def _suffer_the_outage(self) -> None:
        config = yaml.safe_load(self.config_file.read_text())
        with Gateway(config) as gateway:
            deliver(gateway.post, [h.first for h in self.known.values() if h.first is not None])
            deliver(gateway.post, [h.last for h in self.known.values() if not h.lost])
            gateway.process.kill()
            gateway.process.wait()
            lost = [h.last for h in self.known.values() if h.lost]
            assert deliver(gateway.post, lost) == len(lost)

    # --- reconcile -----------------------------------------------------------------------

    def _command(self, arguments: Sequence[str]) -> list[str]:
        """With the ids that the sender knows of: of some the topic has never heard."""
        ids = self.directory / "ids"
        ids.write_text("\n".join(i for i, h in self.known.items() if h.first is None))
        place = ["--resume", str(self.directory / "place"), "--rate", "1000", "--json"]
        config = ["--config", str(self.config_file)]
        return [sys.executable, "-m", "bridge", "reconcile", str(ids), *config, *arguments, *place]

    def _reconcile(self, arguments: Sequence[str]) -> Mapping[str, Any]:
        done = subprocess.run(
            self._command(arguments), capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        report: Mapping[str, Any] = json.loads(done.stdout)
        return report

    def _kill(self, arguments: Sequence[str], kills: int) -> int:
        """SIGKILL each run once it has settled some batches more than the one before."""
        rng = random.Random(kills)
        settled, done = 0, 0
        for _ in range(kills):
            process = subprocess.Popen(
                self._command(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            wanted = settled + rng.randint(1, max(1, len(self.known) // 200 // kills))
            while self._settled() < wanted and process.poll() is None:
                time.sleep(0.001)
            done += process.poll() is None
            process.kill()
            process.wait()
            settled = self._settled()
        return done

    def _settled(self) -> int:
        """The batches that the file has."""
        place = self.directory / "place"
        return place.read_bytes().count(b"\n") - 1 if place.exists() else 0

    # --- the topic -----------------------------------------------------------------------

    def _read(self) -> list[Record]:
        return read_topic(self.kafka.bootstrap_servers, self.topic, timeout=120)

    def _wrong(self, records: Iterable[Record]) -> list[str]:
        """The messages whose latest status, as a subscriber has it, is not the provider's."""
        table: dict[str, subscriber.StatusEvent] = {}
        for record in records:
            event = subscriber.read(record.value, record.headers)
            assert isinstance(event, subscriber.StatusEvent)
            table[event.id_sms] = subscriber.latest(table.get(event.id_sms), event)
        return [
            id_sms
            for id_sms, history in self.known.items()
            if id_sms not in table
            or (table[id_sms].status, table[id_sms].raw_time)
            != (history.last.status, history.last.time)
        ]

    @staticmethod
    def _compare(records: Iterable[Record], proof: Proof) -> None:
        """Records of one event's id must be one event, received twice."""
        events: dict[str, dict[str, Any]] = {}
        for record in records:
            event = json.loads(record.value or b"")
            del event["data"]["received_at"]
            if event["data"]["raw_time"] is None:
                del event["time"]
            if (known := events.setdefault(event["id"], event)) is not event:
                proof.repeated += 1
                if known != event:
                    proof.two_events_of_one_id.append(event["id"])


def deliver(post: Callable[[bytes], Any], states: Sequence[SentState]) -> int:
    """Post as the provider does, five times at most; how many were never listed."""
    left = list(states)
    for attempt in count(1):
        rest = iter(left)
        unlisted: list[SentState] = []
        while batch := list(islice(rest, PER_POST)):
            try:
                listed = listed_ids(post(render(batch)).body) or frozenset()
            except OSError:
                listed = frozenset()
            unlisted += [state for state in batch if state.id_sms not in listed]
        left = unlisted
        if not left or attempt == ATTEMPTS:
            return len(left)
    raise AssertionError
