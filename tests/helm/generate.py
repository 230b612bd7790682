"""Writes the chart's values.schema.json, its rules, and the tables of values in its README.

Their sources are values.yaml, values.schema.src.yaml and the program's settings and rules. `make
schema` runs this; a test holds that nothing is stale.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bridge.config.conflicts import FALLBACKS, RULES, Rule
from bridge.contract.config_schema import DRAFT, config_schema

CHART = Path(__file__).parents[2] / "helm"
VALUES = CHART / "values.yaml"
SOURCE = CHART / "values.schema.src.yaml"
SCHEMA = CHART / "values.schema.json"
VALIDATION = CHART / "files/validation.json"
README = CHART / "README.md"
MARK = "# -- "
REQUIRED = {"kafka.bootstrap_servers"}
"""What the chart demands where the program has a default, which no cluster would fit."""


def descriptions() -> dict[str, str]:
    """The comment that begins with `# -- ` above each key of values.yaml, by its path."""
    text = VALUES.read_text(encoding="utf-8")
    lines = text.splitlines()
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    return {
        path: said for path, line in _keys(root, "") if (said := _comment(lines, line)) is not None
    }


def _keys(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    """Each key's path, and the number of its line from 0."""
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        yield path, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, f"{path}.")


def _comment(lines: list[str], line: int) -> str | None:
    words: list[str] = []
    for above in reversed(lines[:line]):
        stripped = above.strip()
        if not stripped.startswith("#"):
            break
        words.insert(0, stripped.removeprefix(MARK).removeprefix("# "))
        if stripped.startswith(MARK):
            return " ".join(words)
    return None


def values_schema() -> dict[str, Any]:
    """The JSON Schema of the chart's values: strict on every level that is the chart's own."""
    source = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    del source["definitions"], source["rules"]
    config = config_schema()
    definitions = config.pop("definitions")
    for section in definitions.values():
        section.pop("allOf", None)  # of several keys: the rules name them
    del config["$schema"]
    schema = _section(source, descriptions(), "")
    schema["properties"]["config"] = config
    return {
        "$schema": DRAFT,
        "title": "Values of the chart sms-status-bridge",
        **schema,
        "required": ["config", "image"],
        "definitions": definitions,
    }


def _section(source: dict[str, Any], said: dict[str, str], prefix: str) -> dict[str, Any]:
    properties = {
        name: _described(node, said.get(f"{prefix}{name}"))
        if _is_schema(node)
        else _section(node, said, f"{prefix}{name}.")
        for name, node in source.items()
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _is_schema(node: dict[str, Any]) -> bool:
    return any(isinstance(node.get(word), str | list) for word in ("type", "enum", "anyOf"))


def _described(schema: dict[str, Any], said: str | None) -> dict[str, Any]:
    return {"description": said, **schema} if said else schema


def validation() -> dict[str, Any]:
    """What templates/_validate.tpl holds the values to: rules on keys, the program's among them."""
    schema = config_schema()
    settings = list(_settings(schema, schema["definitions"], ""))
    defaults = {path: node["default"] for path, node in settings if "default" in node}
    paths = [path for path, _ in settings]
    off = [p for p in paths if any(each.startswith(f"{p}.") for each in paths) and p in defaults]
    rules = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["rules"]
    return {
        "defaults": {f"config.{k}": v for k, v in defaults.items() if k not in REQUIRED},
        "off": [f"config.{path}" for path in off],
        "fallbacks": {f"config.{key}": f"config.{other}" for key, other in FALLBACKS.items()},
        "rules": [*rules, _secrets(settings), *map(_program_rule, RULES)],
    }


def _program_rule(rule: Rule) -> dict[str, Any]:
    """A rule of the program's as the chart has it: on keys below `config`."""
    said = {name: value for name, value in asdict(rule).items() if value}
    keys = said.pop("keys", None) or [said.pop("key")]
    if "other" in said:
        said["other"] = f"config.{said['other']}"
    return {"rule": type(rule).__name__, "keys": [f"config.{key}" for key in keys], **said}


def _secrets(settings: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """No secret of the program's is written out where everyone can read it."""
    keys = []
    for path, node in settings:
        branches = [node, *node.get("anyOf", [])]
        if any(branch.get("format") == "password" for branch in branches):
            keys.append(f"config.{path}")
        if node.get("items", {}).get("format") == "password":
            keys.append(f"config.{path}[]")
    return {
        "rule": "Matches",
        "keys": keys,
        "pattern": r"^[$][{]([A-Za-z_][A-Za-z0-9_]*(:-)?|file:[^{}]+)[}]$",
        "said": "holds a secret itself: write ${NAME} or ${file:PATH}, and see existingSecret, "
        "extraEnv and extraVolumes",
    }


def chart_table() -> str:
    """Every value of the chart's own, and those of `config` that it sets."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))
    said = descriptions()
    rows = [(path, said[path], _cell(_at(values, path))) for path in said if path != "config"]
    top = ("config", said["config"], "see below")
    return _table(("value", "what it is", "default"), [top, *rows])


def config_table() -> str:
    """Every setting of the program, as the chart deploys it."""
    values = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["config"]
    schema = config_schema()
    rows = []
    for path, node in _settings(schema, schema["definitions"], ""):
        default = ... if path in REQUIRED else node.get("default", ...)
        rows.append((path, node["description"], _cell(_at(values, path, default))))
    return _table(("`config.` and", "what it is", "default"), rows)


def _settings(
    section: dict[str, Any], definitions: dict[str, Any], prefix: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, node in section["properties"].items():
        inner = _referred(node, definitions)
        if inner is None:
            yield f"{prefix}{name}", node
        else:
            if name == "auth" or node.get("default", ...) is None:  # not a section in any case
                yield f"{prefix}{name}", node
            suffix = "[]" if node.get("type") == "array" else ""
            yield from _settings(inner, definitions, f"{prefix}{name}{suffix}.")


def _referred(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any] | None:
    """The section that a setting holds: itself, or as each item of a list."""
    branches = [*node.get("anyOf", []), *node.get("allOf", []), node.get("items", {})]
    names = [branch["$ref"].rpartition("/")[2] for branch in branches if "$ref" in branch]
    return definitions[names[0]] if names else None


def _at(values: Any, path: str, absent: Any = None) -> Any:
    for step in path.split("."):
        if not isinstance(values, dict) or step not in values:
            return absent
        values = values[step]
    return values


def _cell(value: Any) -> str:
    return "required" if value is ... else f"`{json.dumps(value)}`"


def _table(header: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---|---|---|"]
    lines += [f"| `{key}` | {what.replace('|', '&#124;')} | {value} |" for key, what, value in rows]
    return "\n".join(lines)


def readme() -> str:
    """The README with both tables as they should be."""
    text = README.read_text(encoding="utf-8")
    for name, table in (("values", chart_table()), ("config", config_table())):
        begin, end = f"<!-- {name}: written by make schema -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{README} lacks the marks around the table of {name}")
        text = f"{before}{begin}\n\n{table}\n\n{end}{after}"
    return text


def documents() -> dict[Path, str]:
    """Each generated file's text."""
    written = {SCHEMA: values_schema(), VALIDATION: validation()}
    texts = {p: json.dumps(d, indent=2, ensure_ascii=False) + "\n" for p, d in written.items()}
    return {**texts, README: readme()}


def main() -> None:
    """Write what is stale, and say so."""
    for path, text in documents().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(CHART.parent)}\n")


if __name__ == "__main__":
    main()
