"""Blueprints carry all kinds of handlers into an app."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

import pytest

from daebus import Blueprint, Broadcast, Daebus, DaebusCaller, RegistrationError, SettingsError
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_every_decorator_of_a_blueprint_works(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    bp, heard = Blueprint("all"), queue.SimpleQueue()
    bp.action("give")(lambda: "given")
    bp.listen(service_name + ".news")(lambda data: heard.put(data))
    bp.background("tick", 0.05)(lambda: heard.put("tick"))
    ended = threading.Event()

    @bp.thread("worker")
    def worker(goes_on: Callable[[], bool]) -> None:
        heard.put("thread")
        eventually(lambda: not goes_on(), timeout_s=30)
        ended.set()

    bp.on_start(lambda: heard.put("start"))
    bp.on_stop(lambda: heard.put("stop"))
    app = Daebus("app")
    app.register_blueprint(bp)

    caller = start(app)
    broadcaster.send(service_name + ".news", "news")
    seen: set[str] = set()
    eventually(
        lambda: seen.add(heard.get(timeout=10)) or {"start", "thread", "tick", "news"} <= seen
    )

    assert caller.call("give") == "given"
    app.stop()
    assert ended.is_set()
    assert "stop" in {heard.get() for _ in range(heard.qsize())}


@pytest.mark.parametrize("kind", ["action", "background", "thread"])
def test_two_handlers_of_one_name_are_refused_and_both_are_told(kind: str) -> None:
    app, bp = Daebus("app"), Blueprint("bp")
    arguments = ("same", 1) if kind == "background" else ("same",)

    @getattr(app, kind)(*arguments)
    def first() -> None: ...

    @getattr(bp, kind)(*arguments)
    def second() -> None: ...

    bp.action("other")(lambda: None)

    with pytest.raises(RegistrationError, match=r"'same' is registered twice.*first.*second"):
        app.register_blueprint(bp)
    assert "other" not in app.registry.actions


def test_a_blueprint_is_registered_once_though_its_listeners_have_no_names() -> None:
    app, bp = Daebus("app"), Blueprint("bp")
    bp.listen("news")(lambda data: None)
    app.register_blueprint(bp)

    with pytest.raises(RegistrationError, match="has the blueprint 'bp' already"):
        app.register_blueprint(bp)
    assert len(app.registry.listeners) == 1
    Daebus("another").register_blueprint(bp)


def test_a_name_twice_in_one_app_is_refused() -> None:
    app = Daebus("app")
    app.action("same")(lambda: None)

    with pytest.raises(RegistrationError, match="registered twice"):
        app.action("same")(lambda: None)


def test_a_handler_that_comes_too_late_is_refused(service_name: str, url: str) -> None:
    app, bp = Daebus("app", url=url), Blueprint("bp")
    app.register_blueprint(bp)

    with pytest.raises(RegistrationError, match="register the blueprint after its last handler"):
        bp.action("late")(lambda: None)

    app.start(service_name)
    with pytest.raises(RegistrationError, match="has been started"):
        app.listen("late")(lambda data: None)
    app.stop()


def test_decorators_leave_the_function_as_it_is() -> None:
    app = Daebus("app")

    @app.action("add")
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201])
def test_names_that_do_not_print_are_refused(name: str) -> None:
    app = Daebus("app")

    for register in (app.action, app.listen, app.thread, lambda n: app.background(n, 1), Blueprint):
        with pytest.raises(SettingsError):
            register(name)


def test_a_decorator_without_its_parentheses_is_told() -> None:
    app = Daebus("app")

    for name in ("action", "listen", "thread"):
        with pytest.raises(RegistrationError, match=rf"@{name} needs parentheses and a name"):
            getattr(app, name)(print)
