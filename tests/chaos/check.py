"""What a run must show, and what it showed. Pure but for reading the topics back.

Invariants are judged from the journal, the topics and the samples, never from the gateway's own
figures; the report may quote those.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from statistics import median
from typing import Any

from confluent_kafka import Message

from bridge.gateway.listeners import ACCEPTS
from tests.chaos.load import Journal, Load, Pair, Post
from tests.chaos.program import Sample
from tests.chaos.reader import read
from tests.chaos.rig import Rig
from tests.chaos.sentinel import Stall, Stalled, stalled_seconds
from tests.contract.events import check
from tests.invariants import CHAOS, INVARIANTS
from tests.support.reference import java_partition
from tests.support.topics import headers_of

LEEWAY_SECONDS = 0.5
MAX_SOCKETS = 120  # under load: the providers' connections, and those of two producers
MAX_QUIET_SOCKETS = 12 + ACCEPTS  # without load: listeners, the loop's own, one producer
KEPT_SOCKETS = 8  # by a balancer, for the next requests
MAX_THREADS = 16
MAX_RESIDENT_BYTES = 256 * 2**20
MAX_GROWTH_BYTES = 64 * 2**20
QUARTERS = 4
# From the second quarter of a calm run to the last: medians, so that what comes and goes is none.
MAX_DRIFT = {"memory_mib": 16.0, "descriptors": 10.0, "threads": 2.0, "tasks": 10.0}
MAX_SLOWER, SLOWER_MS = 2.0, 20.0
SETTLE_SAMPLES = 5  # of a process, before its memory counts
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What was required: whether it holds, and what was seen.

    `seen` tells whether there was anything to judge: what holds of nothing proves nothing.
    """

    name: str
    holds: bool
    detail: str
    seen: bool = True


