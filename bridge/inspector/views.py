"""The pages as HTML: templates in which everything is escaped, and what they show of a document.

No I/O but the templates' own files, which are read once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from bridge.inspector import curl, highlight
from bridge.inspector.filters import Filter
from bridge.inspector.store import (
    FINE,
    OUTCOMES,
    UNREADABLE,
    Entry,
    RefusalCount,
    RefusalKind,
    StateRow,
    Store,
)
from bridge.observability.requests import Disposition

MAX_ROWS = 200  # of the table
MAX_IDS = 3  # of one row
MAX_RELATED_IDS = 50  # of one document: whose other documents are shown
MAX_RELATED = 20  # documents of one id
OPEN_STATES = 1  # whose events are unfolded

# What each word means, for the title of its label.
MEANING = {
    "published": "in Kafka",
    "repeated": "in Kafka since an earlier request",
    "rejected": "not valid: in the dead-letter topic",
    "failed": "not in Kafka: the provider sends it again",
    "unknown": "handed over, not answered in time: the provider sends it again",
    "dropped": "not valid, and no topic accepts it",
    "unreadable": "the whole body cannot be read",
    "unknown word": "a status with no meaning here: outcome, final and rank are null",
    "unreadable time": "changed_at is null: see raw_time, and the format of the provider's times",
}
WHY_REFUSED = {
    Disposition.NOT_FOUND: "no endpoint has this path",
    Disposition.METHOD: "only POST",
    Disposition.ADDRESS: "address not allowed",
    Disposition.CREDENTIALS: "credentials",
    Disposition.OVERLOADED: "too much in flight",
    Disposition.NO_LENGTH: "HTTP/1.0 without a length",
    Disposition.COMPRESSED: "compressed body",
    Disposition.BODY_TOO_LARGE: "body too large",
    Disposition.BODY_TOO_SLOW: "the body did not come in time",
    Disposition.MALFORMED: "the body's chunks cannot be read",
    Disposition.EMPTY: "empty body",
    Disposition.LEFT: "left before the end of the body",
    Disposition.STOPPING: "the gateway was stopping",
    Disposition.FAULT: "a fault of the gateway's own",
}


class Related(NamedTuple):
    """An id of a document, and where else it was."""

    id_sms: str
    visits: list[tuple[Entry, StateRow, bool]]
    more: int


class Pages:
    """Renders what it is given; on any thread.

    `targets` are the endpoints, by name; `statuses` the words that are known; `not_ready` says what
    the gateway lacks, if anything.
    """

    def __init__(
        self,
        targets: Mapping[str, curl.Target],
        statuses: Iterable[str],
        not_ready: Callable[[], str | None],
    ) -> None:
        self.gateway = ""  # its address, once it listens: http://HOST:PORT
        self.use(targets, statuses)
        self._not_ready = not_ready
        # `finalize` sees every value on its way into a page; what it returns is then escaped.
        self._templates = Environment(
            loader=PackageLoader("bridge.inspector"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"clock": _clock, "size": _size, "took": _took}
        self._templates.globals |= {
            "MEANING": MEANING,
            "OUTCOMES": OUTCOMES,
            "FINE": FINE,
            "UNREADABLE": UNREADABLE,
            "phrase": _phrase,
        }

    def use(self, targets: Mapping[str, curl.Target], statuses: Iterable[str]) -> None:
        """Show these endpoints and words from now on."""
        self._targets, self._statuses = targets, sorted(statuses)

    def index(self, snapshot: "Snapshot", wanted: Filter, cursor: str) -> str:
        """The table of documents, the newest first, with the form above it.

        `cursor` is where the news begin that this page does not have.
        """
        found = [entry for entry in snapshot.entries if wanted.matches(entry)]
        return self._render(
            "index.html",
            wanted=wanted,
            cursor=cursor,
            max_rows=MAX_ROWS,
            rows=found[:MAX_ROWS],
            found=len(found),
            kept=len(snapshot.entries),
            endpoints=sorted(self._targets),
            statuses=self._statuses,
            **self._totals(snapshot),
        )

    def rows(self, entries: Sequence[Entry], skipped: int) -> str:
        """Rows of the table, as the page takes them in while it is open."""
        return self._render("rows.html", rows=entries, skipped=skipped)

    def totals(self, snapshot: "Snapshot") -> str:
        """What has been counted since the start."""
        return self._render("totals.html", **self._totals(snapshot))

    def document(self, entry: Entry, others: Iterable["Others"]) -> str:
        """One document: its body beside what became of it."""
        whole = len(entry.body) == entry.body_size
        target = self._targets.get(entry.endpoint)
        return self._render(
            "document.html",
            entry=entry,
            body=highlight.document_lines(entry.body, entry.form),
            answer=highlight.document_lines(entry.answer, entry.form),
            rows=[(row, highlight.json_lines(row.value)) for row in entry.rows],
            open_states=OPEN_STATES,
            curl=curl.command(target, self.gateway, entry.body) if target and whole else None,
            related=related(entry, others),
        )

    def gone(self, number: int) -> str:
        """What is said of a document that is not kept any more."""
        return self._render("gone.html", number=number)

    def _totals(self, snapshot: "Snapshot") -> dict[str, Any]:
        return {
            "documents": snapshot.number,
            "counts": snapshot.counts,
            "refusals": [(kind, _why(kind), count) for kind, count in snapshot.refusals],
            "not_ready": self._not_ready(),
        }

    def _render(self, name: str, **values: Any) -> str:
        return self._templates.get_template(name).render(values)


class Snapshot(NamedTuple):
    """What a page needs of a store that goes on changing."""

    entries: Sequence[Entry]
    number: int
    counts: Mapping[str, int]
    refusals: Sequence[tuple[RefusalKind, RefusalCount]]

    @classmethod
    def of(cls, store: Store, entries: Sequence[Entry] = ()) -> "Snapshot":
        """To be taken on the loop."""
        refusals = sorted(store.refusals.items(), key=lambda each: -each[1].count)
        return cls(entries, store.number, Counter(store.counts), refusals)


class Others(NamedTuple):
    """The newest other documents with one id, or one body, and how many more there are."""

    key: str
    entries: list[Entry]
    more: int


def others(store: Store, entry: Entry) -> list[Others]:
    """Where else a document's ids are, as far as it is shown. To be taken on the loop."""
    keys = dict.fromkeys(row.id_sms or row.mark for row in entry.rows)
    shown = [key for key in keys if key][:MAX_RELATED_IDS]
    return [Others(key, *store.others(key, entry.number, MAX_RELATED)) for key in shown]


