"""The backlog is bounded; with overflow="reject" whoever finds no room is told at once."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import pytest

from daebus import Broadcast, Daebus, DaebusCaller, Overloaded
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def blocked(app: Daebus) -> threading.Event:
    release = threading.Event()
    app.action("block")(lambda: release.wait(30))
    return release


def test_a_full_backlog_refuses_by_count(start: Start) -> None:
    app = Daebus("app", max_workers=1, max_backlog=5, overflow="reject")
    release = blocked(app)
    caller = start(app)
    futures = [caller.submit("block") for _ in range(1)]
    eventually(lambda: app.stats().in_progress == 1)
    futures += [caller.submit("block") for _ in range(20)]

    eventually(lambda: sum(future.done() for future in futures) == 15)
    release.set()

    outcomes = [type(future.exception(10)) for future in futures]
    assert outcomes == [type(None)] * 6 + [Overloaded] * 15
    assert app.stats().incidents["rejected"] == 15


def test_a_full_backlog_refuses_by_bytes_and_takes_again_when_there_is_room(start: Start) -> None:
    app = Daebus("app", max_workers=1, max_backlog_bytes=10_000, overflow="reject")
    release = blocked(app)
    caller = start(app)
    first = caller.submit("block")
    eventually(lambda: app.stats().in_progress == 1)

    futures = [caller.submit("block", "x" * 3000) for _ in range(4)]
    assert isinstance(futures[3].exception(10), Overloaded)
    release.set()
    for future in (first, *futures[:3]):
        future.result(10)

    assert caller.call("block", "x" * 9000) is True


def test_a_published_message_without_room_is_dropped_and_counted(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, release = Daebus("app", max_workers=1, max_backlog=5, overflow="reject"), threading.Event()
    app.listen(service_name + ".a")(lambda: release.wait(30))
    start(app)
    broadcaster.send(service_name + ".a", 0)
    eventually(lambda: app.stats().in_progress == 1)

    broadcaster.send_many(service_name + ".a", range(20))

    eventually(lambda: app.stats().incidents.get("dropped") == 15)
    release.set()
    eventually(lambda: app.stats().handled == 6)


def test_a_dead_worker_is_replaced_and_its_message_answered(start: Start) -> None:
    app = Daebus("app", max_workers=1)
    app.action("name")(lambda: threading.current_thread().name)
    app.action("id")(lambda: threading.get_ident())
    caller = start(app)
    worker = caller.call("id")
    eventually(lambda: app.stats().in_progress == 0)  # While it sends, its connection would go.

    raised = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(worker), ctypes.py_object(SystemExit)
    )
    outcome = caller.submit("id").exception(10)

    assert raised == 1
    # Which of the two answers depends on where the exception meets the thread; one of them does.
    assert outcome is None or "the worker thread died" in str(outcome)
    for _ in range(20):
        assert caller.call("name") == "daebus-worker-0"
    eventually(lambda: caller.call("id") != worker)


def test_a_thread_that_the_system_refuses_is_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_start, refusals = threading.Thread.start, []

    def refuse_twice(thread: threading.Thread) -> None:
        if thread.name == "daebus-worker-0" and len(refusals) < 2:
            refusals.append(1)
            raise RuntimeError("can't start new thread")
        real_start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_twice)
    app = Daebus("app", max_workers=1)
    app.action("give")(lambda: 1)

    assert start(app).call("give") == 1
    assert caplog.text.count("no thread could be started") == 2
