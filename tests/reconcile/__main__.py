"""The proof in figures: `make reconcile`, on a Kafka of its own or $KAFKA_BOOTSTRAP_SERVERS."""

import argparse
import os
import tempfile
import uuid
from pathlib import Path

from tests.reconcile.proof import Bench
from tests.support.brokers import ExternalKafka, KafkaCluster


def main() -> None:
    """Run it twice: to the end, and killed on the way."""
    parser = argparse.ArgumentParser(prog="python -m tests.reconcile", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    given = parser.parse_args()
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    kafka = ExternalKafka(servers) if servers else KafkaCluster()
    if isinstance(kafka, KafkaCluster):
        kafka.start()
    try:
        for kills in (0, given.kills):
            with tempfile.TemporaryDirectory(prefix="sms-bridge-reconcile-") as directory:
                topic = f"reconcile.{uuid.uuid4().hex[:12]}"
                proof = Bench(kafka, topic, Path(directory), given.messages).prove(kills)
                print(proof)  # noqa: T201
                if proof.wrong or proof.two_events_of_one_id:
                    raise SystemExit("not proved")
    finally:
        if isinstance(kafka, KafkaCluster):
            kafka.stop()


if __name__ == "__main__":
    main()
