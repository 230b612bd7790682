"""Ceilings: what parsing, publishing and one produce request alone cost, in a process of their own.

Prints one JSON object: the states that were done, and the CPU and wall-clock seconds for them; of
lone produce requests the milliseconds that each took.
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import uvloop
import xmltodict
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.protocol.produce import ProduceRequest

from benchmarks.baseline import SOURCE, TYPE_PREFIX
from benchmarks.bodies import document, prefix, templates
from bridge.kafka.producer import MAX_BATCH_BYTES
from bridge.model import Message, Route
from bridge.pipeline import prepare

POOL_STATES = 20_000
WARM_UP_SECONDS = 0.5


class Meter:
    """Counts states, and the time since the warm-up was over."""

    def __init__(self, seconds: float) -> None:
        self._warm_at = time.perf_counter() + WARM_UP_SECONDS
        self._ends_at = self._warm_at + seconds
        self._is_warm = False
        self._begin()

    def _begin(self) -> None:
        self._states, self._cpu, self._wall = 0, time.process_time(), time.perf_counter()

    def goes_on(self) -> bool:
        """Whether there is time left; the first call after the warm-up begins the count."""
        now = time.perf_counter()
        if not self._is_warm and now > self._warm_at:
            self._is_warm = True
            self._begin()
        return now < self._ends_at

    def add(self, states: int) -> None:
        """Count what was done."""
        self._states += states

    def figures(self) -> dict[str, float]:
        """Return what is printed."""
        return {
            "states": self._states,
            "cpu_seconds": time.process_time() - self._cpu,
            "seconds": time.perf_counter() - self._wall,
        }


def parse_alone(states: int, seconds: float) -> dict[str, float]:
    """`xmltodict.parse` on the bodies that the gateways get, and nothing else."""
    bodies = [document(t, prefix(0, n)) for n, t in enumerate(templates(states))]
    meter = Meter(seconds)
    while meter.goes_on():
        for body in bodies[:: max(1, len(bodies) // 100)]:
            xmltodict.parse(body, force_list=("state",))
            meter.add(states)
    return meter.figures()


async def publish_alone(
    bootstrap_servers: str, topic: str, at_once: int, seconds: float
) -> dict[str, float]:
    """Partition, frame and publish ready records, `at_once` of them at a time.

    So many as the gateways have in flight: one batch a partition on its way, as the bridge has.
    """
    records = _records(topic)
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=MAX_BATCH_BYTES,
    ) as producer:
        partitions = sorted(await producer.partitions_for(topic))
        meter, start = Meter(seconds), 0
        while meter.goes_on():
            turn = records[start : start + at_once]
            await _publish(producer, topic, turn, partitions)
            meter.add(len(turn))
            start = (start + at_once) % (len(records) - at_once)
        return meter.figures()


async def lone_produce(
    bootstrap_servers: str, topic: str, rate: float, seconds: float
) -> dict[str, list[float]]:
    """Produce one record at a time, so many a second; the round trip of each request, in ms."""
    found: list[float] = []
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True
    ) as producer:
        send = producer.client.send

        async def timed(node: int, request: Any, **options: Any) -> Any:
            started = time.perf_counter()
            response = await send(node, request, **options)
            if isinstance(request, ProduceRequest):
                found.append(round(1000 * (time.perf_counter() - started), 3))
            return response

        producer.client.send = timed
        for record in _records(topic)[: round(rate * seconds)]:
            await producer.send_and_wait(topic, record.value, record.key, headers=record.headers)
            await asyncio.sleep(1 / rate)
    return {"round_trips_ms": found}


async def _publish(
    producer: AIOKafkaProducer, topic: str, records: list[Message], partitions: list[int]
) -> None:
    choose = DefaultPartitioner()
    batches: dict[int, list[Message]] = defaultdict(list)
    for record in records:
        batches[choose(record.key, partitions, partitions)].append(record)
    await asyncio.gather(*(_send(producer, topic, p, batch) for p, batch in batches.items()))


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: list[Message]
) -> None:
    batch = producer.create_batch()
    for record in records:
        while not _append(batch, record):
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
    await (await producer.send_batch(batch, topic, partition=partition))


def _append(batch: object, record: Message) -> bool:
    appended = batch.append(  # type: ignore[attr-defined]  # aiokafka's, untyped
        timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers
    )
    return appended is not None


def _records(topic: str) -> list[Message]:
    route = Route("main", SOURCE, ZoneInfo("UTC"), topic, None, TYPE_PREFIX, "structured")
    records: list[Message] = []
    for number, template in enumerate(templates(100, POOL_STATES)):
        body = document(template, prefix(0, number))
        prepared = prepare(route, body, datetime.now(UTC), max_states=100)
        records += [item.message for item in prepared.items if item.message is not None]
    return records


def main() -> None:
    """Measure one part and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ceilings", description=__doc__)
    parser.add_argument("part", choices=("parse", "publish", "produce"))
    parser.add_argument("--states", type=int, help="of a document, or at once")
    parser.add_argument("--rate", type=float, help="of produce requests, a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bootstrap-servers", default="")
    parser.add_argument("--topic", default="")
    o = parser.parse_args()
    where = o.bootstrap_servers, o.topic
    figures: object
    if o.part == "parse":
        figures = parse_alone(o.states, o.seconds)
    elif o.part == "publish":
        figures = uvloop.run(publish_alone(*where, o.states, o.seconds))
    else:
        figures = uvloop.run(lone_produce(*where, o.rate, o.seconds))
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