def related(entry: Entry, others: Iterable[Others]) -> list[Related]:
    """What those documents say of the ids; those that were nowhere else are left out."""
    found = []
    for key, entries, more in others:
        marks = {row.mark for row in entry.rows if key in (row.id_sms, row.mark)}
        visits = [
            (other, row, bool(row.mark) and row.mark in marks)
            for other in entries
            for row in other.rows
            if key in (row.id_sms, row.mark)
        ]
        if visits:
            found.append(Related(name_of(key), visits[-MAX_RELATED:], more))
    return found


def name_of(key: str) -> str:
    """What a page calls an id, or an unreadable body, which has none."""
    return "the same body" if key.startswith("body:") else key


# --- values ------------------------------------------------------------------------------


def _shown(value: Any) -> Any:
    # What is Markup already was escaped, and is a subclass.
    return highlight.visible(value) if type(value) is str else value


def _clock(moment: datetime) -> str:
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"


def _size(count: int) -> str:
    if count < 1024:  # noqa: PLR2004
        return f"{count} B"
    if count < 1024 * 1024:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024 / 1024:.1f} MiB"


def _took(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _why(kind: RefusalKind) -> str:
    why = WHY_REFUSED[kind.disposition]
    return f"{kind.credentials} {why}" if kind.credentials else why