@dataclass(frozen=True, slots=True)
class Topics:
    """What the independent client has read: how often each event id, and the letters' keys.

    `partitions` are those of the events, by key.
    """

    events: Mapping[str, int]
    letters: Mapping[str, int]
    unreadable: int
    partitions: Mapping[bytes, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, bootstrap_servers: str, topic: str, dead_letters: str) -> "Topics":
        ids: Counter[str] = Counter()
        partitions: dict[bytes, set[int]] = {}
        for record in read(bootstrap_servers, topic):
            ids[_event_id(record)] += 1
            partitions.setdefault(record.key() or b"", set()).add(record.partition() or 0)
        letters = Counter(_key(record) for record in read(bootstrap_servers, dead_letters))
        unreadable = ids.pop("", 0)
        places = {key: frozenset(numbers) for key, numbers in partitions.items()}
        return cls(ids, letters, unreadable, places)

    def missing(self, promise: Pair) -> int:
        """How many of the promised events, and of its dead letter, are not there."""
        letters = promise.letter and promise.id_sms not in self.letters
        return sum(event not in self.events for event in promise.event_ids) + letters

    @property
    def records(self) -> int:
        return sum(self.events.values())

    @property
    def duplicates(self) -> int:
        return self.records - len(self.events)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of each quarter of the run: medians of the samples, and how long answers took in ms.

    Less what the machine stood still. In the first quarter memory fills: later ones are compared.
    """

    quarters: tuple[Mapping[str, float], ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], posts: Sequence[Post], stalled: Stalled) -> "Figures":
        moments = [sample.at for sample in samples] or [0.0]
        began, step = min(moments), (max(moments) - min(moments)) / QUARTERS or 1.0
        held: list[list[Sample]] = [[] for _ in range(QUARTERS)]
        took: list[list[Post]] = [[] for _ in range(QUARTERS)]

        def quarter(moment: float) -> int:
            return min(max(0, int((moment - began) / step)), QUARTERS - 1)

        for sample in samples:
            held[quarter(sample.at)].append(sample)
        for post in posts:
            took[quarter(post.ended)].append(post)
        of_each = zip(held, took, strict=True)
        return cls(tuple(_medians(s) | _latencies(p, stalled) for s, p in of_each))

    def drift(self, name: str) -> float:
        """How much more there was in the last quarter than in the second."""
        return self.quarters[-1][name] - self.quarters[1][name]

    def lines(self) -> Iterable[str]:
        """One line a figure."""
        for name in self.quarters[0]:
            yield f"{name}: {', '.join(f'{quarter[name]:.1f}' for quarter in self.quarters)}"


def _medians(samples: Sequence[Sample]) -> dict[str, float]:
    return {
        "memory_mib": _median(sample.resident_bytes / 2**20 for sample in samples),
        "descriptors": _median(sample.descriptors for sample in samples),
        "threads": _median(sample.threads for sample in samples),
        "tasks": _median(sample.tasks or 0 for sample in samples),
    }


def _latencies(posts: Sequence[Post], stalled: Stalled) -> dict[str, float]:
    took = sorted(
        max(0.0, post.seconds - stalled.within(post.started, post.ended)) * 1000
        for post in posts
        if post.status is not None
    ) or [0.0]
    return {"p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100]}


def _median(values: Iterable[float]) -> float:
    return median([*values] or [0.0])


@dataclass(frozen=True, slots=True)
class Audit:
    """What was acknowledged by a moment, and what the topics held right after it.

    An acknowledgement counts for a topic if its post began after the topic was made:
    `events_from` and `letters_from`, on the monotonic clock. `partitions` are the numbers of them
    that the status topic has had since then.
    """

    acknowledged: Mapping[str, float]
    events_from: float
    letters_from: float
    topics: Topics
    partitions: tuple[int, ...] = (1,)

    def counts(self, promise: Pair) -> bool:
        """Whether this promise was given, and is to be kept by one of these topics."""
        at = self.acknowledged.get(promise.id_sms)
        return at is not None and (
            at >= self.events_from or (promise.letter and at >= self.letters_from)
        )

    def kept(self, promise: Pair) -> bool:
        """Whether the topics hold all that they must."""
        at = self.acknowledged[promise.id_sms]
        letter_due = promise.letter and at >= self.letters_from
        return (
            at < self.events_from or all(event in self.topics.events for event in promise.event_ids)
        ) and (not letter_due or promise.id_sms in self.topics.letters)


@dataclass(frozen=True, slots=True)
class Recovery:
    """A fault, and how long after its end a post was first acknowledged whole, in seconds."""

    fault: str
    seconds: float | None


@dataclass(slots=True)
class Facts:
    """What the run's phases have found, on top of the journal."""

    recoveries: list[Recovery] = field(default_factory=list)
    probe_seconds: float | None = None
    probed: int = 0
    reposted: int = 0
    still_unacknowledged: int = 0
    quiet: Sample | None = None
    audits: list[Audit] = field(default_factory=list)


def _event_id(record: Message) -> str:
    """Empty where it cannot be read. ContractError where it is not as its schema says."""
    check(record.value(), headers_of(record))
    try:
        return str(json.loads(record.value() or b"")["id"])
    except (ValueError, KeyError, TypeError):
        return ""


def _key(record: Message) -> str:
    check(record.value(), headers_of(record))
    return (record.key() or b"").decode()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A run's end: every invariant, and in lines what happened and the report."""

    findings: tuple[Finding, ...]
    log: tuple[str, ...]
    report: tuple[str, ...]
    figures: Figures

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def broken(self) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings if not finding.holds)


