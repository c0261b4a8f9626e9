"""What differs between two schemas, told as what the newer one allows more or less. Pure.

A schema is read as a union of alternatives, each of one kind of value; those of one kind are
compared with each other. Whatever cannot be judged counts as both wider and narrower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from daebus.contracts import Schema
from daebus.operate.contract.differences import Difference, Rule
from daebus.operate.contract.schema_kinds import (
    ANY,
    alternatives,
    in_words,
    kind_of,
    paired,
    text_of,
)
from daebus.operate.contract.schema_limits import differences, limit_of


def compare(
    old: Schema, new: Schema, old_named: dict[str, Schema], new_named: dict[str, Schema]
) -> list[Difference]:
    """What has changed from one schema to another, in the order of the older one.

    Args:
        old: a schema.
        new: what it is now.
        old_named: the named types that the older one refers to.
        new_named: those of the newer one.

    Example:
        >>> [change.text for change in compare({"type": "integer"}, {"type": "number"}, {}, {})]
        ['was an integer, is a number']
    """
    return _Comparison(old_named, new_named).of(old, new, "$")


class _Comparison:
    def __init__(self, old_named: dict[str, Schema], new_named: dict[str, Schema]) -> None:
        self._old_named = old_named
        self._new_named = new_named
        #: What is being compared, or has been: types may hold themselves, and stand in many places.
        self._seen: set[tuple[int, int]] = set()

    def of(self, old: Schema, new: Schema, path: str) -> list[Difference]:
        if "allOf" in old or "allOf" in new:
            return self._of_all(old, new, path)
        return self._of_unions(
            alternatives(old, self._old_named), alternatives(new, self._new_named), path
        )

    def _of_all(self, old: Schema, new: Schema, path: str) -> list[Difference]:
        """Each part says what must be; parts that look the same belong together."""
        olds, news = old.get("allOf", [old]), new.get("allOf", [new])
        same = [each for each in olds if each in news]
        gone = [each for each in olds if each not in same]
        come = [each for each in news if each not in same]
        found: list[Difference] = []
        # What a part refers to may have changed behind the same reference.
        for before, after in [*zip(same, same, strict=True), *zip(gone, come, strict=False)]:
            found += self.of(before, after, path)
        for _ in gone[len(come) :]:
            found.append(Difference(path, Rule.WIDENED, "a listener that limited it is gone"))
        for _ in come[len(gone) :]:
            found.append(Difference(path, Rule.NARROWED, "must suit one more listener"))
        return found

    def _of_unions(self, olds: list[Schema], news: list[Schema], path: str) -> list[Difference]:
        pairs, gone, come = paired(olds, news)
        found = [each for pair in pairs for each in self._of_one_kind(*pair, path)]
        if not pairs and gone and come:
            text = f"was {in_words(gone)}, is {in_words(come)}"
            return [Difference(path, _rule_of_change(gone, come), text)]
        lost = (
            Difference(path, Rule.NARROWED, f"is no longer {in_words([each])}") for each in gone
        )
        won = (Difference(path, Rule.WIDENED, f"may be {in_words([each])}, too") for each in come)
        return [*found, *lost, *won]

    def _of_one_kind(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        kinds = {kind_of(old), kind_of(new)}
        if kinds <= {"array", "object"}:
            pair = (id(old), id(new))
            if pair in self._seen:
                return
            self._seen.add(pair)
        yield from differences(old, new, path)
        if kinds == {"array"}:
            yield from self._of_arrays(old, new, path)
        elif kinds == {"object"}:
            yield from self._of_objects(old, new, path)

    def _of_arrays(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        yield from _moved(old, new, path)
        first = max(len(old.get("prefixItems", [])), len(new.get("prefixItems", [])))
        for place in range(first):
            inner = f"{path}[{place}]"
            before, after = _item(old, place), _item(new, place)
            if _is_ignored(old, place):
                yield Difference(inner, Rule.OPTIONAL_FIELD_ADDED, "a new field at the end")
            elif _is_ignored(new, place):
                yield Difference(inner, Rule.FIELD_REMOVED, "the field at the end was removed")
            elif before is not None and after is not None:
                yield from self.of(before, after, inner)
        before, after = _item(old, first), _item(new, first)
        if before is not None and after is not None:
            yield from self.of(before, after, f"{path}[...]")

    def _of_objects(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            if name in after:
                yield from self._of_field(name, old, new, path)
            else:
                yield from self._removed(name, before[name], new, path)
        for name in after:
            if name not in before:
                yield from self._added(name, old, new, path)
        yield from self._of_other_fields(old, new, path)

    def _of_field(self, name: str, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        inner = f"{path}.{name}"
        was, is_required = name in old.get("required", []), name in new.get("required", [])
        if is_required and not was:
            yield Difference(inner, Rule.FIELD_NOW_REQUIRED, "was optional, is required")
        elif was and not is_required:
            yield Difference(inner, Rule.FIELD_NOW_OPTIONAL, "was required, is optional")
        before, after = old["properties"][name], new["properties"][name]
        if not was and not is_required and text_of(before, "default") != text_of(after, "default"):
            text = f"the default was {text_of(before, 'default')}, is {text_of(after, 'default')}"
            yield Difference(inner, Rule.DEFAULT_CHANGED, text)
        yield from self.of(before, after, inner)

    def _removed(self, name: str, field: Schema, new: Schema, path: str) -> Iterator[Difference]:
        inner = f"{path}.{name}"
        others = _other_fields(new)
        if others is False:
            yield Difference(inner, Rule.CHANGED, "the field was removed, and is refused")
        elif others is None:
            yield Difference(inner, Rule.FIELD_REMOVED, "the field was removed")
        else:
            yield from self.of(field, others, inner)

    def _added(self, name: str, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        inner = f"{path}.{name}"
        field = new["properties"][name]
        others = _other_fields(old)
        if name in new.get("required", []):
            yield Difference(inner, Rule.REQUIRED_FIELD_ADDED, "a new field, required")
        elif others is None:
            yield Difference(inner, Rule.OPTIONAL_FIELD_ADDED, "a new field, optional")
        if others is False:
            yield Difference(inner, Rule.WIDENED, "the field was refused, and is allowed")
        elif others is not None:
            yield from self.of(others, field, inner)

    def _of_other_fields(self, old: Schema, new: Schema, path: str) -> Iterator[Difference]:
        before, after = _other_fields(old), _other_fields(new)
        inner = f"{path}[...]"
        if isinstance(before, dict) and isinstance(after, dict):
            yield from self.of(before, after, inner)
        elif after is False and before is not False:
            yield Difference(path, Rule.NARROWED, "other fields are refused")
        elif before is False and after is not False:
            yield Difference(path, Rule.WIDENED, "other fields are allowed")
        elif isinstance(before, dict):
            yield Difference(inner, Rule.NARROWED, "only the named fields are read")
        elif isinstance(after, dict):
            yield Difference(inner, Rule.WIDENED, "may have fields of any name")


def _moved(old: Schema, new: Schema, path: str) -> Iterator[Difference]:
    """The items with a name that are elsewhere now: what is read there has another meaning."""
    before, after = (
        {
            item["title"]: place
            for place, item in enumerate(each.get("prefixItems", []))
            if "title" in item
        }
        for each in (old, new)
    )
    for name, place in before.items():
        if after.get(name, place) != place:
            text = f"{name} stands at [{after[name]}] now"
            yield Difference(f"{path}[{place}]", Rule.CHANGED, text)


def _item(schema: Schema, place: int) -> Schema | None:
    """What an array holds at a place; None if nothing can be there."""
    first: list[Schema] = schema.get("prefixItems", [])
    if place < len(first):
        return first[place]
    if place >= limit_of(schema, "most", "maxItems", "")[0]:
        return None
    rest: Schema = schema.get("items", {})
    return rest


def _is_ignored(schema: Schema, place: int) -> bool:
    """Whether nobody looks at a place: it is behind the fields of a record that is an array."""
    first = schema.get("prefixItems", [])
    return 0 < len(first) <= place and "items" not in schema and _item(schema, place) is not None


def _other_fields(schema: Schema) -> Schema | Literal[False] | None:
    """What an object's fields without a name of their own hold.

    False if there must be none; None if they are ignored, as those of a record are.
    """
    others = schema.get("additionalProperties", None if "properties" in schema else {})
    return {} if others is True else others


def _rule_of_change(gone: list[Schema], come: list[Schema]) -> Rule:
    if any(kind_of(each) == ANY for each in come):
        return Rule.WIDENED
    return Rule.NARROWED if any(kind_of(each) == ANY for each in gone) else Rule.CHANGED
