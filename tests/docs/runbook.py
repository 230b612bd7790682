"""The runbook as its tests read it: its sections, the words in code, and what the program logs."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.release.artifacts import tracked

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/runbook.md").read_text("utf-8")
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
PREAMBLE = ""  # the name of what comes before the first section


def sections() -> dict[str, str]:
    """The text of each section, by the alert's name."""
    first, *parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    return {PREAMBLE: first} | {part.partition("\n")[0]: part for part in parts}


def words(section: str | None = None) -> list[str]:
    """What stands in code in the text of a section, or of the page."""
    text = PAGE if section is None else sections()[section]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(each.split()) for each in re.findall(r"`([^`]+)`", prose)]


def commands() -> list[str]:
    """Each command of the page, those of blocks and those in the text, on one line."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    inline = [
        word for word in words() if re.match(r"(sms-bridge|kubectl|helm|curl|kafka-\S+) ", word)
    ]
    return [" ".join(line.split()) for line in [*lines, *inline] if line.strip()]


# --- what the program logs ---------------------------------------------------------------


@cache
def program() -> tuple[ast.Module, ...]:
    """Every module of the package."""
    files = [path for path in tracked() if path.parts[0] == "bridge" and path.suffix == ".py"]
    return tuple(ast.parse((ROOT / path).read_text("utf-8")) for path in files)


def log_calls() -> Iterator[ast.Call]:
    """Every call that writes a line of the log."""
    for module in program():
        for node in ast.walk(module):
            if isinstance(node, ast.Call) and _logs(node.func):
                yield node


def _logs(function: ast.expr) -> bool:
    """Whether it is a level of a logger, or a name that stands for one."""
    if isinstance(function, ast.Name):
        return function.id == "write"
    return (
        isinstance(function, ast.Attribute)
        and function.attr in LEVELS
        and ast.unparse(function.value) in {"log", "self._log"}
    )


@cache
def events() -> frozenset[str]:
    """The event of each line, as far as it stands where the line is written."""
    return frozenset(text for call in log_calls() for text in _texts(call.args[0]))


def _texts(event: ast.expr) -> set[str]:
    return {
        node.value
        for node in ast.walk(event)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@cache
def fields() -> frozenset[str]:
    """The names that a line's fields may have: those of the calls, and those put in by name."""
    found = {word.arg for call in log_calls() for word in call.keywords if word.arg}
    for module in program():
        for node in ast.walk(module):
            for each in _names(node):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    found.add(each.value)
    return frozenset(found)


def _names(node: ast.AST) -> Sequence[ast.expr | None]:
    """The keys of a mapping, what stands in brackets, and the items of a list of names."""
    if isinstance(node, ast.Dict):
        return node.keys
    if isinstance(node, ast.Subscript):
        return [node.slice]
    return node.elts if isinstance(node, ast.Tuple) else []
