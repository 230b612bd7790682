"""Which messages to ask for: ids, one a line, or the log's lines that name unlisted ids. No I/O."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.clip import clipped
from bridge.parse import is_id

KEY = "unlisted_ids"
SHOWN_CHARACTERS = 64
_DEPTH = 3  # a log line within that of a collector, within that of another


@dataclass(slots=True)
class WorkList:
    """Ids by the endpoint that the log names, each once, in their order; None where none is named.

    `invalid` are ids that no message can have: the provider is not asked for them. `unreadable`
    says, by number from 1, which lines are neither an id nor a line of the log.
    """

    ids: dict[str | None, dict[str, None]] = field(default_factory=dict)
    invalid: dict[str, None] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    def add(self, endpoint: str | None, id_sms: str) -> None:
        """Add an id, if it can be one."""
        if is_id(id_sms):
            self.ids.setdefault(endpoint, {})[id_sms] = None
        else:
            self.invalid[clipped(id_sms, SHOWN_CHARACTERS)] = None


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
    for found in _with_ids(line, _DEPTH):
        endpoint = found.get("endpoint")
        for id_sms in found[KEY]:
            work.add(endpoint if isinstance(endpoint, str) else None, str(id_sms))


def _with_ids(line: Mapping[str, Any], depth: int) -> Iterator[Mapping[str, Any]]:
    """The line, or those in its texts, that name unlisted ids."""
    if isinstance(line.get(KEY), list):
        yield line
        return
    for value in line.values():
        if isinstance(value, str) and KEY in value and depth:
            inner = _object(value.strip())
            if inner is not None:
                yield from _with_ids(inner, depth - 1)


def _object(text: str) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
