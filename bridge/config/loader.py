"""YAML and environment -> Settings, or every problem at once with its line and column.

What the settings are is in settings.py, what must agree between them in conflicts.py. No value is
ever printed: any of them may be a secret.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.config.conflicts import conflicts
from bridge.config.settings import AS_FAR_AS_VALID, Place, Section, Settings, dotted
from bridge.errors import ConfigError, Problem

_MAX_BYTES: Final = 1_048_576
_MAX_NODES: Final = 100_000  # aliases of aliases grow without end otherwise

_TAG: Final = "tag:yaml.org,2002:"
_TYPED: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float"))
_MERGE: Final = f"{_TAG}merge"
_TEXT: Final = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_OPTIONAL: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-\}")

_WORDS: Final = {
    "missing": "required",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
}

_KEY: Final = "[key]"
_Entry = tuple[yaml.ScalarNode, yaml.Node]


class _Unknown:
    """Stands for a value that could not be had; no setting accepts it."""


class _Absent:
    """Stands for an item that a list does not have: `${NAME:-}` without a value."""


_UNKNOWN: Final = _Unknown()
_ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a value and its key stand; an item of a list and the root are their own key."""

    key: yaml.Mark
    value: yaml.Mark


def read_file(path: str | Path, *, regular: bool = False) -> bytes:
    """A file of at most 1 MiB; `regular`: no pipe or device, which may give nothing for ever.

    Raises OSError.
    """
    with open(path, "rb", opener=_opened_at_once if regular else None) as file:
        if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB", str(path))
    return content


def _opened_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe, too, without a wait for who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


Read = Callable[[str], bytes]


def load(
    path: str | Path,
    environ: Mapping[str, str],
    *,
    placeholders: bool = False,
    read: Read = read_file,
) -> Settings:
    """Read the settings from a file of at most 1 MiB; see `parse`."""
    try:
        text = read(str(path)).decode()
    except (OSError, ValueError) as error:
        raise _unusable(str(path), f"cannot be read: {_reason(error)}") from error
    return parse(text, file=str(path), environ=environ, placeholders=placeholders, read=read)


def parse(
    text: str,
    *,
    file: str,
    environ: Mapping[str, str],
    placeholders: bool = False,
    read: Read = read_file,
) -> Settings:
    """Turn YAML into settings; `file` is how problems name it.

    `${NAME}`, `${NAME:-default}` and `${file:PATH}` in values are replaced from `environ` and
    by what `read` finds. A list's item that is `${NAME:-}`, and empty, is left out of the list.
    With `placeholders`, what is missing counts as valid, and the settings
    hold defaults or examples in its place: good for checking, not for serving.

    Raises ConfigError with every problem, in order of position.
    """
    if len(text.encode(errors="surrogatepass")) > _MAX_BYTES:
        raise _unusable(file, "is larger than 1 MiB")
    reader = _Reader(environ, read, excuse_absent=placeholders)
    tree = _tree(text.removeprefix("\ufeff"), file, reader)
    settings, problems = _validate(tree, reader)
    problems += reader.problems
    if problems:
        raise ConfigError(file, tuple(sorted(set(problems), key=_position)))
    return settings


def _position(problem: Problem) -> tuple[int, int, str, str]:
    return problem.line, problem.column, problem.key, problem.what


