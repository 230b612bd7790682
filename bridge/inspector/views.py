"""The pages as HTML: templates in which everything is escaped, and what they show of a document.

No I/O but the templates' own files, which are read once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from bridge.inspector import curl
from bridge.inspector import highlight as paint
from bridge.inspector.filters import Filter
from bridge.inspector.store import (
    FINE,
    OUTCOMES,
    REFUSED,
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
OPEN_FATES = 1  # whose events are unfolded

# What each word means, for the title of its label.
MEANING = {
    "published": "in Kafka",
    "repeated": "in Kafka since an earlier request",
    "rejected": "not valid: in the dead-letter topic",
    "failed": "not in Kafka: the provider sends it again",
    "unknown": "handed over, not answered in time: the provider sends it again",
    "dropped": "not valid, and no topic takes it",
    "refused": "the whole body cannot be read",
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
        self._targets = targets
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
            "REFUSED": REFUSED,
            "STATUSES": sorted(statuses),
            "phrase": _phrase,
        }

    def index(self, ring: "Snapshot", wanted: Filter, cursor: str) -> str:
        """The table of documents, the newest first, with the form above it.

        `cursor` is where the news begin that this page does not have.
        """
        found = [entry for entry in ring.entries if wanted.matches(entry)]
        return self._render(
            "index.html",
            wanted=wanted,
            cursor=cursor,
            max_rows=MAX_ROWS,
            rows=found[:MAX_ROWS],
            found=len(found),
            kept=len(ring.entries),
            endpoints=sorted(self._targets),
            **self._totals(ring),
        )

    def rows(self, entries: Sequence[Entry], skipped: int) -> str:
        """Rows of the table, as the page takes them in while it is open."""
        return self._render("rows.html", rows=entries, skipped=skipped)

    def totals(self, ring: "Snapshot") -> str:
        """What has been counted since the start."""
        return self._render("totals.html", **self._totals(ring))

    def document(self, entry: Entry, others: Iterable["Others"]) -> str:
        """One document: its body beside what became of it."""
        whole = len(entry.body) == entry.body_size
        target = self._targets.get(entry.endpoint)
        return self._render(
            "document.html",
            entry=entry,
            body=paint.document_lines(entry.body, entry.form),
            answer=paint.document_lines(entry.answer, entry.form),
            fates=[(fate, paint.json_lines(fate.value)) for fate in entry.fates],
            open_fates=OPEN_FATES,
            curl=curl.command(target, self.gateway, entry.body) if target and whole else None,
            related=related(entry, others),
        )

    def gone(self, number: int) -> str:
        """What is said of a document that is not kept any more."""
        return self._render("gone.html", number=number)

    def _totals(self, ring: "Snapshot") -> dict[str, Any]:
        return {
            "documents": ring.number,
            "counts": ring.counts,
            "refusals": [(door, _why(door), refusals) for door, refusals in ring.refusals],
            "not_ready": self._not_ready(),
        }

    def _render(self, name: str, **values: Any) -> str:
        return self._templates.get_template(name).render(values)


class Snapshot(NamedTuple):
    """What a page needs of a ring that goes on changing."""

    entries: Sequence[Entry]
    number: int
    counts: Mapping[str, int]
    refusals: Sequence[tuple[RefusalKind, RefusalCount]]

    @classmethod
    def of(cls, ring: Store, entries: Sequence[Entry] = ()) -> "Snapshot":
        """To be taken on the loop."""
        refusals = sorted(ring.refusals.items(), key=lambda each: -each[1].count)
        return cls(entries, ring.number, Counter(ring.counts), refusals)


class Others(NamedTuple):
    """The newest other documents with one id, or one body, and how many more there are."""

    key: str
    entries: list[Entry]
    more: int


def others(ring: Store, entry: Entry) -> list[Others]:
    """Where else a document's ids are, as far as it is shown. To be taken on the loop."""
    keys = dict.fromkeys(fate.id_sms or fate.mark for fate in entry.fates)
    shown = [key for key in keys if key][:MAX_RELATED_IDS]
    return [Others(key, *ring.others(key, entry.number, MAX_RELATED)) for key in shown]


def related(entry: Entry, others: Iterable[Others]) -> list[Related]:
    """What those documents say of the ids; those that were nowhere else are left out."""
    found = []
    for key, entries, more in others:
        marks = {fate.mark for fate in entry.fates if key in (fate.id_sms, fate.mark)}
        visits = [
            (other, fate, bool(fate.mark) and fate.mark in marks)
            for other in entries
            for fate in other.fates
            if key in (fate.id_sms, fate.mark)
        ]
        if visits:
            found.append(Related(name_of(key), visits[-MAX_RELATED:], more))
    return found


def name_of(key: str) -> str:
    """What a page calls an id, or a body that was refused as a whole and has none."""
    return "the same body" if key.startswith("body:") else key


# --- values ------------------------------------------------------------------------------


def _shown(value: Any) -> Any:
    # What is Markup already was escaped, and is a subclass.
    return paint.visible(value) if type(value) is str else value


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


def _why(door: RefusalKind) -> str:
    why = WHY_REFUSED[door.disposition]
    return f"{door.credentials} {why}" if door.credentials else why
