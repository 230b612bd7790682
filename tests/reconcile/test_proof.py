"""After an outage that outlasts five attempts every latest status is the provider's again."""

from pathlib import Path

import pytest

from tests.reconcile.proof import Bench
from tests.support.brokers import ExternalKafka


@pytest.mark.parametrize("kills", [0, 10])
def test_what_outlasts_five_attempts_comes_back(
    kafka: ExternalKafka, topic: str, tmp_path: Path, kills: int
) -> None:
    """Killed on its way, too: it ends the same way, without a record more."""
    messages = 2000
    proof = Bench(kafka, topic, tmp_path, messages).prove(kills, batch=20)
    assert proof.kills == kills
    assert proof.in_question == proof.lost == messages // 3
    assert proof.wrong == []
    assert proof.two_events_of_one_id == []
    assert proof.report["ok"]
    assert proof.report["asked"] == proof.report["answered"] == messages
    # What was published and not yet written down is in the topic, which is read again.
    assert proof.repeated == 0
