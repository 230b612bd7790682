"""Which messages to ask for: ids, one a line, or the log's lines that name unlisted ids. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.clip import clipped
from bridge.parse import is_id

KEY = "unlisted_ids"
_COUNT = "unlisted"  # of a request's first line: the ids in this line and in those that follow it
_DROPPED = "log lines dropped"
SHOWN_CHARACTERS = 64
_DEPTH = 3  # a log line within that of a collector, within that of another


@dataclass(slots=True)
class WorkList:
    """Ids by the endpoint that the log names, each once, in their order; None where none is named.

    `invalid` are ids that no message can have: the provider is not asked for them. `unreadable`
    says, by number from 1, which lines are neither an id nor a line of the log. `dropped` counts
    lines that the log says it lacks.
    """

    ids: dict[str | None, dict[str, None]] = field(default_factory=dict)
    invalid: dict[str, None] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    dropped: int = 0
    _left: dict[object, int] = field(default_factory=dict)  # ids to come, by request

    @property
    def missing(self) -> int:
        """How many ids the log counts without naming them."""
        return sum(max(left, 0) for left in self._left.values())

    def add(self, endpoint: str | None, id_sms: str) -> None:
        """Add an id, if it can be one."""
        if is_id(id_sms):
            self.ids.setdefault(endpoint, {})[id_sms] = None
        else:
            self.invalid[clipped(id_sms, SHOWN_CHARACTERS)] = None

    def take(self, line: Mapping[str, Any]) -> None:
        """Take what a line of the log says."""
        endpoint, request = line.get("endpoint"), str(line.get("request_id"))
        ids, count, lines = (line.get(key) for key in (KEY, _COUNT, "lines"))
        if isinstance(ids, list):
            for id_sms in ids:
                self.add(endpoint if isinstance(endpoint, str) else None, str(id_sms))
            self._left[request] = self._left.get(request, 0) - len(ids)
        if isinstance(count, int):
            self._left[request] = self._left.get(request, 0) + count
        if line.get("event") == _DROPPED and isinstance(lines, int):
            self.dropped += lines


def read_work_list(lines: Iterable[str]) -> WorkList:
    """Read a file of ids or of log lines, or of both."""
    work = WorkList()
    for number, line in enumerate(lines, start=1):
        text = line.strip("\ufeff \t\r\n\0")
        if "{" in text:
            _add_log_line(work, number, text)
        elif is_id(text):
            work.add(None, text)
        elif text:
            work.unreadable[number] = clipped(text, SHOWN_CHARACTERS)
    return work


def _add_log_line(work: WorkList, number: int, text: str) -> None:
    # What stands before it is a container's name, or a collector's time.
    line = _object(text[text.index("{") :])
    if line is None:
        work.unreadable[number] = clipped(text, SHOWN_CHARACTERS)
        return
    for found in _with_texts(line, _DEPTH):
        work.take(found)


def _with_texts(line: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """The line, and those in its texts: collectors wrap what they read."""
    yield line
    for value in line.values():
        if isinstance(value, str) and "{" in value and depth:
            inner = _object(value.strip())
            if inner is not None:
                yield from _with_texts(inner, depth - 1)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
