"""`python -m tests.chaos.mutants`: the harness held against programs that break the promise.

Each mutant is a copy of the package with one small change; a run that does not notice it has
proved nothing. The present program goes first, through the faults of all of them. Before it come
those that a quick test catches (tests/mutants.py); with `--fast` they alone.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import click

from tests import mutants as fast
from tests.chaos.check import Verdict
from tests.chaos.rig import Network, Settings, new_cluster
from tests.chaos.run import run
from tests.mutants import Change, mutated
from tests.support.brokers import KafkaCluster

MISSING = "acknowledged and missing"
SECONDS = 14.0
QUIET_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Mutant(Change):
    """One that `faults` bring to light: one of the invariants in `caught_by` must break."""

    faults: tuple[str, ...]
    caught_by: tuple[str, ...] = (MISSING,)


ACKNOWLEDGES_PENDING = Mutant(
    "acknowledges what is pending",
    "ack.py",
    "item.outcome.result is _PUBLISHED",
    "item.outcome.result is not Result.FAILED",
    faults=("records-cut",),
)
ACKNOWLEDGES_ANY = Mutant(
    "acknowledges an id when any of its states is published",
    "ack.py",
    "is_durable and whole.get(id_sms, True)",
    "is_durable or whole.get(id_sms, False)",
    faults=("dead-letters-gone",),
)
NEVER_REPLACES = Mutant(
    "never replaces the producer",
    "kafka/supervisor.py",
    "        producer.fail(cause)\n",
    "        return\n",
    faults=("broker-moved",),
    caught_by=("recovery after every fault", "probe after the last fault"),
)
REMEMBERS_TOO_EARLY = Mutant(
    "remembers an event before the broker's answer",
    "duplicates.py",
    "        outcomes = await self._publisher.publish(fresh, deadline, on_too_large)\n",
    "        self._remember(fresh, [Outcome(Result.PUBLISHED, 0, 0)] * len(fresh), logs)\n"
    "        outcomes = await self._publisher.publish(fresh, deadline, on_too_large)\n",
    faults=("records-cut",),
)
SUPPRESSES_BY_ID = Mutant(
    "suppresses states by their id alone",
    "event.py",
    "headers, arrival.timestamp_ms, identity)",
    "headers, arrival.timestamp_ms, id_sms)",
    faults=("records-cut",),
)
MUTANTS = (
    *(ACKNOWLEDGES_PENDING, ACKNOWLEDGES_ANY, NEVER_REPLACES, REMEMBERS_TOO_EARLY),
    SUPPRESSES_BY_ID,
)


def attack(
    mutant: Mutant | None, cluster: KafkaCluster, network: Network, *, seed: int = 1
) -> Verdict:
    """A short run of the mutant, or of the present program with the faults of all mutants."""
    faults = mutant.faults if mutant else tuple({f: None for m in MUTANTS for f in m.faults})
    settings = Settings(
        seconds=SECONDS,
        seed=seed,
        providers=2,
        quiet_seconds=QUIET_SECONDS,
        faults=faults,
        quiet_log=True,
    )
    if mutant is None:
        return asyncio.run(run(settings, cluster, network))
    with mutated(mutant) as package:
        return asyncio.run(run(replace(settings, package=package), cluster, network))


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack them all and print a table; 1 if one escapes, or if the present program breaks."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fast", action="store_true", help="those that a quick test catches alone")
    options = parser.parse_args(arguments)
    seed = options.seed
    escaped_fast = fast.main()
    if options.fast:
        return escaped_fast
    cluster, network = new_cluster(1)
    with cluster:
        present = attack(None, cluster, network, seed=seed)
        _print("passed" if present.holds else "BROKEN", "the present program", present)
        escaped = [m for m in MUTANTS if not _caught(m, cluster, network, seed)]
    return 1 if escaped_fast or escaped or not present.holds else 0


def _caught(mutant: Mutant, cluster: KafkaCluster, network: Network, seed: int) -> bool:
    verdict = attack(mutant, cluster, network, seed=seed)
    caught = bool({*mutant.caught_by} & {*verdict.broken})
    _print("caught" if caught else "ESCAPED", mutant.name, verdict)
    return caught


def _print(word: str, name: str, verdict: Verdict) -> None:
    broken = [f"{f.name} ({f.detail})" for f in verdict.findings if not f.holds]
    click.echo(f"{word:8} {name}: {'; '.join(broken) or 'every invariant holds'}")


if __name__ == "__main__":
    sys.exit(main())
