"""What a change of a contract breaks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Required, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from daebus import Daebus
from daebus.contracts import ActionContract, ChannelContract, Contract
from daebus.operate.contract.diff import Change, changes_between
from daebus.service.contract import contract_of

# Types are drawn as nodes, from which a type, and its values, are made.

NAMES = ("x", "y", "z")
COUNTER = itertools.count()


@dataclass(frozen=True)
class Node:
    kind: str
    parts: tuple[Node, ...] = ()
    facts: tuple[Any, ...] = ()


def type_of(node: Node) -> Any:
    inner = [type_of(part) for part in node.parts]
    least, most = (*node.facts, None, None)[:2]
    return {
        "any": lambda: Any,
        "null": lambda: None,
        "bool": lambda: bool,
        "int": lambda: Annotated[int, Meta(ge=least, le=most)],
        "above": lambda: Annotated[int, Meta(gt=least)],
        "float": lambda: Annotated[float, Meta(gt=least, le=most)],
        "str": lambda: Annotated[str, Meta(min_length=least, max_length=most)],
        "literal": lambda: Literal[node.facts],
        "list": lambda: Annotated[list[inner[0]], Meta(min_length=least, max_length=most)],
        "map": lambda: dict[str, inner[0]],
        "tuple": lambda: tuple[tuple(inner)] if inner else tuple[()],
        "record": lambda: TypedDict(f"Record{next(COUNTER)}", dict(_fields(node, inner))),
        "closed": lambda: msgspec.defstruct(
            f"Closed{next(COUNTER)}",
            list(_fields_of_a_struct(node, inner)),
            forbid_unknown_fields=True,
        ),
        "tagged": lambda: _union(
            [
                msgspec.defstruct(f"{tag}{next(COUNTER)}", [("x", kind)], tag=tag)
                for tag, kind in zip(node.facts, inner, strict=True)
            ]
        ),
        "union": lambda: _union(inner),
    }[node.kind]()


def _union(kinds: list[Any]) -> Any:
    found = kinds[0]
    for kind in kinds[1:]:
        found = found | kind
    return found


def _fields(node: Node, inner: list[Any]) -> Any:
    for (name, is_required), kind in zip(node.facts, inner, strict=True):
        yield name, Required[kind] if is_required else NotRequired[kind]


def _fields_of_a_struct(node: Node, inner: list[Any]) -> Any:
    for (name, is_required), kind in sorted(
        zip(node.facts, inner, strict=True), key=lambda field: not field[0][1]
    ):
        yield (name, kind) if is_required else (name, kind | msgspec.UnsetType, msgspec.UNSET)


def values_of(node: Node) -> st.SearchStrategy[Any]:
    inner = [values_of(part) for part in node.parts]
    least, most = (*node.facts, None, None)[:2]
    return {
        "any": lambda: st.sampled_from([None, True, 1, 0.5, "a", [1], {"x": 1}]),
        "null": st.none,
        "bool": st.booleans,
        "int": lambda: st.integers(-1 if least is None else least, 4 if most is None else most),
        "above": lambda: st.integers(least + 1, 4),
        "float": lambda: st.sampled_from([0.5, 1.5, 2, 2.5, 1, 3, -1]).filter(
            lambda value: (least is None or value > least) and (most is None or value <= most)
        ),
        "str": lambda: st.text("ab", min_size=least or 0, max_size=4 if most is None else most),
        "literal": lambda: st.sampled_from(node.facts),
        "list": lambda: st.lists(
            inner[0], min_size=least or 0, max_size=3 if most is None else most
        ),
        "map": lambda: st.dictionaries(st.sampled_from([*NAMES, "a"]), inner[0], max_size=2),
        "tuple": lambda: st.tuples(*inner),
        "record": lambda: _records(node, inner),
        "closed": lambda: _records(node, inner),
        "tagged": lambda: st.one_of(
            [
                st.fixed_dictionaries({"type": st.just(tag), "x": values})
                for tag, values in zip(node.facts, inner, strict=True)
            ]
        ),
        "union": lambda: st.one_of(inner),
    }[node.kind]()


def _records(node: Node, inner: list[Any]) -> st.SearchStrategy[Any]:
    fields = list(zip(node.facts, inner, strict=True))
    return st.fixed_dictionaries(
        {name: values for (name, is_required), values in fields if is_required},
        optional={name: values for (name, is_required), values in fields if not is_required},
    )


LIMITS = st.sampled_from([(), (0,), (1,), (None, 2), (1, 2), (0, 3)])
SIMPLE = st.one_of(
    st.sampled_from([Node("any"), Node("null"), Node("bool")]),
    st.builds(lambda facts: Node("int", (), facts), LIMITS),
    st.builds(lambda facts: Node("above", (), facts), st.sampled_from([(0,), (1,)])),
    st.builds(lambda facts: Node("float", (), facts), LIMITS),
    st.builds(lambda facts: Node("str", (), facts), LIMITS),
    st.builds(
        lambda facts: Node("literal", (), tuple(facts)),
        st.lists(st.sampled_from(["a", "b", 1, 2]), min_size=1, max_size=3, unique=True),
    ),
)


@st.composite
def compound(draw: Any, inner: st.SearchStrategy[Node]) -> Node:
    kind = draw(st.sampled_from(["list", "map", "tuple", "record", "closed", "tagged", "union"]))
    if kind == "list":
        return Node(kind, (draw(inner),), draw(LIMITS))
    if kind == "map":
        return Node(kind, (draw(inner),))
    if kind == "union":
        return Node(kind, _one_of_each(draw(st.lists(inner, min_size=2, max_size=4))))
    parts = tuple(draw(st.lists(inner, min_size=1, max_size=2)))
    if kind == "tuple":
        return Node(kind, parts)
    names = draw(st.permutations(NAMES))[: len(parts)]
    if kind == "tagged":
        return Node(kind, parts, tuple(names))
    return Node(kind, parts, tuple((name, draw(st.booleans())) for name in names))


def _one_of_each(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """A union has one alternative of a kind at most: so msgspec tells them apart."""
    found = {_group(node): node for node in nodes}
    # A fixed tuple beside a limited type crashes msgspec 0.22, which mixes up their limits.
    # Choices of several kinds may be beside an integer, whose limits hold for them, too.
    for group in ("union", "tuple", "literal"):
        found.pop(group, None)
    return tuple(found.values()) or (Node("null"),)


def _group(node: Node) -> str:
    if node.kind == "literal":
        return (
            "literal"
            if len({type(value) for value in node.facts}) > 1
            else ("str" if isinstance(node.facts[0], str) else "int")
        )
    groups = {"above": "int", "map": "object", "record": "object", "closed": "object"}
    groups |= {"tagged": "object", "any": "union"}
    return groups.get(node.kind, node.kind)


NODES = st.recursive(SIMPLE, compound, max_leaves=4)


@st.composite
def changed(draw: Any, node: Node) -> Node:
    """A node that differs from this one in a place or two, or in none."""
    if draw(st.integers(0, 4)) == 0:
        return draw(NODES if node.parts == () else SIMPLE)
    parts = tuple(draw(changed(part)) for part in node.parts)
    facts = node.facts
    if node.kind in {"record", "closed"}:
        facts = tuple((name, draw(st.booleans())) for name, _ in facts)
        if draw(st.booleans()):
            return Node(draw(st.sampled_from(["record", "closed"])), parts[1:], facts[1:])
    if node.kind in {"int", "float", "str", "list"}:
        facts = draw(LIMITS)
    if node.kind == "union":
        return Node("union", _one_of_each(parts))
    return Node(node.kind, parts, facts)


def contract_with(payload: Any, result: Any) -> Contract:
    app = Daebus("one")

    def handler(value): ...

    handler.__annotations__ = {"value": payload, "return": result}
    app.listen("channel")(handler)
    app.action("act")(handler)
    return contract_of("one", "pubsub", app.registry)


def usable(node: Node) -> bool:
    try:
        msgspec.json.Decoder(type_of(node))
    except TypeError:
        return False
    return True


def check(value: Any, kind: Any, other: Any) -> None:
    """A value of one type must be one of the other."""
    text = msgspec.json.encode(value)
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError:
        return  # Beside an integer, a whole number is no float.
    msgspec.json.decode(text, type=other)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_called_compatible_is_compatible(data: st.DataObject) -> None:
    old = data.draw(NODES.filter(usable))
    new = data.draw((NODES | changed(old) | changed(old)).filter(usable))
    before, after = type_of(old), type_of(new)
    changes = changes_between(contract_with(before, before), contract_with(after, after))
    broken = {(change.subject, change.part) for change in changes if change.is_breaking}

    if ("channel channel", "payload") not in broken:
        check(data.draw(values_of(old)), before, after)
    if ("action act", "result") not in broken:
        check(data.draw(values_of(new)), after, before)


@settings(max_examples=100, deadline=None)
@given(node=NODES.filter(usable))
def test_a_contract_does_not_differ_from_itself(node: Node) -> None:
    kind, twin = type_of(node), type_of(node)

    assert changes_between(contract_with(kind, kind), contract_with(twin, twin)) == []


class Item(msgspec.Struct):
    price: float
    note: str = ""


class Renamed(msgspec.Struct):
    price: float
    note: str = ""


class Cheaper(msgspec.Struct):
    price: int
    note: str = ""


class Needy(msgspec.Struct):
    price: float
    note: str


class Larger(msgspec.Struct):
    price: float
    tax: float
    note: str = ""


class Richer(msgspec.Struct):
    price: float
    note: str = ""
    tax: float = 0.0


class Poorer(msgspec.Struct):
    price: float


class Point(NamedTuple):
    x: int
    y: int


class Turned(NamedTuple):
    y: int
    x: int


class Row(msgspec.Struct, array_like=True):
    x: int


class OptionalRow(msgspec.Struct, array_like=True):
    x: int
    y: int = 0


class LongRow(msgspec.Struct, array_like=True):
    x: int
    y: int


class RenamedPoint(NamedTuple):
    left: int
    top: int


class Tree(msgspec.Struct):
    value: int
    left: Tree | None = None


class OtherTree(msgspec.Struct):
    value: str
    left: OtherTree | None = None


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    age: int


class Bird(msgspec.Struct, tag=True):
    wings: int


SAFE, SENDERS, READERS, BOTH = set(), {"payload"}, {"result"}, {"payload", "result"}


@pytest.mark.parametrize(
    ("old", "new", "broken", "path", "text"),
    [
        (Item, Renamed, SAFE, None, None),
        (Item, Larger, SENDERS, "$.value.tax", "a new field, required"),
        (Item, Richer, SAFE, "$.value.tax", "a new field, optional"),
        (Item, Poorer, READERS, "$.value.note", "the field was removed"),
        (Item, Needy, SENDERS, "$.value.note", "was optional, is required"),
        (Needy, Item, READERS, "$.value.note", "was required, is optional"),
        (Item, Cheaper, SENDERS, "$.value.price", "was a number, is an integer"),
        (Cheaper, Item, READERS, "$.value.price", "was an integer, is a number"),
        (int, str, BOTH, "$.value", "was an integer, is a string"),
        (int | None, int, SENDERS, "$.value", "is no longer null"),
        (int, int | None, READERS, "$.value", "may be null, too"),
        (Literal["a", "b"], Literal["a"], SENDERS, "$.value", 'is no longer "b"'),
        (Literal["a"], Literal["a", "b"], READERS, "$.value", 'may be "b", too'),
        (Literal["a"], str, READERS, "$.value", 'was one of "a", is a string'),
        (int, Any, READERS, "$.value", "was an integer, is any value"),
        (Any, int, SENDERS, "$.value", "was any value, is an integer"),
        (int, Annotated[int, Meta(gt=0)], SENDERS, "$.value", "minimum was none, is 1"),
        (
            Annotated[str, Meta(max_length=3)],
            Annotated[str, Meta(max_length=5)],
            READERS,
            "$.value",
            "maxLength was 3, is 5",
        ),
        (str, UUID, SENDERS, "$.value", 'format was none, is "uuid"'),
        (str, datetime, SENDERS, "$.value", 'format was none, is "date-time"'),
        (str, bytes, BOTH, "$.value", 'contentEncoding was none, is "base64"'),
        (bytes, str, BOTH, "$.value", 'contentEncoding was "base64", is none'),
        (date, UUID, BOTH, "$.value", 'format was "date", is "uuid"'),
        (
            datetime,
            Annotated[datetime, Meta(tz=True)],
            SENDERS,
            "$.value",
            'pattern was none, is "([Zz]|[+-][0-9]{2}:?[0-9]{2})$"',
        ),
        (list[Item], list[Poorer], READERS, "$.value[...].note", "the field was removed"),
        (dict[str, int], dict[str, float], READERS, "$.value[...]", "was an integer, is a number"),
        (tuple[int, int], tuple[int, str], BOTH, "$.value[1]", "was an integer, is a string"),
        (Point, Turned, BOTH, "$.value[0]", "x stands at [1] now"),
        (Row, OptionalRow, SAFE, "$.value[1]", "a new field at the end"),
        (Row, LongRow, SENDERS, "$.value", "minItems was 1, is 2"),
        (OptionalRow, Row, READERS, "$.value[1]", "the field at the end was removed"),
        (Point, RenamedPoint, SAFE, None, None),
        (Tree, OtherTree, BOTH, "$.value.value", "was an integer, is a string"),
        (Cat | Dog, Cat, SENDERS, "$.value", "is no longer a Dog"),
        (Cat | Dog, Cat | Bird, BOTH, "$.value", "is no longer a Dog"),
        (Cat, Cat | Dog, READERS, "$.value", "may be a Dog, too"),
        (dict, Item, SENDERS, "$.value[...]", "only the named fields are read"),
    ],
)
def test_each_rule_breaks_those_who_rely_on_it(
    old: Any, new: Any, broken: set[str], path: str | None, text: str | None
) -> None:
    def changes_of(before: tuple[Any, Any], after: tuple[Any, Any]) -> list[Change]:
        found = changes_between(contract_with(*before), contract_with(*after))
        return [change for change in found if change.subject == "action act"]

    sent, given = changes_of((old, int), (new, int)), changes_of((int, old), (int, new))

    assert {change.part for change in sent + given if change.is_breaking} == broken
    assert ((path, text) in [(change.path, change.text) for change in sent]) == (text is not None)
    assert {change.path for change in given} == {
        each.path.replace(".value", "", 1) for each in sent if each.path
    }


def offer(**facts: Any) -> Contract:
    return Contract(**{"service": "shop", "wire_version": 1, **facts})


def action(**facts: Any) -> ActionContract:
    return ActionContract(name="add", **facts)


def channel(**facts: Any) -> ChannelContract:
    return ChannelContract(channel="orders", **facts)


@pytest.mark.parametrize(
    ("old", "new", "rule", "is_breaking"),
    [
        (offer(actions=[action()]), offer(), "action-removed", True),
        (offer(), offer(actions=[action()]), "action-added", False),
        (
            offer(actions=[action(timeout_s=2.0)]),
            offer(actions=[action(timeout_s=1.0)]),
            "timeout-changed",
            False,
        ),
        (offer(channels=[channel()]), offer(), "channel-removed", True),
        (offer(), offer(channels=[channel()]), "channel-added", False),
        (
            offer(channels=[channel(is_durable=True)]),
            offer(channels=[channel()]),
            "durability-lost",
            True,
        ),
        (
            offer(channels=[channel()]),
            offer(channels=[channel(is_durable=True)]),
            "durability-gained",
            False,
        ),
        (offer(delivery="stream"), offer(), "delivery-changed", True),
        (offer(), offer(delivery="stream"), "delivery-changed", False),
        (offer(service="store"), offer(), "renamed", True),
        (offer(), offer(wire_version=2), "wire-version-changed", True),
    ],
)
def test_what_is_about_the_whole_service_is_told(
    old: Contract, new: Contract, rule: str, is_breaking: bool
) -> None:
    (change,) = changes_between(old, new)

    assert (change.rule, change.is_breaking) == (rule, is_breaking)


def test_a_type_that_several_listeners_share_is_looked_into() -> None:
    both = [{"$ref": "#/components/schemas/Item"}, {"type": "object"}]
    old, new = (
        offer(
            channels=[channel(payload={"allOf": both})],
            schemas={"Item": {"type": "object", "properties": {"n": {"type": kind}}}},
        )
        for kind in ("number", "integer")
    )

    (change,) = changes_between(old, new)

    assert (change.path, change.is_breaking) == ("$.n", True)


def test_another_default_is_told_and_breaks_nobody() -> None:
    (change,) = changes_of_defaults(1, 2)

    assert (change.path, change.text) == ("$.n", "the default was 1, is 2")
    assert not change.is_breaking


def changes_of_defaults(old: int, new: int) -> list[Change]:
    apps = []
    for default in (old, new):
        app = Daebus("one")
        app.action("act")(lambda n=default: None)
        apps.append(app.contract())
    return changes_between(*apps)
