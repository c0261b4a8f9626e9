"""The contract of a service: it says what the service accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, Required, TypedDict

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from daebus import BadRequest, Blueprint, Daebus, DaebusCaller, RegistrationError
from daebus.contracts import ActionContract, Contract
from daebus.service.contract import contract_of
from fixtures.json_schema import is_valid


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Part:
    """A part of a tree."""

    x: int
    parts: list[Part] | None = None


class Address(msgspec.Struct):
    city: str
    code: str = ""


class Order(TypedDict, total=False):
    x: Required[int]
    city: str


class Pair(NamedTuple):
    x: int
    city: str = ""


class Cat(msgspec.Struct, tag=True):
    x: int


class Dog(msgspec.Struct, tag=True):
    x: str


class Opaque:
    """Nothing that msgspec knows."""


class Odd(Enum):
    VALUE = Opaque()


app = Daebus("contract")


@app.action("plain")
def plain(x: int, city: str = "a", parts: float = 0.5) -> None:
    """Take plain values."""


@app.action("limits")
def limits(
    x: Annotated[int, Meta(ge=1, lt=3)],
    city: Annotated[str, Meta(min_length=1, max_length=2, pattern="^[ab]")] = "a",
    parts: Annotated[list[int], Meta(max_length=1)] | None = None,
) -> None: ...


@app.action("choices")
async def choices(x: Literal["a", 1], city: Colour = Colour.RED, code: bool | None = None): ...


@app.action("named")
def named(x: Part, city: Address | None = None, code: Order | None = None) -> None: ...


@app.action("arrays")
def arrays(x: Pair | None, parts: tuple[int, str] = (1, ""), code: list[Any] = []): ...  # noqa: B006


@app.action("maps")
def maps(x: dict[str, int], city: Cat | Dog | None = None, code: Any = None): ...


@app.action("keys")
def keys(x: Any, parts: dict[int, int] = {}, code: dict[Literal["x", "city"], bool] = {}): ...  # noqa: B006


@app.action("numbers")
def numbers(
    x: Literal[1, 2] | float, parts: Annotated[int, Meta(ge=1)] | float = 1, code: float = 1
): ...


@app.action("untyped")
def untyped(x, city=1): ...


@app.action("whole")
def whole() -> None: ...


def contract() -> Contract:
    return contract_of("shop", "pubsub", app.registry)


def action_of(function: Callable[..., Any]) -> ActionContract:
    one = Daebus("one")
    one.action("it")(function)
    return contract_of("one", "pubsub", one.registry).actions[0]


KEYS = st.sampled_from(["x", "city", "code", "parts", "type", "1", "-0"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 2, 3, 0.5, 1.5, "", "a", "abc", "red", "Cat"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=4
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=3).map(lambda fields: {"x": 1, **fields})


@pytest.fixture
def caller(start: Callable[[Daebus], DaebusCaller]) -> DaebusCaller:
    app.registry.closed_because = None
    return start(app)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(action=st.sampled_from(contract().actions), payload=PAYLOADS | VALUES)
def test_the_service_accepts_what_its_contract_says(
    caller: DaebusCaller, action: ActionContract, payload: Any
) -> None:
    is_allowed = is_valid(payload, action.payload, contract().schemas)

    try:
        caller.call(action.name, payload)
    except BadRequest:
        assert not is_allowed
    else:
        assert is_allowed


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("plain", {"x": 1}),
        ("limits", {"x": 2, "city": "b", "parts": [1]}),
        ("choices", {"x": "a", "city": "blue", "code": True}),
        ("named", {"x": {"x": 1, "parts": [{"x": 2}]}, "city": {"city": "a"}, "code": {"x": 1}}),
        ("arrays", {"x": [1], "parts": [1, "a"], "code": [None]}),
        ("maps", {"x": {"a": 1}, "city": {"type": "Dog", "x": "a"}}),
        ("keys", {"x": 1, "parts": {"-1": 2}, "code": {"city": True}}),
        ("numbers", {"x": 2.5, "parts": 0.5, "code": 0}),
        ("untyped", {"x": [{}]}),
        ("whole", 5),
    ],
)
def test_what_is_right_is_allowed_and_accepted(
    caller: DaebusCaller, action: str, payload: Any
) -> None:
    (found,) = (each for each in contract().actions if each.name == action)

    assert is_valid(payload, found.payload, contract().schemas)
    assert caller.call(action, payload) is None


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("plain", {}),
        ("plain", []),
        ("limits", {"x": 3}),
        ("limits", {"x": 1, "parts": [1, 2]}),
        ("choices", {"x": True}),
        ("named", {"x": {"x": 1, "parts": [{}]}}),
        ("arrays", {"x": [1, "", 2]}),
        ("maps", {"x": {}, "city": {"type": "Dog", "x": 1}}),
        ("keys", {"x": 1, "parts": {"a": 1}}),
        ("keys", {"x": 1, "code": {"y": True}}),
        ("numbers", {"x": 3}),
        ("numbers", {"x": 1, "parts": 0}),
    ],
)
def test_what_is_wrong_is_neither_allowed_nor_accepted(
    caller: DaebusCaller, action: str, payload: Any
) -> None:
    (found,) = (each for each in contract().actions if each.name == action)

    assert not is_valid(payload, found.payload, contract().schemas)
    with pytest.raises(BadRequest):
        caller.call(action, payload)


def test_parameters_are_fields_and_those_with_a_default_are_optional() -> None:
    assert action_of(lambda a, b=2: None).payload == {
        "type": "object",
        "properties": {"a": {}, "b": {"default": 2}},
        "required": ["a"],
    }


def test_what_an_action_gives_is_its_return_hint() -> None:
    async def later() -> list[int]:
        return []

    def nothing() -> None: ...

    assert action_of(later).result == {"type": "array", "items": {"type": "integer"}}
    assert action_of(nothing).result == {"type": "null"}
    assert action_of(lambda: None).result == {}


def test_docstrings_are_descriptions() -> None:
    def handler() -> None:
        """Do it.

        In this way.
        """

    assert action_of(handler).description == "Do it.\n\nIn this way."
    assert action_of(lambda: None).description == ""


def test_a_type_with_a_name_stands_once() -> None:
    found = contract()

    assert found.schemas["Part"]["description"] == "A part of a tree."
    parts = found.schemas["Part"]["properties"]["parts"]
    assert parts["anyOf"][0]["items"] == {"$ref": "#/components/schemas/Part"}
    assert found.actions[3].payload["properties"]["x"] == {"$ref": "#/components/schemas/Part"}


def test_two_types_of_one_name_stand_beside_each_other() -> None:
    number, text = (msgspec.defstruct("Item", [("value", kind)]) for kind in (int, str))
    one = Daebus("one")
    one.action("a")(annotated(number))
    one.action("b")(annotated(text))
    one.action("c")(annotated(text))
    found = contract_of("one", "pubsub", one.registry)

    values = [
        found.schemas[action.payload["properties"]["item"]["$ref"].rpartition("/")[2]]
        for action in found.actions
    ]
    assert [value["properties"]["value"]["type"] for value in values] == [
        "integer",
        "string",
        "string",
    ]
    assert len(found.schemas) == 2


def annotated(kind: Any) -> Callable[..., None]:
    def handler(item): ...

    handler.__annotations__ = {"item": kind}
    return handler


def test_a_class_that_cannot_be_described_is_any_value() -> None:
    def handler(a: Opaque, b: list[Opaque] | None = None) -> Opaque: ...

    found = action_of(handler)

    assert found.payload["properties"]["a"] == {}
    assert found.payload["properties"]["b"]["anyOf"][0] == {"type": "array"}
    assert found.result == {}


def test_a_default_that_is_no_json_is_left_out() -> None:
    def handler(a: datetime = datetime(2026, 1, 1, tzinfo=UTC), b: Any = Opaque): ...

    assert action_of(handler).payload["properties"] == {
        "a": {"type": "string", "format": "date-time", "default": "2026-01-01T00:00:00Z"},
        "b": {},
    }


def test_what_only_python_can_hold_is_left_out() -> None:
    def handler(a: Annotated[int, Meta(examples=[Opaque()])]) -> Odd: ...

    found = action_of(handler)

    assert found.payload["properties"]["a"] == {"type": "integer"}
    assert msgspec.json.encode(found)


def test_constraints_and_examples_are_told() -> None:
    def handler(a: Annotated[int, Meta(ge=1, title="A", examples=[2])]): ...

    assert action_of(handler).payload["properties"]["a"] == {
        "type": "integer",
        "minimum": 1,
        "title": "A",
        "examples": [2],
    }


def test_a_listener_with_one_parameter_takes_the_whole_payload() -> None:
    one = Blueprint("one")

    @one.listen("orders", durable=True)
    def on_order(order: Address) -> None:
        """Take an order."""

    @one.listen("events.*")
    def on_event(x: int, y: int = 0) -> None: ...

    orders, events = contract_of("one", "stream", one.registry).channels
    assert orders.payload == {"$ref": "#/components/schemas/Address"}
    assert (orders.is_durable, orders.description) == (True, "Take an order.")
    assert (events.channel, events.payload["required"]) == ("events.*", ["x"])


def test_what_is_published_must_suit_all_listeners_of_the_channel() -> None:
    one = Daebus("one")
    one.listen("a")(annotated(int))
    one.listen("a")(annotated(Annotated[int, Meta(ge=1)]))
    one.listen("a")(lambda: None)

    (channel,) = contract_of("one", "pubsub", one.registry).channels

    assert channel.payload == {"allOf": [{"type": "integer"}, {"type": "integer", "minimum": 1}]}


def test_a_time_limit_is_told() -> None:
    one = Daebus("one")
    one.action("it", timeout=2.5)(lambda: None)

    assert contract_of("one", "pubsub", one.registry).actions[0].timeout_s == 2.5


def test_hints_that_cannot_be_resolved_are_an_error_that_names_the_handler() -> None:
    def handler(a: Unknown): ...  # noqa: F821

    with pytest.raises(RegistrationError, match="handler.*Unknown"):
        action_of(handler)
