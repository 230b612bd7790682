"""Posts made-up bodies to the public application, and holds every answer to the contract.

    python -m tests.fuzz --inputs 1000000 --seed 1 [--save DIRECTORY] [--only NUMBER]

In one process, without a broker: the publisher answers by a script that each input draws.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import re
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

import structlog

from bridge.config.settings import Kafka, Settings
from bridge.gateway.app import Health, public_app
from bridge.model import Message, Result
from bridge.observability.metrics import MAX_NAMED_STATUSES, Metrics
from tests.contract.events import check
from tests.hostile import inputs, reading
from tests.hostile.reading import Element, Meaning, RefusedError
from tests.support.asgi import Reply, request
from tests.support.fakes import RecordingPublisher, Verdict
from tests.support.reference import MAX_RECORD_BYTES
from tests.support.settings import settings

SOURCE = "urn:example:sms:main"
PREFIX = "com.example.messaging"
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_LISTED = 256  # characters of an id
TOPIC, REJECTED = "sms.status", "sms.status.rejected"
BODY_REASONS = frozenset(
    {"not_xml", "encoding", "doctype", "misplaced_state", "wrong_root", "too_deep"}
    | {"too_many_attributes", "too_many_elements", "not_json"}
)
HEADS: Sequence[tuple[dict[str, Any], int]] = (
    ({"path": "/webhook/"}, 0),
    ({"headers": {"content-type": "image/png", "content-encoding": "identity"}}, 0),
    ({"path": "/webhooks"}, 404),
    ({"path": "/webhook//"}, 404),
    ({"method": "GET"}, 405),
    ({"method": "PUT"}, 405),
    ({"http_version": "1.0"}, 411),
    ({"headers": {"content-encoding": "gzip"}}, 415),
    ({"headers": {"content-length": "99999999"}}, 413),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the configuration changes answers."""

    content_mode: Literal["structured", "binary"] = "structured"
    max_states: int = 10_000
    dead_letter_topic: str | None = REJECTED

    def settings(self) -> Settings:
        return settings(
            {"source": SOURCE, "timezone": "Europe/Kyiv"},
            server={"max_states": self.max_states, "max_body_bytes": MAX_BODY_BYTES},
            kafka={
                "topic": TOPIC,
                "dead_letter_topic": self.dead_letter_topic,
                "publish_timeout_seconds": Kafka().publish_timeout_seconds,
            },
            events={"type_prefix": PREFIX, "content_mode": self.content_mode},
        )


SHAPES = (Shape(), Shape("binary"), Shape(max_states=3), Shape(dead_letter_topic=None))


@dataclass(slots=True)
class Script:
    """The fate of each message: by its topic and event id, so that a retry meets the same."""

    salt: bytes = b""
    published: float = 1.0

    def verdict(self, message: Message) -> Verdict:
        if len(message.value) > MAX_RECORD_BYTES:
            return "too_large"
        what = f"{message.topic}:{message.event_id}".encode()
        draw = hashlib.blake2b(what, digest_size=4, key=self.salt).digest()
        if int.from_bytes(draw, "big") / 2**32 < self.published:
            return Result.PUBLISHED
        fates: tuple[Verdict, ...] = (Result.FAILED, Result.UNKNOWN, "too_large")
        return fates[draw[3] % 3]