def judge(rig: Rig, load: Load, facts: Facts, stalls: Sequence[Stall]) -> Verdict:
    """Hold everything against what is required."""
    limit = rig.settings.publish_timeout_seconds + LEEWAY_SECONDS
    samples = [sample for program in rig.programs for sample in program.samples]
    figures = Figures.of(samples, rig.journal.posts, Stalled(stalls))
    findings = (
        _missing(load, facts.audits),
        _each_state(load, facts.audits),
        one_partition(facts.audits),
        _losses(rig),
        _strangers(rig.journal, load, facts.audits),
        _reposted(facts),
        _probe(facts),
        _recoveries(facts),
        answers_in_time(_answerable(rig), limit, stalls),
        _terminations(rig),
        *_resources(samples, facts.quiet, KEPT_SOCKETS if rig.balancer else 0),
        *([flat(figures), _steady(figures)] if rig.settings.calm else []),
    )
    lines = (*_report(rig, load, facts, stalls), *figures.lines())
    return Verdict(findings, tuple(rig.log_lines), lines, figures)


# --- invariants --------------------------------------------------------------------------


def _missing(load: Load, audits: Sequence[Audit]) -> Finding:
    counted, missing = 0, []
    for promise in load.expected():
        due = [audit for audit in audits if audit.counts(promise)]
        counted += bool(due)
        if not all(audit.kept(promise) for audit in due):
            missing.append(promise.id_sms)
    return Finding(
        "acknowledged and missing",
        not missing and counted > 0,
        f"{len(missing)} of {counted}{_some(missing)}",
    )


def _each_state(load: Load, audits: Sequence[Audit]) -> Finding:
    """An acknowledged id with several states has as many events: none stands for another."""
    counted, short = 0, []
    for promise in load.expected():
        due = [a for a in audits if a.counts(promise) and len({*promise.event_ids}) > 1]
        counted += bool(due)
        if not all(audit.kept(promise) for audit in due):
            short.append(promise.id_sms)
    return Finding(
        "states of one id, each with its event",
        not short,
        f"{len(short)} of {counted} with fewer{_some(short)}",
        seen=counted > 0,
    )


def one_partition(audits: Sequence[Audit]) -> Finding:
    """That of Java's partitioner: one for each number of partitions that there was."""
    counted = {key for audit in audits for key in audit.topics.partitions}
    scattered = sorted(
        key.decode(errors="replace")
        for audit in audits
        for key, numbers in audit.topics.partitions.items()
        if not numbers <= {java_partition(key, count) for count in audit.partitions}
    )
    return Finding(
        "one partition per message",
        not scattered,
        f"{len(scattered)} of {len(counted)} elsewhere{_some(scattered)}",
        seen=bool(counted),
    )


def _losses(rig: Rig) -> Finding:
    """What brokers lose of what they had confirmed, the gateway says; it may be the first to."""
    said = sum(program.lost_records() for program in rig.programs)
    return Finding(
        "what the brokers lost is said",
        said >= rig.lost,
        f"{rig.lost} events lost by the brokers, {said} records by the gateway's word",
        seen=rig.lost > 0,
    )


def _strangers(journal: Journal, load: Load, audits: Sequence[Audit]) -> Finding:
    """Nothing is answered, and nothing is in Kafka, that was not posted."""
    known = {event_id for promise in load.expected() for event_id in promise.event_ids}
    found = {event_id for audit in audits for event_id in audit.topics.events}
    unknown, foreign = sorted(found - known), sorted(journal.foreign)
    unreadable = sum(audit.topics.unreadable for audit in audits)
    return Finding(
        "nothing but what was posted",
        not foreign and not unknown and not unreadable,
        f"{len(foreign)} ids answered, {len(unknown)} events and {unreadable} "
        f"unreadable records in Kafka{_some(foreign + unknown)}",
        seen=bool(found),
    )


def _reposted(facts: Facts) -> Finding:
    left = facts.still_unacknowledged
    return Finding(
        "the unacknowledged, posted again",
        left == 0,
        f"{left} of {facts.reposted} left",
        seen=facts.reposted > 0,
    )


def _probe(facts: Facts) -> Finding:
    seconds = facts.probe_seconds
    took = "not all acknowledged" if seconds is None else f"acknowledged in {seconds:.1f} s"
    return Finding(
        "probe after the last fault", seconds is not None, f"{facts.probed} posts, {took}"
    )


