"""Which documents somebody wants to see: the page's form, read from a query string."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

from bridge.inspector.store import OUTCOMES, Entry, StateRow

MAX_CHARACTERS = 128  # of each value: ids have 64


@dataclass(frozen=True, slots=True)
class Filter:
    """What a document must have; an empty value lets everything pass.

    `id`, `status` (the provider's word) and `outcome` must be those of one and the same state;
    a part of an id is enough. `answer` is the HTTP status, as text.
    """

    id: str = ""
    status: str = ""
    outcome: str = ""
    answer: str = ""
    endpoint: str = ""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Filter":
        """Read the form. What it does not know is left out; an outcome that is none is not one."""
        values = {f.name: query.get(f.name, "").strip()[:MAX_CHARACTERS] for f in fields(cls)}
        if values["outcome"] not in OUTCOMES:
            values["outcome"] = ""
        values["status"] = values["status"].lower()
        return cls(**values)

    @property
    def query(self) -> str:
        """The query string that says the same; empty if everything passes."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return urlencode({name: value for name, value in values.items() if value})

    def matches(self, entry: Entry) -> bool:
        """Whether to show the document."""
        if self.answer and self.answer != str(entry.status):
            return False
        if self.endpoint and self.endpoint != entry.endpoint:
            return False
        if not (self.id or self.status or self.outcome):
            return True
        return any(self._takes(row) for row in entry.rows) or (
            # Of a large document not every state is kept, but all of them are counted.
            not (self.id or self.status) and self.outcome in entry.counts
        )

    def _takes(self, row: StateRow) -> bool:
        return (
            (not self.id or self.id in row.id_sms)
            and (not self.status or self.status == row.status)
            and (not self.outcome or self.outcome == row.outcome)
        )