class Target:
    """One application, and what its publisher was given by the last request."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.script = Script()
        self.metrics = Metrics()
        self.publisher = RecordingPublisher(self.script.verdict)
        self.app = public_app(shape.settings(), self.publisher, self.metrics, Health(lambda: None))
        self.series = _series(self.metrics)

    async def post(self, chunks: Sequence[bytes], head: Mapping[str, Any]) -> Reply:
        self.publisher.messages = []
        self.publisher.calls = []
        self.publisher.deadlines = []
        reply = await request(self.app, *chunks, **head)
        assert reply is not None, "no answer"
        return reply


@dataclass(frozen=True, slots=True)
class Input:
    """All that one number stands for."""

    body: bytes
    chunks: tuple[bytes, ...]
    shape: int
    salt: bytes
    published: float
    head: tuple[dict[str, Any], int]
    again: bool

    @classmethod
    def of(cls, seed: int, number: int) -> "Input":
        """The input of that number; the same for ever, as long as nobody changes the generator."""
        rng = Random(seed * 1_000_000_007 + number)
        body = inputs.body(rng)
        cut = rng.randint(0, len(body))
        return cls(
            body=body,
            chunks=(body,) if rng.random() < 0.7 else (body[:cut], b"", body[cut:]),
            shape=rng.choices(range(len(SHAPES)), (70, 10, 10, 10))[0],
            salt=rng.randbytes(8),
            published=rng.choices((1.0, 0.7, 0.2, 0.0), (50, 30, 10, 10))[0],
            head=rng.choice(HEADS) if rng.random() < 0.03 else ({}, 0),
            again=rng.random() < 0.06,
        )


class Fuzzer:
    """Posts inputs; raises AssertionError where an answer is not the contract's."""

    def __init__(self) -> None:
        self.targets = [Target(shape) for shape in SHAPES]

    async def run(self, given: Input) -> str:
        """One input; a word for the answer."""
        target = self.targets[given.shape]
        target.script.salt, target.script.published = given.salt, given.published
        head, refused = given.head
        reply = await target.post(given.chunks, head)
        if refused:
            assert reply.status == refused, reply.status
            assert not target.publisher.messages, "published in spite of its head"
            return _problem(reply, in_json=False)
        word = judge(given.body, reply, target)
        if given.again:
            await self._again(given, target, reply)
        return word

    async def _again(self, given: Input, target: Target, first: Reply) -> None:
        """A retry: the same answer, and the same identities."""
        before = [(m.topic, m.key, m.event_id) for m in target.publisher.messages]
        reply = await target.post(given.chunks, given.head[0])
        now = [(m.topic, m.key, m.event_id) for m in target.publisher.messages]
        assert (reply.status, reply.body) == (first.status, first.body), "another answer"
        # The dead letters of whole bodies are rate-limited.
        assert now == before or reply.status == 400, "other identities"


# --- what the contract says --------------------------------------------------------------


def judge(body: bytes, reply: Reply, target: Target) -> str:
    """Hold one answer, and what was published for it, to an independent reading of the body."""
    messages = target.publisher.messages
    events = [_event(message, target) for message in messages]
    if len(body) > MAX_BODY_BYTES or reading.is_empty(body):
        assert reply.status == (413 if len(body) > MAX_BODY_BYTES else 400), reply.status
        assert not messages, "a dead letter of no document"
        return _problem(reply, in_json=False)
    in_json = reading.is_json(body)
    try:
        elements = reading.elements(body)
    except RefusedError:
        return _judge_refusal(reply, events, in_json=in_json)
    assert reply.status in (200, 503), f"{reply.status} to a document: {reply.body!r}"
    expected = _Expectation(target, dict(zip((m.event_id for m in messages), events, strict=True)))
    for number, element in enumerate(elements):
        expected.add(element, processed=number < target.shape.max_states)
    return expected.compare(reply, _listed_in_json(reply) if in_json else _listed(reply))


def _listed(reply: Reply) -> list[str]:
    """The ids of an answer in XML."""
    assert reply.headers["content-type"] == "text/xml; charset=utf-8"
    root = ET.fromstring(reply.body)
    assert root.tag == "response"
    assert all(child.tag == "id_sms" and not child.attrib for child in root)
    return [child.text or "" for child in root]


def _listed_in_json(reply: Reply) -> list[str]:
    """The ids of an answer in JSON: numbers where they are some that every reader can hold."""
    assert reply.headers["content-type"] == "application/json"
    items = json.loads(reply.body)
    assert all(list(item) == ["id_sms"] for item in items)
    ids = [item["id_sms"] for item in items]
    for id_sms in ids:
        is_number = re.fullmatch("0|[1-9][0-9]*", str(id_sms)) and int(id_sms) < 2**63
        assert isinstance(id_sms, int if is_number else str), id_sms
    return [str(id_sms) for id_sms in ids]


