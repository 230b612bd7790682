"""What a fault is, and which of them a run goes through. The faults themselves are elsewhere."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.rig import Rig, Settings

Run = Callable[[Rig, random.Random], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind; `weight` is how often chance takes it.

    `nodes` is the least cluster for it, `processes` the fewest that serve, `gateways` how many
    there must be. `ground` is what a scenario must put under the run, if anything.
    """

    name: str
    run: Run
    weight: float = 1.0
    nodes: int = 1
    processes: int = 1
    gateways: int = 1
    ground: str = ""

    def is_borne(self, settings: Settings) -> bool:
        """Whether a run of these settings can do it."""
        return (
            self.nodes <= settings.nodes
            and self.processes <= settings.processes
            and self.gateways <= settings.gateways
            and not self.ground
        )


FAULTS: dict[str, Fault] = {}


def fault(name: str, **options: Any) -> Callable[[Run], Run]:
    """Add a kind of fault; the options are Fault's."""

    def add(run: Run) -> Run:
        FAULTS[name] = Fault(name, run, **options)
        return run

    return add


def kinds(settings: Settings) -> list[Fault]:
    """Those to choose from: the ones that are named, or all that every rig can bear."""
    return [FAULTS[name] for name in settings.faults] or [
        kind for kind in FAULTS.values() if kind.is_borne(settings)
    ]


def schedule(settings: Settings) -> Iterator[Fault]:
    """The faults of a run, without end: the same seed gives the same ones."""
    rng = random.Random(f"{settings.seed} schedule")
    able = kinds(settings)
    if settings.each_first:
        yield from rng.sample(able, len(able))
    while True:
        yield from rng.choices(able, [kind.weight for kind in able])


async def hold(rng: random.Random, least: float, most: float) -> None:
    """Let it last, for a time between these, in seconds."""
    await asyncio.sleep(rng.uniform(least, most))
