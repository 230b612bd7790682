"""Validates custom resources with the models of them that npm has, in Node.

The models know types, patterns and words, but take unknown keys, and there are none of Strimzi and
the vertical autoscaler: those are the business of tests/helm/custom.py. They are fetched once,
into the user's cache.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.npm import Packages, packages

SCRIPT = Path(__file__).parent / "validate.mjs"
PINS = [Path(__file__).parent / "models" / name for name in ("package.json", "package-lock.json")]


@dataclass(frozen=True, slots=True)
class Models:
    """The installed models."""

    packages: Packages

    def problems(self, objects: Sequence[dict[str, Any]]) -> list[list[str] | None]:
        """What is wrong with each object, in their order; None where there is no model of it.

        One process for all: starting it is what takes time.
        """
        found: list[list[str] | None] = json.loads(
            self.packages.run(SCRIPT, json.dumps(list(objects)))
        )
        assert len(found) == len(objects)
        return found


def models() -> Models:
    """The models, installed. NpmUnavailableError says why they cannot be."""
    return Models(packages("models", PINS))