def _judge_refusal(reply: Reply, events: list[dict[str, Any]], *, in_json: bool) -> str:
    assert reply.status == 400, f"{reply.status} to what is no document"
    assert len(events) <= 1, "more than one dead letter"
    for event in events:
        assert event["type"] == f"{PREFIX}.rejected"
        assert event["data"]["reason"] in BODY_REASONS
    return _problem(reply, in_json=in_json)


def _problem(reply: Reply, *, in_json: bool) -> str:
    """A problem document, and no id in it."""
    if in_json:
        assert reply.headers["content-type"] == "application/problem+json"
        problem = json.loads(reply.body)
        assert list(problem) == ["title", "status", "detail"]
        assert problem["status"] == reply.status
        return str(reply.status)
    assert reply.headers["content-type"] == "application/problem+xml"
    root = ET.fromstring(reply.body)
    assert root.tag == "{urn:ietf:rfc:7807}problem"
    assert [child.tag.partition("}")[2] for child in root] == ["title", "status", "detail"]
    assert root[1].text == str(reply.status)
    assert not any(child.attrib or len(child) for child in root)
    return str(reply.status)


def _event(message: Message, target: Target) -> dict[str, Any]:
    """The event of a record, in either content mode; its parts must agree."""
    check(message.value, message.headers)
    headers = dict(message.headers)
    if target.shape.content_mode == "structured":
        assert headers == {"content-type": b"application/cloudevents+json"}
        event: dict[str, Any] = json.loads(message.value)
    else:
        assert headers["content-type"] == b"application/json"
        names = [name for name in headers if name.startswith("ce_")]
        event = {name.removeprefix("ce_"): headers[name].decode() for name in names}
        event["data"] = json.loads(message.value)
    rejected = event["type"] == f"{PREFIX}.rejected"
    assert event["specversion"] == "1.0"
    assert event["source"] == SOURCE
    assert event["id"] == message.event_id
    assert event["time"].endswith("Z")
    assert message.topic == (REJECTED if rejected else TOPIC)
    assert message.key
    if target.shape.content_mode == "structured":
        assert event["partitionkey"].encode() == message.key
    assert not rejected or len(message.value) <= MAX_RECORD_BYTES, "a dead letter too large"
    return event


class _Expectation:
    """Builds the answer that an independent reading and the publisher's script lead to."""

    def __init__(self, target: Target, events: Mapping[str, dict[str, Any]]) -> None:
        self._events = events
        self._letters = target.shape.dead_letter_topic is not None
        self._fates = {m.event_id: target.script.verdict(m) for m in target.publisher.messages}
        self._whole: dict[str, bool] = {}
        self._used: set[str] = set()
        self._may_help_to_retry = False
        self._partial = False

    def add(self, element: Element, *, processed: bool) -> None:
        durable = self._is_durable(element) if processed else False
        durable = durable and len(element.id_sms) <= MAX_LISTED
        if element.id_sms:
            self._whole[element.id_sms] = durable and self._whole.get(element.id_sms, True)

    def compare(self, reply: Reply, found: list[str]) -> str:
        """Whether this is the answer, `found` the ids in it; a word for it."""
        listed = [id_sms for id_sms, durable in self._whole.items() if durable]
        assert found == listed, (listed, reply.body)
        refused = not listed and self._may_help_to_retry
        assert reply.status == (503 if refused else 200), reply.status
        assert self._used == self._events.keys(), "an event of no state"
        if refused:
            return "503 nothing taken"
        how = "all" if len(listed) == len(self._whole) else "some" if listed else "none"
        return f"200 {how if self._whole else 'no ids'}"

    def _is_durable(self, element: Element) -> bool:
        meant = reading.meaning(element)
        if meant.defects:
            return self._is_buried(element, meant.defects)
        event_id = reading.identity(SOURCE, element, meant)
        assert event_id in self._events, f"no event for {element}"
        _compare_data(self._events[event_id], element, meant)
        self._used.add(event_id)
        if self._fates[event_id] == "too_large":
            return self._is_buried(element, frozenset({"too_large"}))
        return self._taken(event_id)

    def _is_buried(self, element: Element, reasons: frozenset[str]) -> bool:
        if not self._letters:
            return False
        ids = {reading.letter_identity(SOURCE, element, reason) for reason in reasons}
        found = ids & self._events.keys()
        assert len(found) == 1, f"{len(found)} dead letters for {element}"
        (event_id,) = found
        self._used.add(event_id)
        assert self._events[event_id]["data"]["reason"] in reasons
        return self._taken(event_id)

    def _taken(self, event_id: str) -> bool:
        durable = self._fates[event_id] is Result.PUBLISHED
        self._may_help_to_retry |= not durable
        return durable


