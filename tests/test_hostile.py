"""Hostile bodies: what each is answered, and what the largest cost."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from bridge.gateway.app import Health, public_app
from bridge.observability.metrics import Metrics
from tests.asgi import request
from tests.fakes import RecordingPublisher
from tests.fuzz import Shape, Target, judge
from tests.hostile.corpus import FULL, LARGE, SMALL, Expected

# A slow machine may take longer: 2 doubles the time that a body may cost.
FACTOR = float(os.environ.get("HOSTILE_COST_FACTOR", "1"))
MAX_SECONDS = 0.5 * FACTOR
MAX_FULL_SECONDS = 0.8 * FACTOR  # 10,000 states read and made into events
MAX_MEGABYTES = 100
MAX_FULL_MEGABYTES = 130


@pytest.mark.parametrize("name", SMALL)
async def test_a_hostile_body_is_answered_as_the_contract_says(name: str) -> None:
    """Its status, exactly its ids, and everything that an independent reading expects."""
    body, expected = SMALL[name]
    target = Target(Shape())

    reply = await target.post([body], {})

    assert Expected(reply.status, _ids(reply.body)) == expected
    judge(body, reply, target)


def _ids(body: bytes) -> tuple[str, ...]:
    return tuple(element.text or "" for element in ET.fromstring(body).iter("id_sms"))


@pytest.mark.parametrize("name", LARGE)
def test_a_large_hostile_body_costs_little(name: str) -> None:
    """Under half a second of a processor and 100 MB; a full document 0.8 s and 130 MB."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.cost", name],
        capture_output=True,
        check=False,
        timeout=120 * FACTOR,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)
    assert cost["status"] == LARGE[name][1]
    full = name in FULL
    assert cost["seconds"] < (MAX_FULL_SECONDS if full else MAX_SECONDS), cost
    assert cost["megabytes"] < (MAX_FULL_MEGABYTES if full else MAX_MEGABYTES), cost


async def test_every_body_of_the_corpus_leaves_the_application_as_it_was() -> None:
    """One process takes them all in turn, and still answers an honest document."""
    app = public_app(Shape().settings(), RecordingPublisher(), Metrics(), Health(lambda: None))
    for body, _ in SMALL.values():
        await request(app, body)

    reply = await request(app, b'<response><state id_sms="7">read</state></response>')

    assert reply is not None
    assert (reply.status, _ids(reply.body)) == (200, ("7",))
