"""Background tasks and threads run beside the messages."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from apscheduler.triggers.cron import CronTrigger

from daebus import Daebus, DaebusCaller, RegistrationError, broadcast
from daebus.service.periodic import _trigger
from daebus.service.registry import Background
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_a_task_runs_again_and_again_whatever_it_raises(start: Start) -> None:
    app, runs = Daebus("app"), []

    @app.background("tick", 0.02)
    def tick() -> None:
        runs.append(1)
        if len(runs) == 2:
            raise SystemExit(3)
        if len(runs) == 3:
            raise ValueError("on purpose")

    start(app)

    eventually(lambda: len(runs) >= 6)


def test_a_run_that_is_due_during_the_last_one_is_left_out(start: Start) -> None:
    app, release, running = Daebus("app"), threading.Event(), []

    @app.background("slow", 0.02)
    def slow() -> None:
        running.append(1)
        release.wait(0.3)

    start(app)

    eventually(lambda: len(running) == 1)
    assert not release.wait(0.15)
    assert len(running) == 1
    release.set()


def test_a_cron_expression_is_read_as_cron_reads_it() -> None:
    trigger = _trigger(Background("nightly", "30 3 * * *", lambda: None))

    assert isinstance(trigger, CronTrigger)
    due = trigger.get_next_fire_time(None, datetime(2026, 1, 1, 12, tzinfo=trigger.timezone))
    assert (due.day, due.hour, due.minute) == (2, 3, 30)


@pytest.mark.parametrize("schedule", ["* * *", "61 * * * *", "hourly"])
def test_a_bad_cron_expression_is_refused_at_the_start(schedule: str, service_name: str) -> None:
    app = Daebus("app")
    app.background("task", schedule)(lambda: None)

    with pytest.raises(RegistrationError, match="is no cron expression"):
        app.start(service_name)


@pytest.mark.parametrize("schedule", [0, -1, float("nan")])
def test_a_bad_interval_is_refused(schedule: float) -> None:
    with pytest.raises(RegistrationError, match="is no interval"):
        Daebus("app").background("task", schedule)


def test_a_task_with_parameters_is_refused(service_name: str) -> None:
    app = Daebus("app")
    app.background("task", 1)(lambda needed: None)

    with pytest.raises(RegistrationError, match="0 parameters at most"):
        app.start(service_name)


def test_a_task_broadcasts_to_its_services_server(
    start: Start, url: str, service_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = Daebus("app", url=url)
    app.background("tick", 0.05)(lambda: broadcast.send(service_name + ".ticks", "tick"))
    monkeypatch.setenv("DAEBUS_URL", "redis://127.0.0.1:1")

    with Subscriber(url, service_name + ".ticks") as subscriber:
        start(app)
        assert subscriber.next() == "tick"
    broadcast.close()


def test_a_thread_is_started_again_when_it_raises(start: Start) -> None:
    app, starts = Daebus("app"), []

    @app.thread("fragile")
    def fragile(goes_on: Callable[[], bool]) -> None:
        starts.append(1)
        if len(starts) < 3:
            raise RuntimeError("on purpose")
        eventually(lambda: not goes_on(), timeout_s=30)

    start(app)

    eventually(lambda: len(starts) == 3)


def test_a_thread_that_returns_is_done(start: Start) -> None:
    app, runs = Daebus("app"), []
    app.thread("once")(lambda: runs.append(app.is_running()))

    start(app)
    app.stop()

    assert runs == [True]
    assert not app.is_running()
