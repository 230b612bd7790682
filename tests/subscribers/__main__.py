"""`python -m tests.subscribers`: the four languages on a long day. Ends 0 only if none is wrong."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.subscribers.programs import LANGUAGES, RuntimeUnavailableError, program
from tests.subscribers.proof import Recording, Verdict, judge, record
from tests.support.brokers import KafkaCluster

TOPIC = "sms.status"
PARTITIONS = 6


def main() -> int:
    """Record the day, run each program on it, and print what it has made of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.subscribers", description=__doc__)
    parser.add_argument("--states", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with KafkaCluster() as kafka, tempfile.TemporaryDirectory() as scratch:
        for topic in (TOPIC, f"{TOPIC}.rejected"):
            kafka.create_topic(topic, PARTITIONS)
        recording = record(kafka, TOPIC, options.states, options.seed)
        click.echo(_summary(recording))
        verdicts = [_run(kafka, recording, each, Path(scratch)) for each in LANGUAGES]
    return 0 if all(verdict is not None and verdict.holds for verdict in verdicts) else 1


def _summary(recording: Recording) -> str:
    misled = ", ".join(f"{count} by {way}" for way, count in recording.misled.items())
    return (
        f"{recording.day.states} states of {len(recording.day.latest)} messages in "
        f"{recording.records} records; wrong would be {misled}"
    )


def _run(kafka: KafkaCluster, recording: Recording, language: str, scratch: Path) -> Verdict | None:
    """One program; None where it cannot run here."""
    directory = scratch / language
    directory.mkdir()
    try:
        ready = program(language, directory)
    except RuntimeUnavailableError as exc:
        click.echo(f"{language:<11}cannot run: {exc}")
        return None
    started = time.monotonic()
    output = ready.run(
        *("--brokers", kafka.bootstrap_servers, "--topics", recording.topic),
        *("--store", str(directory / "store.jsonl")),
    )
    verdict = judge(recording, output)
    seconds = time.monotonic() - started
    click.echo(f"{language:<11}{'holds ' if verdict.holds else 'BROKEN'} {seconds:.1f} s {verdict}")
    return verdict


if __name__ == "__main__":
    sys.exit(main())