def _unusable(file: str, what: str, line: int = 0, column: int = 0) -> ConfigError:
    return ConfigError(file, (Problem(line, column, "", what),))


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"  # the original message quotes the content
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _tree(text: str, file: str, reader: "_Reader") -> dict[str, Any]:
    """Parse the text and expand its values; raises ConfigError where there is no mapping."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = None if root is None else reader.read(root)
    except yaml.reader.ReaderError as error:
        lines = f"{text[: error.position]}.".splitlines()  # whose ends are YAML's
        what = f"the character U+{error.character:04X} is not allowed in YAML"
        raise _unusable(file, what, len(lines), len(lines[-1])) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        # The original message quotes the text around the problem.
        raise _unusable(file, _syntax(error, text), line, column) from None
    except RecursionError:
        raise _unusable(file, "is nested too deeply", 1, 1) from None
    if root is None:
        raise _unusable(file, "is empty", 1, 1)
    if not isinstance(tree, dict):
        mark = root.start_mark
        what = "must be a mapping of keys to values"
        raise _unusable(file, what, mark.line + 1, mark.column + 1)
    return tree


def _syntax(error: yaml.MarkedYAMLError, text: str) -> str:
    """Describe a syntax error without quoting more than one character of the file."""
    problem = error.problem or error.context or "cannot be read"
    what = re.sub(
        r"\s*'(?:.|<[a-z ]+>)'|\s*['\"].*['\"]",
        lambda match: match[0] if len(match[0].strip()) == len("'x'") or "<" in match[0] else "",
        problem,
    )
    return f"not valid YAML: {what}{_hint(error, text)}"


def _hint(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    # Not by the line's number: YAML has more ends of lines than a line feed.
    line = text[mark.index - mark.column :] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip(" \t"))]:
        return "; the line begins with a tab: YAML indents with spaces only"
    if mark and text[mark.index : mark.index + 1] == "\t":
        return "; that character is a tab: write spaces"
    if mark and text[max(mark.index - 1, 0) : mark.index + 1] == "${":
        return '; inside [ ] and { } write "${...}" with the quotes'
    if error.problem and "undefined alias" in error.problem:
        return "; a value that begins with * needs quotes"
    return ""


@dataclass(slots=True)
class _Reader:
    """Turns YAML nodes into plain values, and remembers where each stands."""

    environ: Mapping[str, str]
    read_file: Read
    excuse_absent: bool
    problems: list[Problem] = field(default_factory=list)
    spots: dict[Place, _Spot] = field(default_factory=dict)
    unknown: set[Place] = field(default_factory=set)
    _open: set[int] = field(default_factory=set)
    _seen: int = 0
    _loader: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def read(self, root: yaml.Node) -> object:
        """Return the document as dicts, lists and scalars."""
        self.spots[()] = _Spot(root.start_mark, root.start_mark)
        return self._value(root, ())

    def report(self, mark: yaml.Mark, place: Place, what: str) -> None:
        """Note a problem at a mark."""
        self.problems.append(Problem(mark.line + 1, mark.column + 1, dotted(place), what))

    def mark(self, place: Place, *, key: bool) -> yaml.Mark:
        """Find the key or value at a place, or at the nearest one around it in the file."""
        around = (place[:length] for length in range(len(place), -1, -1))
        spot = self.spots[next(known for known in around if known in self.spots)]
        return spot.key if key else spot.value

    def _value(self, node: yaml.Node, place: Place) -> object:
        self._count(node)
        self._open.add(id(node))
        value = self._plain(node, place)
        self._open.remove(id(node))
        return value

    def _count(self, node: yaml.Node) -> None:
        self._seen += 1
        if id(node) in self._open or self._seen > _MAX_NODES:
            what = "an alias lies within its own anchor" if id(node) in self._open else "too large"
            raise yaml.composer.ComposerError(None, None, what, node.start_mark)

    def _plain(self, node: yaml.Node, place: Place) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return self._list(node, place)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        return self._unusable_value(node, place, "must not have a YAML tag")

    def _list(self, node: yaml.SequenceNode, place: Place) -> list[object]:
        values: list[object] = []
        for child in node.value:
            here = (*place, len(values))
            self.spots[here] = _Spot(child.start_mark, child.start_mark)
            value = self._value(child, here)
            if value is not _ABSENT:
                values.append(value)
        if node.value and not values:
            # A list that is empty by accident could open what it is to restrict.
            self._unusable_value(node, place, "none of its items has a value")
        return values

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        values: dict[str, object] = {}
        for name, (key, child) in self._entries(node, place).items():
            here = (*place, name)
            self.spots[here] = _Spot(key.start_mark, child.start_mark)
            values[name] = self._value(child, here)
        return values

    def _entries(self, node: yaml.MappingNode, place: Place) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.report(key.start_mark, place, "a key must be text")
            elif key.value in entries:
                line = entries[key.value][0].start_mark.line + 1
                what = f"duplicate key; the first is on line {line}"
                self.report(key.start_mark, (*place, key.value), what)
            elif key.tag != _MERGE:
                entries[key.value] = key, child
        # A mapping's own keys win, then those that were merged first.
        for merged in self._merged(node, place):
            entries = self._entries(merged, place) | entries
        return entries

    def _merged(self, node: yaml.MappingNode, place: Place) -> Iterator[yaml.MappingNode]:
        for child in (child for key, child in node.value if key.tag == _MERGE):
            for source in child.value if isinstance(child, yaml.SequenceNode) else [child]:
                self._count(source)
                if isinstance(source, yaml.MappingNode):
                    yield source
                else:
                    self.report(source.start_mark, place, "<< takes a mapping, or a list of them")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        if "${" in node.value:
            return self._expanded(node, place)
        if node.tag in _TEXT:
            return node.value
        if node.tag not in _TYPED:
            return self._unusable_value(node, place, "must not have a YAML tag")
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError, yaml.YAMLError):
            return self._unusable_value(node, place, "is no number; text needs quotes here")

    def _expanded(self, node: yaml.ScalarNode, place: Place) -> object:
        parts, end = [], 0
        for match in _REFERENCE.finditer(node.value):
            parts += [node.value[end : match.start()], self._resolved(match, node, place)]
            end = match.end()
        if place in self.unknown:
            return _UNKNOWN
        value = "".join([*parts, node.value[end:]])
        is_item = bool(place) and isinstance(place[-1], int)
        return _ABSENT if is_item and not value and _OPTIONAL.fullmatch(node.value) else value

    def _resolved(self, match: re.Match[str], node: yaml.Node, place: Place) -> str:
        if match[0] == "$${":
            return "${"
        try:
            return _referent(match[1], self.environ, self.read_file)
        except LookupError as absent:
            self.unknown.add(place)
            if not self.excuse_absent:
                self.report(node.start_mark, place, absent.args[0])
        except ValueError as malformed:
            self._unusable_value(node, place, str(malformed))
        return ""

    def _unusable_value(self, node: yaml.Node, place: Place, what: str) -> _Unknown:
        self.unknown.add(place)
        self.report(node.start_mark, place, what)
        return _UNKNOWN


def _referent(reference: str | None, environ: Mapping[str, str], read: Read) -> str:
    """Return what a reference stands for.

    Raises LookupError if that is missing, ValueError if the reference is none.
    """
    if reference and (variable := _VARIABLE.fullmatch(reference)):
        return _variable(variable[1], variable[2], environ)
    if reference and reference.startswith("file:") and reference != "file:":
        return _file(reference.removeprefix("file:"), read)
    raise ValueError(
        "must hold ${NAME}, ${NAME:-default} or ${file:PATH}, without braces inside; "
        "write $${ for the characters ${"
    )


def _variable(name: str, default: str | None, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if default is not None:
        return value or default  # as in a shell, an empty value gives way to the default
    if value is None:
        raise LookupError(f"the environment variable {name} is not set")
    return value


def _file(path: str, read: Read) -> str:
    try:
        text = read(path).decode()
    except (OSError, ValueError) as error:
        raise LookupError(f"cannot read the file {path}: {_reason(error)}") from error
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _validate(tree: dict[str, Any], reader: _Reader) -> tuple[Settings, list[Problem]]:
    """Validate the values, then what must agree between those that are valid."""
    errors: list[ErrorDetails] = []
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        settings = Settings.model_validate(tree, context=AS_FAR_AS_VALID)
    doubtful = reader.unknown | {_place(error) for error in errors}
    problems = [
        _problem(error, reader) for error in errors if not _inside(_place(error), reader.unknown)
    ]
    return settings, problems + list(_disagreements(settings, doubtful, reader))


def _inside(place: Place, places: set[Place]) -> bool:
    return any(place[:length] in places for length in range(len(place) + 1))


def _section(annotation: Any) -> type[Section] | None:
    """Find the section that a field holds: itself, in a tuple, or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)


