"""Starting and stopping a service."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from daebus import (
    Daebus,
    DaebusCaller,
    RegistrationError,
    ServerUnavailable,
    ServiceStopping,
    ServiceUnavailable,
    SettingsError,
)
from daebus.bus.presence import find_replicas
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_hooks_run_before_the_first_and_after_the_last_message(start: Start) -> None:
    app, order = Daebus("app"), []
    app.on_start(lambda: order.append("start"))
    app.on_stop(lambda: order.append("stop"))
    app.action("note")(lambda: order.append("message"))

    caller = start(app)
    caller.call("note")
    app.stop()

    assert order == ["start", "message", "stop"]


def test_a_start_hook_that_raises_ends_the_start_and_leaves_nothing(
    url: str, service_name: str
) -> None:
    app = Daebus("app")

    @app.on_start
    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError):
        app.start(service_name)
    assert not app.is_running()


async def _async() -> None:
    """Called without an event loop it does nothing."""


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("hook", "function", "text"),
    [
        (Daebus.on_start, _async, "_async .*is an async function; an on_start function"),
        (Daebus.on_stop, _generator, "_generator .*is a generator"),
        (Daebus.on_gap, lambda: None, "an on_gap function, which is called with 1 arguments"),
        (Daebus.on_worker_start, lambda model: model, "missing a required argument: 'model'"),
        (lambda app, function: app.thread("poll")(function), _async, "the thread 'poll'"),
        (lambda app, function: app.listen("news")(function), _generator, "is a generator"),
    ],
)
def test_a_function_that_would_never_run_is_refused_at_the_start(
    hook: Callable[[Daebus, object], object], function: object, text: str, service_name: str
) -> None:
    app = Daebus("app")
    hook(app, function)

    with pytest.raises(RegistrationError, match=text):
        app.start(service_name)


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
def test_a_stop_that_is_asked_for_during_the_start_comes_after_it(
    url: str, service_name: str, delivery: str
) -> None:
    app = Daebus("app", delivery=delivery)

    @app.on_start
    def stop_at_once() -> None:
        app.stop()
        assert not threading.Event().wait(0.2)  # Time enough to stop what has been started.

    app.start(service_name)

    eventually(lambda: find_replicas(url, service_name) == [])
    app.stop()
    assert not app.is_running()


def test_a_stop_by_another_thread_lets_the_start_end(url: str, service_name: str) -> None:
    app = Daebus("app")

    @app.on_start
    def connect() -> None:
        stopper.start()
        eventually(lambda: not app.is_running())
        stopper.join(0.2)  # Time enough to stop what has been started.

    stopper = threading.Thread(target=app.stop)
    app.start(service_name)

    stopper.join(10)
    assert find_replicas(url, service_name) == []


def test_a_service_without_a_grace_time_stops_without_an_error(url: str, service_name: str) -> None:
    app = Daebus("app", grace=0)
    app.action("echo")(lambda: app.request.payload)
    app.start(service_name)

    app.stop()

    with DaebusCaller(service_name, url) as caller, pytest.raises(ServiceUnavailable):
        caller.call("echo")


def test_every_stop_hook_runs_and_their_errors_leave_together(url: str, service_name: str) -> None:
    app, ran = Daebus("app"), []

    @app.on_stop
    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    app.on_stop(sys.exit)
    app.on_stop(lambda: ran.append(1))
    app.start(service_name)

    with pytest.raises(ExceptionGroup) as raised:
        app.stop()
    assert raised.group_contains(ZeroDivisionError)
    assert raised.group_contains(RuntimeError, match="exit raised SystemExit")
    assert ran == [1]


def test_a_stopped_service_can_be_started_again(start: Start, service_name: str) -> None:
    app = Daebus("app")
    app.action("give")(lambda: 1)
    caller = start(app)
    assert caller.call("give") == 1

    app.stop()
    app.stop()
    with pytest.raises(ServiceUnavailable):
        caller.call("give")
    app.start(service_name)

    assert caller.call("give") == 1


def test_a_running_app_is_not_started_twice(start: Start) -> None:
    app = Daebus("app")
    start(app)

    with pytest.raises(SettingsError, match="runs already"):
        app.start("another_name")


def test_a_handler_may_stop_its_service(start: Start) -> None:
    app = Daebus("app")

    @app.action("stop")
    def stop() -> str:
        app.stop()
        return "stopping"

    caller = start(app)

    assert caller.call("stop") == "stopping"
    eventually(lambda: not app.is_running())


def test_what_waits_is_handled_before_the_end(start: Start) -> None:
    app, release = Daebus("app", max_workers=1), threading.Event()

    @app.action("work")
    def work() -> object:
        release.wait(30)
        return app.request.payload

    caller = start(app)
    futures = [caller.submit("work", number) for number in range(50)]
    eventually(lambda: app.stats().in_progress == 1 and app.stats().backlog == 49)

    stopping = threading.Thread(target=app.stop)
    stopping.start()
    release.set()

    assert [future.result(10) for future in futures] == list(range(50))
    stopping.join(10)


@pytest.mark.leaves_threads
def test_what_is_cut_off_is_told(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    app, release = Daebus("app", max_workers=1, grace=0.2), threading.Event()
    app.action("stuck")(lambda: release.wait(30))
    caller = start(app)
    futures = [caller.submit("stuck") for _ in range(3)]
    eventually(lambda: app.stats().backlog == 2)

    app.stop()

    errors = [future.exception(10) for future in futures]
    assert [type(error) for error in errors] == [ServiceStopping] * 3
    assert "3 messages were cut off after 0.2 s" in caplog.text
    release.set()


def test_a_server_that_is_not_there_is_told_with_both_ways_out(
    service_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAEBUS_URL", raising=False)
    monkeypatch.setattr("daebus.bus.connection.DEFAULT_URL", "redis://127.0.0.1:1")
    monkeypatch.setattr("daebus.settings.DEFAULT_URL", "redis://127.0.0.1:1")

    with pytest.raises(ServerUnavailable, match=r"Start a Redis.*DAEBUS_URL=embedded://"):
        Daebus("app").start(service_name)


def test_a_script_must_name_its_service(url: str) -> None:
    with pytest.raises(SettingsError, match=r"app.run\('my_service'\)"):
        Daebus("__main__").start()


def test_presence_comes_and_goes_with_the_service(start: Start, url: str) -> None:
    app = Daebus("app", max_workers=3)
    app.action("give")(lambda: 1)
    caller = start(app)
    caller.call("give")

    [replica] = find_replicas(url, caller.service)
    assert (replica.actions, replica.max_workers) == (["give"], 3)
    eventually(lambda: [each.handled for each in find_replicas(url, caller.service)] == [1])

    app.stop()
    eventually(lambda: find_replicas(url, caller.service) == [])


def test_a_second_replica_is_told(start: Start, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "daebus")
    first, second = Daebus("app"), Daebus("app")
    name = start(first).service
    assert "another replica" not in caplog.text

    second.start(name)
    second.stop()

    assert "another replica serves" in caplog.text


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
@pytest.mark.parametrize("kind", ["two words", "grüße", "a:b", "{a}*"])
def test_any_name_that_prints_can_be_served(
    url: str, service_name: str, delivery: str, kind: str
) -> None:
    app = Daebus(f"{kind}.{service_name}", delivery=delivery)
    app.action("echo")(lambda: app.request.payload)
    app.start()
    try:
        with DaebusCaller(app.name, timeout=10) as caller:
            assert caller.call("echo", kind) == kind
            assert [each.service for each in find_replicas(url, app.name)] == [app.name]
    finally:
        app.stop()
