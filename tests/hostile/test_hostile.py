"""Hostile bodies: what each is answered, and what the largest cost."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bridge.gateway.app import Health, public_app
from bridge.observability.metrics import Metrics
from tests.fuzz import Shape, Target, judge
from tests.hostile.corpus import FULL, LARGE, SMALL, Expected
from tests.support.asgi import request
from tests.support.fakes import RecordingPublisher

# Whatever the machine: `make bench ARGS="--only hostile"` has the time.
MAX_CALLS = 3_000_000  # of functions; 99,999 elements take 2.7 million
MAX_FULL_CALLS = 5_500_000  # 10,000 states read and made into events, or into dead letters
# Of address space: what writes a text of 4 MB reserves eight times as much, untouched.
MAX_MEGABYTES = 180
SECONDS_TO_HANG = 600


@pytest.mark.parametrize("name", SMALL)
async def test_a_hostile_body_is_answered_as_the_contract_says(name: str) -> None:
    """Its status, exactly its ids, and everything that an independent reading expects."""
    body, expected = SMALL[name]
    target = Target(Shape())

    reply = await target.post([body], {})

    assert Expected(reply.status, _ids(reply.body)) == expected
    judge(body, reply, target)


def _ids(body: bytes) -> tuple[str, ...]:
    if body[:1] in (b"[", b"{"):
        held = json.loads(body)
        return tuple(str(item["id_sms"]) for item in held) if isinstance(held, list) else ()
    return tuple(element.text or "" for element in ET.fromstring(body).iter("id_sms"))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_hostile_body_costs_little(name: str) -> None:
    """A bounded number of steps, within a bounded memory."""
    cost = _cost(name, MAX_MEGABYTES)
    assert (cost["status"], cost["suffices"]) == (LARGE[name][1], True)
    assert cost["calls"] < (MAX_FULL_CALLS if name in FULL else MAX_CALLS)


@pytest.mark.slow
def test_a_body_that_costs_too_much_memory_does_not_pass() -> None:
    """Nested without a limit; and the largest document that is read, within too little."""
    assert not _cost("nested", MAX_MEGABYTES, "--any-depth")["suffices"]
    assert not _cost("most_invalid_states", MAX_MEGABYTES / 5)["suffices"]


def _cost(name: str, megabytes: float, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.hostile.cost", name]
    done = subprocess.run(
        [*command, "--megabytes", str(megabytes), *options],
        capture_output=True,
        check=False,
        timeout=SECONDS_TO_HANG,
        text=True,
        # One heap, whatever the number of threads and cores.
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    if done.returncode:  # what had not enough memory to end in order
        return {"status": None, "suffices": False, "stderr": done.stderr[-2000:]}
    assert "observability hook failed" not in done.stderr
    cost: dict[str, Any] = json.loads(done.stdout)
    return cost


async def test_every_body_of_the_corpus_leaves_the_application_as_it_was() -> None:
    """One process takes them all in turn, and still answers an honest document."""
    app = public_app(Shape().settings(), RecordingPublisher(), Metrics(), Health(lambda: None))
    for body, _ in SMALL.values():
        await request(app, body)

    reply = await request(app, b'<response><state id_sms="7">read</state></response>')

    assert reply is not None
    assert (reply.status, _ids(reply.body)) == (200, ("7",))