def _compare_data(event: Mapping[str, Any], element: Element, meant: Meaning) -> None:
    data = event["data"]
    assert event["type"] == f"{PREFIX}.status.{meant.status}"
    assert event["subject"] == data["id_sms"] == element.id_sms
    assert (data["status"], data["raw_time"]) == (meant.status, meant.raw_time)
    assert (data["channels"], data["attributes"]) == (meant.channels, meant.attributes)
    assert (data["outcome"] is None) == (meant.status not in reading.STATUSES)


# --- the run -----------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    """What came of a run."""

    answers: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest: int = 0


async def fuzz(seed: int, numbers: Sequence[int], *, progress: bool = False) -> Report:
    """Post the inputs of these numbers; every failure is a finding, and the run goes on."""
    report = Report()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: report.findings.append((-1, str(context))))
    with quiet():
        fuzzer = Fuzzer()
        for done, number in enumerate(numbers, 1):
            await _one(fuzzer, Input.of(seed, number), number, report)
            if progress and done % 50_000 == 0:
                print(done, len(report.findings), dict(report.answers), flush=True)  # noqa: T201
        for target in fuzzer.targets:
            _bounded_labels(target, report)
    return report


async def _one(fuzzer: Fuzzer, given: Input, number: int, report: Report) -> None:
    started = time.perf_counter()
    try:
        report.answers[await fuzzer.run(given)] += 1
    except Exception as exc:  # noqa: BLE001 -- whatever escapes is what is looked for
        report.findings.append((number, f"{type(exc).__name__}: {exc}"[:2000]))
    took = time.perf_counter() - started
    if took > report.slowest_seconds:
        report.slowest_seconds, report.slowest = took, number


def _bounded_labels(target: Target, report: Report) -> None:
    """Every series is there from the start, but for ten words of the sender's."""
    made_up = _series(target.metrics) - target.series
    words = {labels for name, labels in made_up if name == "sms_bridge_unknown_statuses_total"}
    if len(made_up) > len(words) or len(words) > MAX_NAMED_STATUSES:
        report.findings.append((-1, f"new time series: {made_up}"))


def _series(metrics: Metrics) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sample.labels.items()))
        for metric in metrics.registry.collect()
        for sample in metric.samples
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the line that the application logs for each request."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print what came of it; 1 where there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a directory for the bodies of findings")
    parser.add_argument("--only", type=int, help="the number of one input")
    options = parser.parse_args(argv)
    numbers = range(options.inputs) if options.only is None else [options.only]
    started = time.perf_counter()
    report = asyncio.run(fuzz(options.seed, numbers, progress=True))
    _print(report, len(numbers), time.perf_counter() - started)
    if options.save is not None:
        _save(report, options.seed, options.save)
    return 1 if report.findings else 0


def _print(report: Report, count: int, seconds: float) -> None:
    lines = [f"{count} inputs in {seconds:.0f} s, {count / seconds:.0f} a second"]
    lines.append(f"slowest {report.slowest_seconds:.3f} s: number {report.slowest}")
    for word, times in report.answers.most_common():
        lines.append(f"{times / count:7.2%}  {word}")
    lines.append(f"{len(report.findings)} findings")
    lines += [f"  {number}: {what}" for number, what in report.findings[:20]]
    print("\n".join(lines))  # noqa: T201


def _save(report: Report, seed: int, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, _ in report.findings:
        if number >= 0:
            body = Input.of(seed, number).body
            (directory / f"{seed}-{number}.xml").write_bytes(body)


if __name__ == "__main__":
    sys.exit(main())
