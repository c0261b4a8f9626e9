"""What differs between two schemas of one kind of value, without looking inside. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from daebus.contracts import Schema
from daebus.operate.contract.differences import Difference, Rule
from daebus.operate.contract.schema_kinds import (
    ANNOTATIONS,
    as_json,
    choices_of,
    in_words,
    kind_of,
    text_of,
)

#: Those for which a greater figure allows less, and those for which it allows more.
_LEAST = ("minLength", "minItems", "minProperties")
_MOST = ("maxLength", "maxItems", "maxProperties")

#: Those that take something away where they stand, and cannot be compared with each other.
_OPAQUE = ("pattern", "format", "multipleOf", "uniqueItems", "propertyNames")

#: Says what a text means, not which are allowed: who reads it as plain is wrong from then on.
_ENCODING = "contentEncoding"

#: The keywords that are understood.
_KNOWN = frozenset(
    {"$ref", "type", "const", "enum", "anyOf", "allOf", "properties", "required", "items"}
    | {"additionalProperties", "prefixItems", "minimum", "maximum"}
    | {"exclusiveMinimum", "exclusiveMaximum", _ENCODING}
    | {*_LEAST, *_MOST, *_OPAQUE, *ANNOTATIONS}
)


def differences(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    """What the newer one allows more or less, apart from what is inside arrays and objects."""
    for compared in (_of_kinds, _of_choices, _of_limits, _of_the_rest):
        yield from compared(old, new, path)


def _of_kinds(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    """Of numbers: all, or whole ones."""
    if kind_of(old) != kind_of(new):
        rule = Rule.WIDENED if kind_of(new) == "number" else Rule.NARROWED
        yield Difference(path, rule, f"was {in_words([old])}, is {in_words([new])}")


def _of_choices(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    before, after = choices_of(old), choices_of(new)
    if before is None and after is not None:
        text = f"was {in_words([old])}, is one of {', '.join(map(as_json, after))}"
        yield Difference(path, Rule.NARROWED, text)
    elif before is not None and after is None:
        text = f"was one of {', '.join(map(as_json, before))}, is {in_words([new])}"
        yield Difference(path, Rule.WIDENED, text)
    elif before is not None and after is not None:
        olds, news = list(map(as_json, before)), list(map(as_json, after))
        for value in olds:
            if value not in news:
                yield Difference(path, Rule.NARROWED, f"is no longer {value}")
        for value in news:
            if value not in olds:
                yield Difference(path, Rule.WIDENED, f"may be {value}, too")


#: A limit: its value, and whether the value itself is beyond it.
Limit = tuple[float, bool]

_NONE: dict[str, Limit] = {"least": (-math.inf, False), "most": (math.inf, False)}


def _of_limits(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    limits = [("least", "minimum", "exclusiveMinimum"), ("most", "maximum", "exclusiveMaximum")]
    limits += [("least", name, "") for name in _LEAST] + [("most", name, "") for name in _MOST]
    for side, name, exclusive in limits:
        before = limit_of(old, side, name, exclusive)
        after = limit_of(new, side, name, exclusive)
        if before != after:
            is_narrower = _strictness(after, side) > _strictness(before, side)
            rule = Rule.NARROWED if is_narrower else Rule.WIDENED
            text = f"{name} was {_limit_in_words(before)}, is {_limit_in_words(after)}"
            yield Difference(path, rule, text)


def limit_of(schema: Schema, side: str, name: str, exclusive: str) -> Limit:
    """A limit of a schema.

    Args:
        schema: the schema.
        side: whether it is the `least` or the `most` that is allowed.
        name: its keyword.
        exclusive: the keyword of the same limit whose value itself is not allowed; empty if none.
    """
    step = 1 if side == "least" else -1
    found = _NONE[side]
    if name in schema:
        found = (schema[name], False)
    if exclusive in schema:
        value = schema[exclusive]
        is_whole = kind_of(schema) == "integer" and value == int(value)
        other = (value + step, False) if is_whole else (value, True)
        found = max(found, other, key=lambda limit: _strictness(limit, side))
    if name == "maxItems" and schema.get("items") is False:
        found = min(found, (len(schema.get("prefixItems", [])), False))
    return found


def _strictness(limit: Limit, side: str) -> Limit:
    value, is_beyond = limit
    return (value if side == "least" else -value), is_beyond


def _limit_in_words(limit: Limit) -> str:
    value, is_beyond = limit
    if math.isinf(value):
        return "none"
    return f"{value} (exclusive)" if is_beyond else str(value)


def _of_the_rest(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    """Of keywords that only are there or not, and of those that are not known."""
    unknown = {key for key in (*old, *new) if key not in _KNOWN and not key.startswith("x-")}
    for name in (*_OPAQUE, _ENCODING, *sorted(unknown)):
        before, after = text_of(old, name), text_of(new, name)
        if before == after:
            continue
        rule = Rule.CHANGED
        if name in _OPAQUE and "none" in {before, after}:
            rule = Rule.NARROWED if before == "none" else Rule.WIDENED
        yield Difference(path, rule, f"{name} was {before}, is {after}")