def _disagreements(settings: Settings, doubtful: set[Place], reader: _Reader) -> Iterator[Problem]:
    for conflict in conflicts(settings):
        if not any(_inside(place, doubtful) for place in conflict.between):
            mark = reader.mark(conflict.place, key=conflict.place not in reader.spots)
            key = dotted(conflict.place)
            yield Problem(mark.line + 1, mark.column + 1, key, conflict.what)


def _place(error: ErrorDetails) -> Place:
    """Where the error is; pydantic tells a mapping's key from its value by a step of its own."""
    return error["loc"][:-1] if error["loc"][-1:] == (_KEY,) else error["loc"]


def _problem(error: ErrorDetails, reader: _Reader) -> Problem:
    place = _place(error)
    at_key = error["type"] in {"missing", "extra_forbidden"} or place != error["loc"]
    mark = reader.mark(place, key=at_key)
    return Problem(mark.line + 1, mark.column + 1, dotted(place), _what(error))


def _what(error: ErrorDetails) -> str:
    """Say in plain words what pydantic found, and nothing of the value."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"])
    if kind == "value_error":
        return str(context["error"])
    if error["input"] is None:
        return "needs a value"
    if kind == "string_type":
        scalar = isinstance(error["input"], bool | int | float)
        return "must be text: put the value in quotes" if scalar else "must be text"
    if kind == "literal_error":
        return "must be one of " + ", ".join(re.findall(r"'([^']+)'", context["expected"]))
    return _WORDS.get(kind, "is not valid").format_map({k: _number(v) for k, v in context.items()})


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unknown_key(place: Place) -> str:
    known = list(_owner(place).model_fields)
    close = get_close_matches(str(place[-1]), known, n=1)
    if close:
        return f'unknown key; did you mean "{close[0]}"?'
    return f"unknown key; the keys here are {', '.join(known)}"


def _owner(place: Place) -> type[Section]:
    """Find the section that a key was put into."""
    section: type[Section] = Settings
    for step in place[:-1]:
        if isinstance(step, str):
            setting = section.model_fields.get(step)  # None: a word of the operator's
            section = (_section(setting.annotation) if setting else None) or section
    return section
