"""A subscriber in Python: prints each event once, and keeps the latest status of each message."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1"
REJECTED_SCHEMA = "urn:sms-status-bridge:schema:rejected:1"
MAX_RECORDS = 500
POLL_MS = 500
KEPT = ("id_sms", "status", "outcome", "final", "rank", "changed_at", "received_at")
JSON = JSONFormat()

State = dict[str, Any]

# --- reading an event --------------------------------------------------------------------


def event_of(record: ConsumerRecord) -> BaseCloudEvent:
    """Read a record in either content mode."""
    headers = {name: value or b"" for name, value in record.headers}
    return from_kafka(KafkaMessage(headers, record.key, record.value), JSON)


def state_of(event: BaseCloudEvent) -> State:
    """What is kept of an event; of a dead letter only its identity."""
    state = {"source": event.get_source(), "id": event.get_id()}
    schema = event.get_dataschema()
    if schema == REJECTED_SCHEMA:
        return state
    if schema != STATUS_SCHEMA:
        raise ValueError(f"unknown dataschema {schema!r}")
    data: Any = event.get_data()
    return state | {name: data[name] for name in KEPT}


# --- the latest status of a message ------------------------------------------------------


def precedence(state: State) -> tuple[int, str, str]:
    """The rule: the higher rank, then the later time, then the greater id; null is lowest.

    Times of this form compare as text.
    """
    rank = -1 if state["rank"] is None else state["rank"]
    return rank, state["changed_at"] or "", state["id"]


def settled(state: State, now: datetime, patience: timedelta) -> bool:
    """Whether the outcome stands: it is final, or nothing has outranked it for so long."""
    received_at = datetime.fromisoformat(state["received_at"])
    return state["final"] is True or now - received_at >= patience


# --- what survives a restart -------------------------------------------------------------


class Store:
    """The table, and the file that it is made of.

    The file has one line for each batch of records, with where to go on and the events that were
    new. A line is there as a whole or does not count, so the two can never disagree.
    """

    def __init__(self, path: Path) -> None:
        self.offsets: dict[str, int] = {}  # by topic/partition: the next record
        self.seen: set[tuple[str, str]] = set()
        self.latest: dict[tuple[str, str], State] = {}
        path.touch()
        self._file = path.open("r+b")
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break  # half a line of a writer that was killed
            self._apply(json.loads(line))
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)

    def commit(self, offsets: Mapping[str, int], states: Sequence[State]) -> None:
        """Keep a batch of records: all of it or, if this is interrupted, nothing."""
        written = {"offsets": offsets, "states": states}
        self._file.write(json.dumps(written).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._apply(written)

    def _apply(self, written: Mapping[str, Any]) -> None:
        self.offsets.update(written["offsets"])
        for state in written["states"]:
            self.seen.add((state["source"], state["id"]))
            if "status" in state:
                message = state["source"], state["id_sms"]
                held = self.latest.get(message)
                if held is None or precedence(state) > precedence(held):
                    self.latest[message] = state


# --- the program -------------------------------------------------------------------------


def take(store: Store, records: Sequence[ConsumerRecord]) -> None:
    """Print the events that are new, and then keep them: after a crash some are printed again.

    What must not happen twice belongs into the store's own transaction.
    """
    offsets: dict[str, int] = {}
    new: dict[tuple[str, str], State] = {}
    for record in records:
        offsets[place(record)] = record.offset + 1
        try:
            event = event_of(record)
            state = state_of(event)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next record counts
            print(f"passed over: {place(record)}@{record.offset}: {exc!r}", file=sys.stderr)
            continue
        identity = state["source"], state["id"]
        if identity not in store.seen and identity not in new:
            new[identity] = state
            print(JSON.write(event).decode())
    sys.stdout.flush()
    store.commit(offsets, list(new.values()))


def place(at: TopicPartition | ConsumerRecord) -> str:
    return f"{at.topic}/{at.partition}"


async def seek(consumer: AIOKafkaConsumer, store: Store) -> dict[str, int]:
    """Begin each partition where the store has come to.

    Returns, of each partition that is not yet read to its end, the end.
    """
    partitions = consumer.assignment()
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    nexts = {at: max(starts[at], store.offsets.get(place(at), 0)) for at in partitions}
    for at, offset in nexts.items():
        consumer.seek(at, offset)
    return {place(at): ends[at] for at in partitions if nexts[at] < ends[at]}


async def run(options: argparse.Namespace) -> None:
    """Read until the end, where it is asked for, or until a signal."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    store = Store(options.store)
    # Without a group the consumer has all partitions.
    consumer = AIOKafkaConsumer(*options.topics.split(","), bootstrap_servers=options.brokers)
    await consumer.start()
    try:
        unread = await seek(consumer, store)
        while not stopped.is_set() and (unread or not options.until_end):
            found = await consumer.getmany(timeout_ms=POLL_MS, max_records=MAX_RECORDS)
            if records := [record for each in found.values() for record in each]:
                take(store, records)
            unread = {at: end for at, end in unread.items() if store.offsets.get(at, 0) < end}
    finally:
        await consumer.stop()
    table(store, timedelta(seconds=options.patience))


def table(store: Store, patience: timedelta) -> None:
    """Print the latest status of each message."""
    now = datetime.now(UTC)
    for state in store.latest.values():
        print(json.dumps({"latest": state | {"settled": settled(state, now, patience)}}))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--brokers", default="127.0.0.1:9092", help="host:port, commas between")
    parser.add_argument("--topics", default="sms.status,sms.status.rejected", help="as brokers")
    parser.add_argument("--store", default="statuses.jsonl", type=Path, help="survives a restart")
    parser.add_argument(
        "--patience",
        default=172800,
        type=int,
        help="seconds after which an outcome stands that is not final",
    )
    parser.add_argument("--until-end", action="store_true", help="stop at the topics' present end")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(run(arguments()))
