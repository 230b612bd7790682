"""Whether a schema may take the place of a released one under the same URI.

Records of both versions lie in one topic, and programs of both read them. So neither may refuse
what the other describes: a change is compatible if what was described stays exactly as it was, and
what is new is a field that readers may find missing.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

ANNOTATIONS = frozenset({"title", "description", "examples", "$comment", "deprecated", "$schema"})
"""For people; `$schema` names the dialect, of which both are."""

# The keywords of which something is known; `format` and `contentEncoding` are promises, too.
ASSERTIONS = frozenset(
    {"$id", "const", "enum", "pattern", "format", "contentEncoding", "minimum", "maximum"}
    | {"minLength", "maxLength", "type", "additionalProperties"}
)
OLD_READERS = "programs that know the released schema"
OLD_RECORDS = "records written before"


def incompatible(old: Schema, new: Schema, place: str = "") -> list[str]:
    """Every way in which `new` breaks with `old`: where, what, and for whom. None is all right."""
    return [*_changes(old, new, place or "the event")]


def _changes(old: Schema, new: Schema, place: str) -> Iterator[str]:
    old, new = _as_one(old), _as_one(new)
    for keyword in sorted({*old, *new} - ANNOTATIONS - {"properties", "required"}):
        yield from _keyword(keyword, old, new, place)
    yield from _required(old, new, place)
    yield from _properties(old, new, place)


def _as_one(schema: Schema) -> Schema:
    """A choice between words and null as one list of words; any other schema as it is."""
    branches = schema.get("anyOf", [])
    if len(branches) != 2 or "enum" not in branches[0] or branches[1] != {"type": "null"}:
        return schema
    rest = {key: each for key, each in schema.items() if key != "anyOf"}
    words = branches[0]
    return {**rest, **words, "type": [words["type"], "null"], "enum": [*words["enum"], None]}


def _keyword(keyword: str, old: Schema, new: Schema, place: str) -> Iterator[str]:
    if keyword not in ASSERTIONS:
        yield f"{place}: nothing is known of the keyword {keyword}: teach this test what it means"
    elif keyword == "type":
        yield from _sets(place, "type", _types(old), _types(new))
    elif keyword == "enum" and "enum" in old and "enum" in new:
        yield from _sets(place, "value", {*map(repr, old["enum"])}, {*map(repr, new["enum"])})
    elif keyword == "additionalProperties":
        yield from _others(old, new, place)
    elif old.get(keyword) != new.get(keyword):
        before, after = old.get(keyword, "nothing"), new.get(keyword, "nothing")
        yield f"{place}: {keyword} was {before} and is {after}: {OLD_READERS}, or {OLD_RECORDS}"


def _types(schema: Schema) -> set[str]:
    kinds = schema.get("type", ["any"])
    return {kinds} if isinstance(kinds, str) else {*kinds}


def _sets(place: str, what: str, old: set[str], new: set[str]) -> Iterator[str]:
    for added in sorted(new - old):
        yield f"{place}: {what} {added} is new to {OLD_READERS}"
    for removed in sorted(old - new):
        yield f"{place}: {what} {removed} is refused now, but is in {OLD_RECORDS}"


def _others(old: Schema, new: Schema, place: str) -> Iterator[str]:
    """Whatever an object may hold beside what is described."""
    before, after = (schema.get("additionalProperties", True) for schema in (old, new))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _changes(before, after, f"{place}.*")
    elif before != after:
        yield f"{place}: what else it may hold was {before} and is {after}"


def _required(old: Schema, new: Schema, place: str) -> Iterator[str]:
    before, after = {*old.get("required", ())}, {*new.get("required", ())}
    for name in sorted(before - after):
        yield f"{place}.{name}: may be missing now, which is new to {OLD_READERS}"
    for name in sorted(after - before):
        yield f"{place}.{name}: is required now, but is missing in {OLD_RECORDS}"


def _properties(old: Schema, new: Schema, place: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name in after:
            yield from _changes(before[name], after[name], f"{place}.{name}")
        else:
            yield f"{place}.{name}: is gone, and {OLD_READERS} look for it"
    for name in after.keys() - before.keys():
        yield from _new_field(old, after[name], f"{place}.{name}")


def _new_field(old: Schema, field: Schema, place: str) -> Iterator[str]:
    """What an old reader lets pass under a name that it does not know."""
    others = old.get("additionalProperties", True)
    if isinstance(others, Mapping):
        yield from _changes(others, field, place)
    elif others is not True:
        yield f"{place}: is new, and {OLD_READERS} refuse what they do not know"
