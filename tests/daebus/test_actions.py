"""Actions answer requests, with parameters that are checked."""

from __future__ import annotations

import dataclasses
import enum
import threading
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypedDict

import msgspec
import pytest

from daebus import (
    BadRequest,
    Daebus,
    DaebusCaller,
    HandlerTimeout,
    RegistrationError,
    RemoteError,
    UnknownAction,
    request,
)
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Size(msgspec.Struct):
    width: float


class Options(TypedDict):
    verbose: bool


def test_parameters_come_from_the_payload_by_name(start: Start) -> None:
    app = Daebus("app")

    @app.action("add")
    def add(a: int, b: int = 10) -> int:
        return a + b

    caller = start(app)

    assert caller.call("add", {"a": 1, "b": 2}) == 3
    assert caller.call("add", {"a": 1, "more": "is ignored"}) == 11


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        ({"a": "one"}, "Expected `int`, got `str` - at `$.a`"),
        ({"a": 1, "b": None}, "Expected `int`, got `null` - at `$.b`"),
        ({"b": 1}, "missing required field `a`"),
        ([1], "Expected `object`, got `array`"),
    ],
)
def test_a_wrong_payload_is_told_and_the_handler_does_not_run(
    start: Start, payload: object, says: str
) -> None:
    app, ran = Daebus("app"), []

    @app.action("add")
    def add(a: int, b: int = 10) -> None:
        ran.append((a, b))

    caller = start(app)

    with pytest.raises(BadRequest) as raised:
        caller.call("add", payload)
    assert says in raised.value.message
    assert ran == []


def test_parameters_may_have_any_type_that_msgspec_knows(start: Start) -> None:
    app = Daebus("app")

    @app.action("take")
    def take(
        point: Point, size: Size, options: Options, colour: Colour, at: datetime, any_: Any
    ) -> list[object]:
        return [point.x + point.y, size.width, options["verbose"], colour.value, at.year, any_]

    caller = start(app)
    payload = {
        "point": {"x": 1, "y": 2},
        "size": {"width": 2.5},
        "options": {"verbose": True},
        "colour": "red",
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        "any_": [None],
    }

    assert caller.call("take", payload) == [3, 2.5, True, "red", 2026, [None]]
    with pytest.raises(BadRequest, match=r"\$\.point\.y"):
        caller.call("take", {**payload, "point": {"x": 1, "y": "two"}})


def test_a_default_is_the_functions_own(start: Start) -> None:
    default = ["kept"]
    app, seen = Daebus("app"), []

    @app.action("take")
    def take(items: list[str] = default) -> None:
        seen.append(items)

    start(app).call("take")

    assert seen[0] is default


def test_parameters_that_no_payload_can_fill_are_refused_at_the_start(service_name: str) -> None:
    app = Daebus("app")
    app.action("bad")(lambda *things: None)

    with pytest.raises(RegistrationError, match="cannot be taken from a payload"):
        app.start(service_name)


def test_a_type_hint_that_means_nothing_is_refused_at_the_start(service_name: str) -> None:
    app = Daebus("app")

    @app.action("bad")
    def bad(a: Missing) -> None: ...  # noqa: F821

    with pytest.raises(RegistrationError, match=r"cannot be resolved.*Missing"):
        app.start(service_name)


def test_a_generator_is_refused_at_the_start(service_name: str) -> None:
    app = Daebus("app")

    @app.action("bad")
    def bad():
        yield 1

    with pytest.raises(RegistrationError, match="final=False"):
        app.start(service_name)


@pytest.mark.parametrize("result", [None, 0, "", {}, [], False, {"a": [1, 2.5, "ü"]}])
def test_what_a_handler_returns_is_the_response(start: Start, result: object) -> None:
    app = Daebus("app")
    app.action("give")(lambda: result)

    assert start(app).call("give") == result


def test_a_struct_is_sent_as_an_object(start: Start) -> None:
    app = Daebus("app")
    app.action("give")(lambda: Size(1.5))

    assert start(app).call("give") == {"width": 1.5}


def test_a_result_that_json_cannot_hold_is_an_error(start: Start) -> None:
    app = Daebus("app")
    app.action("give")(lambda: object())

    with pytest.raises(RemoteError, match="cannot be sent as JSON") as raised:
        start(app).call("give")
    assert raised.value.code == "handler_error"


def test_an_exception_becomes_an_error_response(start: Start) -> None:
    app = Daebus("app")

    @app.action("fail")
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(RemoteError, match="KeyError: 'lost'"):
        start(app).call("fail")


def test_an_unknown_action_is_told_with_those_that_there_are(start: Start) -> None:
    app = Daebus("app")
    app.action("known")(lambda: None)

    with pytest.raises(UnknownAction, match="has: known"):
        start(app).call("unknown")


def test_a_request_without_a_payload_reads_an_empty_object(start: Start) -> None:
    app = Daebus("app")
    app.action("echo")(lambda: request.payload)
    caller = start(app)

    assert caller.call("echo") == {}
    assert caller.call("echo", None) is None


def test_a_time_limit_answers_the_caller_and_the_other_threads_go_on(start: Start) -> None:
    app, release = Daebus("app", max_workers=2), threading.Event()

    @app.action("stuck", timeout=0.2)
    def stuck() -> None:
        release.wait(30)

    app.action("quick")(lambda: "done")
    caller = start(app)

    with pytest.raises(HandlerTimeout, match=r"0\.2 s"):
        caller.call("stuck")
    assert caller.call("quick") == "done"
    assert app.stats().incidents["handler_timeout"] == 1
    release.set()


def test_what_was_handled_in_time_is_not_kept_until_its_limit_would_pass(start: Start) -> None:
    app = Daebus("app", max_workers=1)
    app.action("quick", timeout=60)(lambda: None)
    caller = start(app)
    caller.call("quick", "x" * 500_000)

    tracemalloc.start()
    try:
        for _ in range(20):
            caller.call("quick", "x" * 500_000)
        assert tracemalloc.get_traced_memory()[0] < 3_000_000
    finally:
        tracemalloc.stop()


def test_limits_pass_in_their_own_order(start: Start) -> None:
    app, release = Daebus("app"), threading.Event()
    for name, limit in (("late", 1e9), ("soon", 0.2)):
        app.action(name, timeout=limit)(lambda: release.wait(30))
    caller = start(app)

    late = caller.submit("late")
    eventually(lambda: app.stats().in_progress == 1)
    with pytest.raises(HandlerTimeout):
        caller.call("soon")

    release.set()
    assert late.result(10) is True


@pytest.mark.parametrize("limit", [0, -1, "5", 1e10, float("nan"), True])
def test_a_time_limit_that_is_none_is_told(limit: object) -> None:
    app = Daebus("app")

    with pytest.raises(RegistrationError, match=r"'work'.* is no time limit"):
        app.action("work", timeout=limit)
    with pytest.raises(RegistrationError, match=r"'news'.* is no time limit"):
        app.listen("news", timeout=limit)
