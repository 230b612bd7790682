"""Runs the bridge and its peers. A peer takes part once all that it acknowledged was read back."""

import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice

from confluent_kafka import Consumer, TopicPartition

from benchmarks.bodies import document, prefix, templates
from benchmarks.peers.programs import PEERS, Peer, PeerUnavailableError, Running
from benchmarks.programs import TOPICS, Bridge, Broker, Program
from bridge.demo.child import HOST
from bridge.errors import BridgeError
from tests.support.topics import read_topic

BRIDGE = "bridge"
# Posts of the check, by states a document: as many at a time as there are threads.
CHECKED = {1: 256, 20: 16}
CHECK_RUN = 999  # makes the ids its own
CHECK_THREADS = 32
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """One that serves, and what counts its records."""

    program: Program
    written: "Written"


@contextmanager
def gateways(
    broker: Broker,
    names: Sequence[str],
    cores: frozenset[int] | None,
    left_out: Callable[[str, str], None],
) -> Iterator[dict[str, Gateway]]:
    """Run the bridge and the named peers, by name.

    `left_out` is told the name of a peer that cannot take part, and why.
    """
    servers = broker.bootstrap_servers
    with ExitStack() as stack:

        def add(name: str, program: Program, topic: str) -> None:
            written = stack.enter_context(closing(Written(servers, topic)))
            running[name] = Gateway(program, written)

        running: dict[str, Gateway] = {}
        add(BRIDGE, stack.enter_context(Bridge(servers, cores)), TOPICS[0])
        for peer in (peer for peer in PEERS if peer.name in names):
            try:
                program = stack.enter_context(_started(peer, broker, cores))
            except (PeerUnavailableError, BridgeError, TimeoutError) as exc:
                left_out(peer.name, str(exc))
            else:
                add(peer.name, program, peer.topic)
        yield running


@contextmanager
def _started(peer: Peer, broker: Broker, cores: frozenset[int] | None) -> Iterator[Program]:
    command = peer.build()
    if broker.embedded:
        raise PeerUnavailableError("its client needs a real Kafka")
    with Running(command, broker.bootstrap_servers, peer.topic, cores) as program:
        check(program, broker.bootstrap_servers, peer.topic)
        yield program


def versions(names: Iterable[str]) -> dict[str, str]:
    """What the peers are made of, by name."""
    return {peer.name: f"{peer.made_of} ({peer.runtime()})" for peer in PEERS if peer.name in names}


def check(program: Program, bootstrap_servers: str, topic: str) -> None:
    """Hold what an independent client reads against what was posted: each state, once, by its key.

    The topic must be empty before. PeerUnavailableError says what differs.
    """
    posts = [
        document(template, prefix(CHECK_RUN, 1000 * states + number))
        for states, count in CHECKED.items()
        for number, template in enumerate(islice(templates(states), count))
    ]
    with ThreadPoolExecutor(CHECK_THREADS) as threads:
        wanted = list(threads.map(ids_of, posts))
        answers = list(threads.map(lambda body: listed(program, body), posts))
    unlisted = sum(answer != ids for answer, ids in zip(answers, wanted, strict=True))
    if unlisted:
        raise PeerUnavailableError(f"{unlisted} of {len(posts)} answers do not list every id")
    records = read_topic(bootstrap_servers, topic, foreign=True)
    keys = sorted((record.key or b"").decode() for record in records)
    if keys != sorted(id_sms for ids in wanted for id_sms in ids):
        raise PeerUnavailableError(
            f"of {sum(map(len, wanted))} acknowledged states {len(set(keys))} are in Kafka, "
            f"in {len(keys)} records"
        )


def ids_of(body: bytes) -> list[str]:
    """The ids of a document, in order."""
    return [state.attrib["id_sms"] for state in ET.fromstring(body)]


def listed(program: Program, body: bytes) -> list[str] | None:
    """Post a document; the ids that are listed, or None where the answer is no 200."""
    request = urllib.request.Request(
        f"http://{HOST}:{program.port}/webhook", body, {"Content-Type": "text/xml"}
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return [element.text or "" for element in ET.fromstring(answer.read())]
    except urllib.error.HTTPError as answer:
        answer.close()
        return None
    except OSError:  # a body that is too long is not read to its end
        return None


class Written:
    """Counts the records of a topic, as an independent client sees it."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers, "group.id": "unused", "log_level": 0}
        )
        found = self._consumer.list_topics(topic, TIMEOUT_SECONDS).topics[topic]
        self._partitions = [TopicPartition(topic, number) for number in found.partitions]

    def __call__(self) -> int:
        """How many records were written since the topic was made."""
        return sum(
            self._consumer.get_watermark_offsets(partition, TIMEOUT_SECONDS)[1]
            for partition in self._partitions
        )

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()