def _recoveries(facts: Facts) -> Finding:
    stuck = [recovery.fault for recovery in facts.recoveries if recovery.seconds is None]
    return Finding(
        "recovery after every fault",
        not stuck,
        f"{len(stuck)} of {len(facts.recoveries)} without{_some(stuck)}",
        seen=bool(facts.recoveries),
    )


def _answerable(rig: Rig) -> list[Post]:
    """All posts, but for those without an answer that waited for it on a dead connection."""
    return [
        post
        for post in rig.journal.posts
        if post.status is not None
        or not any(post.started < ended and post.ended > began for began, ended in rig.deaf)
    ]


def answers_in_time(posts: Iterable[Post], limit: float, stalls: Sequence[Stall]) -> Finding:
    """Every post ended within the limit, in seconds, but for what the machine stood still."""
    late = [
        post
        for post in posts
        if post.seconds > limit
        and post.seconds > limit + stalled_seconds(stalls, post.started, post.ended)
    ]
    worst = max((post.seconds for post in late), default=0.0)
    return Finding(
        "every answer in time",
        not late,
        f"{len(late)} later than {limit:.1f} s" + (f", up to {worst:.2f} s" if late else ""),
    )


def _terminations(rig: Rig) -> Finding:
    return Finding(
        "SIGTERM ends with 0 in time", not rig.violations, "; ".join(rig.violations) or "always"
    )


def _resources(samples: Sequence[Sample], quiet: Sample | None, kept: int) -> Iterable[Finding]:
    sockets = max((s.sockets for s in samples), default=0)
    threads = max((s.threads for s in samples), default=0)
    resident = max((s.resident_bytes for s in samples), default=0)
    growth = max((_growth(s) for s in _lives(samples)), default=0)
    idle = quiet.sockets if quiet is not None else None
    yield Finding(
        "sockets bounded",
        0 < sockets <= MAX_SOCKETS and idle is not None and idle <= MAX_QUIET_SOCKETS + kept,
        f"at most {sockets}, {idle} when idle",
    )
    yield Finding("threads bounded", 0 < threads <= MAX_THREADS, f"at most {threads}")
    yield Finding(
        "memory bounded",
        resident <= MAX_RESIDENT_BYTES and growth <= MAX_GROWTH_BYTES,
        f"at most {resident / 2**20:.0f} MiB, growth within one life {growth / 2**20:.1f} MiB",
    )


def flat(figures: Figures) -> Finding:
    """Nothing that the program holds grows, without faults and under steady load."""
    grown = [name for name, limit in MAX_DRIFT.items() if figures.drift(name) > limit]
    return Finding(
        "nothing grows in a calm run",
        not grown,
        ", ".join(f"{name} {figures.drift(name):+.1f}" for name in MAX_DRIFT),
    )


def _steady(figures: Figures) -> Finding:
    early, late = (quarter["p50_ms"] for quarter in (figures.quarters[1], figures.quarters[-1]))
    return Finding(
        "answers as fast at the end of a calm run",
        late <= MAX_SLOWER * early + SLOWER_MS,
        f"p50 {early:.1f} ms, then {late:.1f} ms",
    )


def _lives(samples: Sequence[Sample]) -> Iterable[list[Sample]]:
    lives: dict[int, list[Sample]] = {}
    for sample in samples:
        lives.setdefault(sample.pid, []).append(sample)
    return lives.values()


def _growth(life: list[Sample]) -> int:
    """From the early to the late samples of one process, in bytes."""
    settled = [sample.resident_bytes for sample in life[SETTLE_SAMPLES:]]
    if len(settled) < 2 * SETTLE_SAMPLES:
        return 0
    return int(median(settled[-SETTLE_SAMPLES:]) - median(settled[:SETTLE_SAMPLES]))


def _some(ids: Sequence[str]) -> str:
    return f": {', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''}" if ids else ""


