"""The documents that the load generators post. Every one has ids of its own.

A template is a document cut wherever the ids' prefix goes: joining its parts with a prefix that
was never used makes a new document, at the cost of one copy.
"""

import random
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from bridge.simulate import Plan, SentState, render, states

PREFIX_DIGITS = 11  # with the four of the index, an id is an integer below 2^53
CUT, END = b"\0", b"\1"  # in a file of templates, as post.lua reads it
POPULATION = 8192  # states over all templates of one size
# The times of an hour: a provider posts a status within seconds, or again within minutes.
SPREAD_SECONDS = 3600
_FIRST_TIME = datetime(2026, 1, 15, 12)  # noqa: DTZ001 -- the provider sends local time

Template = tuple[bytes, ...]


def templates(states_per_document: int, population: int = POPULATION) -> list[Template]:
    """Documents with so many states each, in the simulated provider's mix of statuses."""
    count = max(4, population // states_per_document)
    plan = Plan("http://localhost/", count * states_per_document, seed=1)
    rng = random.Random(1)
    sent = iter([_within_hours(state, rng) for state in states(plan)])
    return [_template(list(islice(sent, states_per_document))) for _ in range(count)]


def write_templates(file: Path, states_per_document: int) -> None:
    """Write them to a file."""
    file.write_bytes(b"".join(CUT.join(each) + END for each in templates(states_per_document)))


def read_templates(file: Path) -> list[Template]:
    """Return what `write_templates` has written."""
    return [tuple(text.split(CUT)) for text in file.read_bytes().split(END)[:-1]]


def prefix(run: int, number: int) -> bytes:
    """What makes the ids of the run's request with this number unlike all others."""
    return b"%03d%08d" % (run % 1000, number)


def document(template: Template, unique: bytes) -> bytes:
    """One document; `unique` has PREFIX_DIGITS digits."""
    return unique.join(template)


def document_bytes(template: Template) -> int:
    """How long each document of the template is."""
    return sum(map(len, template)) + PREFIX_DIGITS * (len(template) - 1)


def _within_hours(state: SentState, rng: random.Random) -> SentState:
    moment = _FIRST_TIME + timedelta(seconds=rng.randrange(SPREAD_SECONDS))
    return replace(state, time=state.time and str(moment))


def _template(sent: list[SentState]) -> Template:
    cut = CUT.decode()
    numbered = [replace(state, id_sms=f"{cut}{i:04d}") for i, state in enumerate(sent)]
    return tuple(render(numbered).split(CUT))
