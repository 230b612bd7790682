"""5: records that are too large for their topic; on a real Kafka, which alone refuses them."""

import re
import threading
from collections import Counter
from collections.abc import Iterator

from tests.attacks.rig import ENDPOINTS, SECONDS, TOPIC, Honest, Row, attackers
from tests.support.brokers import KafkaCluster
from tests.support.gateway import Gateway, configuration
from tests.support.maven import JarsUnavailableError
from tests.support.wire import Wire, post

STATES, STATE_BYTES = 100, 24_000
VALUE_BYTES = 4000  # of an attribute: more would make the state invalid
MAX_MESSAGE_BYTES = 20_000


def run() -> Iterator[Row]:
    """One connection of documents whose every event is too large, and an honest sender."""
    name = f"{STATES} states of {STATE_BYTES // 1000} kB, max.message.bytes {MAX_MESSAGE_BYTES}"
    try:
        cluster = KafkaCluster()
        cluster.start()
    except JarsUnavailableError as exc:
        yield name, f"not tried: {exc}"
        return
    try:
        cluster.create_topic(TOPIC, 1, config={"max.message.bytes": str(MAX_MESSAGE_BYTES)})
        cluster.create_topic(f"{TOPIC}.rejected", 1)
        config = configuration(cluster.bootstrap_servers, TOPIC, endpoints=ENDPOINTS)
        with Gateway(config) as gateway:
            yield name, _figure(gateway)
    finally:
        cluster.stop()


def _figure(gateway: Gateway) -> str:
    statuses: Counter[int] = Counter()

    def attack(stop: threading.Event) -> None:
        with Wire(gateway.server_address, timeout=30) as wire:
            while not stop.is_set():
                wire.send(post("/open", _document(sum(statuses.values()))))
                statuses[wire.reply().status] += 1

    alone, honest = Honest(gateway.server_address), Honest(gateway.server_address)
    alone.go(2.0)
    with attackers(1, attack):
        honest.go(SECONDS)
    metrics = gateway.admin("/metrics").body.decode()
    series = r"^sms_bridge_producer_rebuilds_total\S* (\S+)"
    rebuilds = sum(float(n) for n in re.findall(series, metrics, re.MULTILINE))
    return (
        f"{rebuilds:.0f} replacements for {statuses.total()} documents ({dict(statuses)}); "
        f"honest posts: alone {alone.milliseconds()}; beside {honest.milliseconds()}, "
        f"{honest.of_all()}"
    )


def _document(number: int) -> bytes:
    values = (f' note{n}="{"x" * VALUE_BYTES}"' for n in range(STATE_BYTES // VALUE_BYTES))
    notes = "".join(values)
    each = (f'<state id_sms="{number}.{n}" time=""{notes}>read</state>' for n in range(STATES))
    return f"<response>{''.join(each)}</response>".encode()