def statuses(findings: Sequence[Finding]) -> dict[str, dict[str, Any]]:
    """Of each invariant by name: satisfied, violated or unchecked, and the findings on it."""
    told = {}
    for invariant in INVARIANTS:
        mine = [f for f in findings if invariant.name in CHAOS.get(f.name, ())]
        if any(not finding.holds for finding in mine):
            status = "violated"
        else:
            status = "satisfied" if any(finding.seen for finding in mine) else "unchecked"
        told[invariant.name] = {
            "invariant": invariant.says,
            "status": status,
            "findings": [asdict(finding) for finding in mine],
        }
    return told


# --- the report --------------------------------------------------------------------------


def _report(rig: Rig, load: Load, facts: Facts, stalls: Sequence[Stall]) -> Iterable[str]:
    yield from _traffic(rig.journal, load)
    yield from _contents(load, facts.audits)
    yield _slowest(rig, stalls)
    longest = max((stall.ended - stall.started for stall in stalls), default=0.0)
    yield f"stalls of the machine: {len(stalls)}, longest {longest:.2f} s"
    yield f"faults: {_counts(Counter(recovery.fault for recovery in facts.recoveries))}"
    yield from _recovery_lines(facts)
    rebuilds = sum((program.rebuilds() for program in rig.programs), Counter[str]())
    yield f"producers replaced: {_counts(rebuilds)}"
    surprises = [line for program in rig.programs for line in program.surprises()]
    yield f"surprises in the gateway's log: {len(surprises)}"
    yield from (f"  {line[:300]}" for line in dict.fromkeys(surprises[-SHOWN:]))


def _traffic(journal: Journal, load: Load) -> Iterable[str]:
    again = sum(report.tally.retried for report in load.reports)
    statuses = Counter(str(post.status) for post in journal.posts if post.status is not None)
    silent = Counter(post.fault or "" for post in journal.posts if post.status is None)
    yield (
        f"ids: {len(journal.posted)} posted, {len(journal.acknowledged)} acknowledged, "
        f"{again} of the providers' posted more than once; {journal.states_sent} states sent"
    )
    yield f"answers: {_counts(statuses)}; posts without one: {_counts(silent)}"


def _contents(load: Load, audits: Sequence[Audit]) -> Iterable[str]:
    """Over every making of the status topic; of two audits of one, the later holds all."""
    last = {audit.events_from: audit.topics for audit in audits}.values()
    records = sum(topics.records for topics in last)
    duplicates = sum(topics.duplicates for topics in last)
    hasty = sum(
        count - 1
        for topics in last
        for event_id, count in topics.events.items()
        if count > 1 and load.is_impatient(event_id.split(".")[0])
    )
    yield (
        f"in Kafka: {records} records, {records - duplicates} events, {duplicates} duplicates "
        f"({duplicates / max(records, 1):.3%}), {hasty} of them the impatient provider's "
        f"({(duplicates - hasty) / max(records, 1):.3%} without); "
        f"the topic was made {len(last)} times"
    )


def _slowest(rig: Rig, stalls: Sequence[Stall]) -> str:
    answered = [post for post in rig.journal.posts if post.status is not None]
    if not answered:
        return "slowest answer: none"
    post = max(answered, key=attrgetter("seconds"))
    stalled = stalled_seconds(stalls, post.started, post.ended)
    return (
        f"slowest answer: {post.seconds:.2f} s (status {post.status}, {post.states} states; "
        f"the deadline is {rig.settings.publish_timeout_seconds:.1f} s, stalled {stalled:.2f} s)"
    )


def _recovery_lines(facts: Facts) -> Iterable[str]:
    of: dict[str, list[float]] = {}
    for recovery in facts.recoveries:
        if recovery.seconds is not None:
            of.setdefault(recovery.fault, []).append(recovery.seconds)
    for name, seconds in sorted(of.items()):
        yield f"  {name}: recovered after {max(seconds):.2f} s at most"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
