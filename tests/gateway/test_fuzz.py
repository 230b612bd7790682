"""A short run of the fuzzer, and what shows that it would notice."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import bridge.ack
import bridge.gateway.responses
import bridge.pipeline
from bridge.model import Document, Form, Item, Outcome, Result, State
from bridge.parse import parse
from tests.fuzz import Input, fuzz

INPUTS = 6_000
SEED = 20_261_123

Acknowledged = tuple[list[str], list[str]]


@pytest.mark.slow
async def test_made_up_bodies_are_answered_as_the_contract_says() -> None:
    """Nothing escapes, no answer but the contract's, and every kind of answer is among them."""
    report = await fuzz(SEED, range(INPUTS))

    assert report.findings == []
    assert sum(report.answers.values()) == INPUTS
    kinds = {"200 all", "200 some", "200 none", "200 no ids", "503 nothing taken", "400"}
    assert kinds <= report.answers.keys()
    accepted = sum(n for word, n in report.answers.items() if word.startswith(("200", "503")))
    assert accepted > 0.4 * INPUTS


def test_an_input_is_the_same_whenever_it_is_made() -> None:
    """A seed and a number are enough to meet a finding again."""
    assert [Input.of(7, n) for n in range(200)] == [Input.of(7, n) for n in range(200)]
    assert Input.of(7, 0) != Input.of(8, 0)


# --- what it would notice ----------------------------------------------------------------


def _any_state_is_enough(
    items: Sequence[Item], unprocessed_ids: Sequence[str] = ()
) -> Acknowledged:
    """Lists an id of which one state was published."""
    del unprocessed_ids
    taken = [item for item in items if item.outcome.result is Result.PUBLISHED]
    return list(dict.fromkeys(item.state.id_sms for item in taken if item.state.id_sms)), []


def _all_are_durable(items: Sequence[Item], unprocessed_ids: Sequence[str] = ()) -> Acknowledged:
    published = [replace(item, outcome=Outcome(Result.PUBLISHED)) for item in items]
    return bridge.ack.acknowledged(published, unprocessed_ids)


def _unprocessed_are_forgotten(
    items: Sequence[Item], unprocessed_ids: Sequence[str] = ()
) -> Acknowledged:
    del unprocessed_ids
    return bridge.ack.acknowledged(items)


def _unescaped(ids: Iterable[str], form: Form = Form.XML) -> bytes:
    del form
    inner = "".join(f"<id_sms>{id_sms}</id_sms>" for id_sms in ids)
    return f'<?xml version="1.0" encoding="utf-8"?><response>{inner}</response>'.encode()


def _lower_cased(body: bytes, **options: Any) -> Document:
    """Reads ids in another case than they came in."""
    document = parse(body, **options)
    valid = [s for s in document.states if isinstance(s, State)]
    states = tuple(s._replace(id_sms=s.id_sms.lower()) for s in valid)
    return document._replace(states=states)


def _failing(body: bytes, **options: Any) -> Document:
    """Lets something escape that nobody expects."""
    document = parse(body, **options)
    if len(document.states) > 4:
        raise RecursionError
    return document


MUTANTS: Sequence[tuple[Any, str, Callable[..., Any]]] = (
    (bridge.pipeline, "acknowledged", _any_state_is_enough),
    (bridge.pipeline, "acknowledged", _all_are_durable),
    (bridge.pipeline, "acknowledged", _unprocessed_are_forgotten),
    (bridge.gateway.responses, "answer", _unescaped),
    (bridge.pipeline, "parse", _lower_cased),
    (bridge.pipeline, "parse", _failing),
)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "mutant"), MUTANTS)
async def test_the_fuzzer_notices_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Callable[..., Any]
) -> None:
    """Each of these faults, put in on purpose, is found within a few thousand inputs."""
    monkeypatch.setattr(module, name, mutant)

    report = await fuzz(SEED, range(2_000))

    assert report.findings
