"""What is required, and whether a run has met it."""

from dataclasses import dataclass

from benchmarks.figures import Spread
from benchmarks.tables import Row, span


@dataclass(frozen=True, slots=True)
class Bar:
    """One requirement. `found` is None where it was not measured."""

    what: str
    wanted: str
    found: Spread | None
    met: bool

    def row(self) -> Row:
        """Return its line of the table."""
        found = f"{self.found.median:.3g} ({span(self.found)})" if self.found else ""
        verdict = "met" if self.met else "**not met**"
        return self.what, self.wanted, found, verdict if self.found else "not measured"


def at_least(what: str, limit: float, found: Spread | None) -> Bar:
    """Hold a median against what it must reach."""
    return Bar(what, f"at least {limit:g}", found, found is not None and found.median >= limit)


def at_most(what: str, limit: float, found: Spread | None) -> Bar:
    """Hold a median against what it must not exceed."""
    return Bar(what, f"at most {limit:g}", found, found is not None and found.median <= limit)
