"""A schema as a union of alternatives, each of one kind of value. Pure functions."""

from __future__ import annotations

from typing import Any

import msgspec

from daebus.contracts import Schema

#: A kind that stands for every kind of value.
ANY = "any value"

#: Keywords that say nothing about which values are allowed, or that others here look after.
ANNOTATIONS = frozenset({"title", "description", "examples", "default", "deprecated", "$comment"})


def alternatives(schema: Schema, named: dict[str, Schema]) -> list[Schema]:
    """The alternatives of a schema, each of one kind; references are followed."""
    if "$ref" in schema:
        return alternatives(named[schema["$ref"].rpartition("/")[2]], named)
    if "anyOf" in schema:
        found = [each for inner in schema["anyOf"] for each in alternatives(inner, named)]
        # What is allowed anyway need not be spoken of: any value, or whole ones beside numbers.
        if {} in map(_bare, found):
            return [{}]
        return [each for each in found if not _is_covered(each, found)]
    choices = choices_of(schema)
    if choices is None or "type" in schema:
        return [schema]
    by_kind: dict[str, list[Any]] = {}
    for value in choices:
        by_kind.setdefault(_kind_of_value(value), []).append(value)
    return [
        {"type": kind} if kind == "null" else {**schema, "type": kind, "enum": values}
        for kind, values in by_kind.items()
    ]


def _bare(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in ANNOTATIONS}


def _is_covered(schema: Schema, others: list[Schema]) -> bool:
    return _bare(schema) == {"type": "integer"} and {"type": "number"} in map(_bare, others)


def kind_of(schema: Schema) -> str:
    """The kind of value that an alternative allows: a type of JSON, or `ANY`."""
    kind: str = schema.get("type", ANY)
    return kind


def _kind_of_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return kinds[type(value)]


def paired(
    olds: list[Schema], news: list[Schema]
) -> tuple[list[tuple[Schema, Schema]], list[Schema], list[Schema]]:
    """Which alternatives belong together, which are only in the first, which in the second."""
    objects = [sum(kind_of(each) == "object" for each in group) for group in (olds, news)]
    pairs: list[tuple[Schema, Schema]] = []
    gone, come = list(olds), list(news)
    for identity in (_exactly, _nearly if objects == [1, 1] else _in_numbers):
        left, gone = gone, []
        for old in left:
            twin = next((new for new in come if identity(new) == identity(old)), None)
            if twin is None:
                gone.append(old)
            else:
                pairs.append((old, twin))
                come = [each for each in come if each is not twin]
    return pairs, gone, come


def _exactly(schema: Schema) -> tuple[str, str]:
    """The kind of value, and the tag of an object."""
    tags = {
        name: _only_choice(field)
        for name, field in schema.get("properties", {}).items()
        if _only_choice(field) and name in schema.get("required", [])
    }
    return kind_of(schema), as_json(tags)


def _in_numbers(schema: Schema) -> tuple[str, str]:
    """Whole numbers are numbers, too."""
    kind, tags = _exactly(schema)
    return ("number" if kind == "integer" else kind), tags


def _nearly(schema: Schema) -> str:
    """A tag may come, go or change, while there is one kind of object before and after."""
    return _in_numbers(schema)[0]


def _only_choice(field: Schema) -> str:
    choices = choices_of(field) or []
    return as_json(choices[0]) if len(choices) == 1 else ""


def choices_of(schema: Schema) -> list[Any] | None:
    """The values that are allowed; None if there is no such list."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _in_words(schema: Schema) -> str:
    kind = kind_of(schema)
    if kind == "object" and (title := schema.get("title")):
        return f"a {title}"
    if kind in {ANY, "null"}:
        return kind
    return f"{'an' if kind[0] in 'aio' else 'a'} {kind}"


def in_words(schemas: list[Schema]) -> str:
    """The kinds of some alternatives, for people."""
    return " or ".join(map(_in_words, schemas))


def text_of(schema: Schema, keyword: str) -> str:
    """What a keyword says, for people."""
    return as_json(schema[keyword]) if keyword in schema else "none"


def as_json(value: Any) -> str:
    """A value as JSON: the only equality that tells 1 from true."""
    return msgspec.json.encode(value).decode()
