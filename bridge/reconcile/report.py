"""What a run has come to, in messages: each counts once, however often it was asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Settled:
    """What became of the messages of one answer. Who is in none of the lists is not settled.

    `published` are those whose events the broker has acknowledged, `unchanged` those of which the
    answer says nothing new, `rejected` those whose state is invalid: its dead letter is published.
    `foreign` are ids that were not asked for.
    """

    endpoint: str
    published: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The messages for which nothing is left to do."""
        return [*self.published, *self.unchanged, *self.unknown, *self.rejected]


@dataclass(slots=True)
class Report:
    """The counts of a run, and by name whatever is left to look at.

    `new` counts messages of which something new was told, and which are published, or would be.
    `unanswered` and `unpublished` are those that were asked for in vain, `not_asked` counts those
    for which it was too late. `left_out` counts ids of endpoints that have no `provider`,
    `missing_ids` those that the log counts without naming them, `dropped_lines` lines that it says
    it lacks. `stopped` says why it ended early.
    """

    dry_run: bool = False
    new: int = 0
    published: int = 0
    unchanged: int = 0
    unknown: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    unpublished: list[str] = field(default_factory=list)
    not_asked: int = 0
    invalid: list[str] = field(default_factory=list)
    unreadable_lines: list[int] = field(default_factory=list)
    dropped_lines: int = 0
    missing_ids: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def take(self, settled: Settled) -> None:
        """Add the messages of an answer."""
        self.new += len(settled.published)
        self.published += 0 if self.dry_run else len(settled.published)
        self.unchanged += len(settled.unchanged)
        self.unknown += settled.unknown
        self.rejected += settled.rejected
        self.foreign += settled.foreign

    @property
    def answered(self) -> int:
        """The messages whose state the provider has told."""
        return self.new + len(self.unpublished) + self.unchanged + len(self.rejected)

    @property
    def asked(self) -> int:
        """The messages that the provider was asked for."""
        return self.answered + len(self.unknown) + len(self.unanswered)

    @property
    def settled(self) -> int:
        """The messages for which nothing is left to do."""
        return self.new + self.unchanged + len(self.unknown) + len(self.rejected)

    @property
    def complete(self) -> bool:
        """Whether the run has nothing left to ask for, or to publish."""
        return not (self.not_asked or self.unanswered or self.unpublished or self.interrupted)

    @property
    def whole(self) -> bool:
        """Whether every message was answered, and all that is new is published."""
        of_list = (self.invalid, self.unreadable_lines, self.dropped_lines, self.missing_ids)
        left = (self.unknown, self.rejected, self.left_out, *of_list)
        return self.complete and not any(left)

    def to_dict(self) -> dict[str, Any]:
        """All figures and ids, fit for JSON."""
        counts = {name: getattr(self, name) for name in ("asked", "answered")}
        lists = ("unknown", "rejected", "foreign", "unanswered", "unpublished", "invalid")
        content = asdict(self)
        ids: Mapping[str, Iterable[str]] = {f"{name}_ids": content.pop(name) for name in lists}
        sizes = {name: len(getattr(self, name)) for name in lists}
        return {"ok": self.whole, **counts, **content, **sizes, **ids}
