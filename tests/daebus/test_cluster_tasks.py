"""Background tasks with scope="cluster": each due time is run once, whoever is there."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import redis

from daebus import Daebus, Lease, RegistrationError
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.link import Link
from daebus.channels import task_key
from daebus.logs import Incidents
from daebus.service.cluster_tasks import ClusterTasks
from daebus.service.periodic import _last_due, checked
from daebus.service.registry import Background
from fixtures.waiting import eventually

Replicas = Callable[..., list[Daebus]]


@pytest.fixture
def replicas(url: str, service_name: str) -> Iterator[Replicas]:
    """Start several replicas, each made by a function that is given its number."""
    apps: list[Daebus] = []

    def start(number: int, set_up: Callable[[Daebus, int], object], **settings: object) -> object:
        started = []
        for each in range(number):
            app = Daebus("app", **{"lease": 0.5, **settings})
            set_up(app, each)
            app.start(service_name)
            started.append(app)
        apps.extend(started)
        return started

    yield start
    for app in apps:
        app.stop()


@pytest.fixture
def state(url: str) -> Iterator[redis.Redis]:
    """What the server remembers of the tasks."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


def test_each_due_time_is_run_once_among_all_replicas(
    replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    runs: list[tuple[str, int]] = []
    key = task_key(service_name, "tick")

    def set_up(app: Daebus, _number: int) -> None:
        @app.background("tick", 0.1, scope="cluster")
        def tick(lease: Lease) -> None:
            runs.append((state.hget(key, "slot"), lease.token))
            assert lease.is_held()

    replicas(3, set_up)
    eventually(lambda: len(runs) >= 10)

    slots, tokens = zip(*runs[:10], strict=True)
    assert len(set(slots)) == 10
    assert list(tokens) == sorted(set(tokens))
    assert all(int(slot) % 100_000 == 0 for slot in slots)
    passed = (int(slots[-1]) - int(slots[0])) / 100_000
    assert passed <= 30, "due times were left out"


def test_a_function_without_a_parameter_gets_no_lease(replicas: Replicas) -> None:
    runs: list[int] = []

    replicas(
        1, lambda app, _: app.background("tick", 0.05, scope="cluster")(lambda: runs.append(1))
    )

    eventually(lambda: len(runs) >= 3)


def test_a_run_is_left_out_while_the_last_one_is_under_way_elsewhere(replicas: Replicas) -> None:
    running: Counter[int] = Counter()
    release = threading.Event()

    def set_up(app: Daebus, number: int) -> None:
        @app.background("slow", 0.05, scope="cluster")
        def slow() -> None:
            running[number] += 1
            # Longer than the lease, which is renewed meanwhile.
            release.wait(10)

    replicas(3, set_up)
    eventually(lambda: running.total() == 1)

    assert not release.wait(0.8)
    assert running.total() == 1
    release.set()
    eventually(lambda: running.total() > 1)


def test_runs_may_overlap_where_that_is_allowed(replicas: Replicas) -> None:
    tokens: list[Lease] = []
    release = threading.Event()

    def set_up(app: Daebus, _number: int) -> None:
        @app.background("slow", 0.05, scope="cluster", overlap="allow")
        def slow(lease: Lease) -> None:
            tokens.append(lease)
            release.wait(10)

    replicas(1, set_up)

    eventually(lambda: len(tokens) >= 3)
    assert all(lease.is_held() for lease in tokens)
    release.set()


SCHEDULES = [3600, "0 0 1 1 *"]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_missed_run_is_run_once_as_soon_as_replicas_start(
    schedule: float | str, replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    runs: list[int] = []
    state.hset(task_key(service_name, "tidy"), mapping={"slot": 1, "token": 5})

    def set_up(app: Daebus, number: int) -> None:
        task = app.background("tidy", schedule, scope="cluster", misfire="run")
        task(lambda: runs.append(number))

    apps = replicas(3, set_up)
    eventually(lambda: runs)
    for app in apps:
        app.stop()

    assert len(runs) == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("misfire", ["run", "skip"])
def test_a_task_that_never_ran_or_may_be_skipped_is_not_run_at_the_start(
    schedule: float | str, misfire: str, replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    runs: list[int] = []
    if misfire == "skip":
        state.hset(task_key(service_name, "tidy"), "slot", 1)

    def set_up(app: Daebus, _number: int) -> None:
        app.background("other", 0.02, scope="cluster")(lambda: runs.append(2))
        task = app.background("tidy", schedule, scope="cluster", misfire=misfire)
        task(lambda: runs.append(1))

    (app,) = replicas(1, set_up)
    eventually(lambda: len(runs) > 5)
    app.stop()

    assert 1 not in runs


def test_a_schedule_that_is_changed_goes_on(
    replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    runs: list[float] = []

    def set_up(interval: float) -> Callable[[Daebus, int], object]:
        return lambda app, _: app.background("tick", interval, scope="cluster")(
            lambda: runs.append(interval)
        )

    (app,) = replicas(1, set_up(0.01))
    eventually(lambda: len(runs) > 3)
    app.stop()
    replicas(1, set_up(0.2))

    eventually(lambda: runs.count(0.2) == 2)


def test_the_number_of_a_run_grows_also_when_the_server_has_lost_everything(
    own_server: EmbeddedServer, replicas: Replicas
) -> None:
    tokens: list[int] = []

    def set_up(app: Daebus, _number: int) -> None:
        @app.background("tick", 0.05, scope="cluster")
        def tick(lease: Lease) -> None:
            tokens.append(lease.token)

    replicas(1, set_up, url=own_server.url)
    eventually(lambda: len(tokens) >= 3)
    with redis.Redis.from_url(own_server.url) as client:
        client.flushall()
    before = len(tokens)
    eventually(lambda: len(tokens) >= before + 3)

    assert tokens == sorted(set(tokens))


def test_a_server_clock_that_was_set_back_stops_no_task(
    replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    runs: list[int] = []
    tomorrow_us = int((datetime.now(UTC).timestamp() + 86_400) * 1e6)
    state.hset(task_key(service_name, "tick"), mapping={"slot": tomorrow_us, "until": tomorrow_us})

    replicas(
        1, lambda app, _: app.background("tick", 0.05, scope="cluster")(lambda: runs.append(1))
    )

    eventually(lambda: len(runs) >= 3)


def test_a_run_is_left_out_and_told_once_while_the_server_is_away(
    own_server: EmbeddedServer, replicas: Replicas, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[int] = []
    task = "tick"

    def set_up(app: Daebus, _number: int) -> None:
        app.background(task, 0.05, scope="cluster")(lambda: runs.append(1))

    (app,) = replicas(1, set_up, url=own_server.url)
    eventually(lambda: len(runs) >= 2)
    own_server.kill()
    with caplog.at_level(logging.WARNING, logger="daebus"):
        eventually(lambda: app.stats().incidents.get("run_left_out", 0) >= 3)
        told = [record for record in caplog.records if "was left out" in record.getMessage()]
        assert len(told) == 1
        own_server.start()
        before = len(runs)

        eventually(lambda: len(runs) >= before + 2)


def test_what_each_task_did_last_is_in_the_stats(replicas: Replicas) -> None:
    def set_up(app: Daebus, _number: int) -> None:
        app.background("fine", 0.05)(lambda: None)

        @app.background("wrong", 0.05, scope="cluster")
        def wrong() -> None:
            raise ValueError("no such luck: \udcff")

        @app.background("slow", 0.05)
        def slow() -> None:
            release.wait(10)

    release = threading.Event()
    (app,) = replicas(1, set_up)
    eventually(lambda: len(app.stats().tasks) == 3)
    eventually(lambda: app.stats().tasks["wrong"].error)
    eventually(lambda: app.stats().tasks["fine"].duration_s is not None)

    tasks = app.stats().tasks
    assert tasks["wrong"].error == "ValueError: no such luck: \\udcff"
    assert tasks["fine"].error is None
    assert tasks["slow"].duration_s is None
    assert abs(tasks["slow"].started_at - datetime.now(UTC).timestamp()) < 10
    release.set()


def test_a_run_whose_turn_comes_too_late_is_left_out(
    own_server: EmbeddedServer, service_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    link, incidents = Link(own_server.url, "test"), Incidents(logging.getLogger("daebus.test"))
    link.start()
    task = Background("tick", 60, lambda: None, scope="cluster")
    tasks = ClusterTasks(service_name, "replica", 0.1, link=link, incidents=incidents)

    with redis.Redis.from_url(own_server.url) as client:
        client.client_pause(300)
        turn = tasks.take(task, 0, is_missed=False)

    assert turn is None
    assert "the server's answer took more than 0.1 s" in caplog.text
    link.close()


def test_the_server_remembers_how_the_last_run_went(
    replicas: Replicas, service_name: str, state: redis.Redis
) -> None:
    def set_up(app: Daebus, _number: int) -> None:
        @app.background("wrong", 0.1, scope="cluster")
        def wrong() -> None:
            raise ValueError("no such luck")

    replicas(1, set_up)
    key = task_key(service_name, "wrong")

    eventually(lambda: state.hget(key, "error") == "ValueError: no such luck")


def test_a_machine_whose_clock_is_far_ahead_keeps_no_other_from_running(
    url: str, service_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    link, incidents = Link(url, "test"), Incidents(logging.getLogger("daebus.test"))
    link.start()
    task = Background("nightly", "0 3 * * *", lambda: None, scope="cluster")
    tasks = ClusterTasks(service_name, "replica", 1.0, link=link, incidents=incidents)
    now_us = int(datetime.now(UTC).timestamp() * 1e6)

    ahead = tasks.take(task, now_us + 3_600_000_000, is_missed=False)
    in_time = tasks.take(task, now_us, is_missed=False)

    assert ahead is None
    assert "this machine's clock is 3600 s ahead" in caplog.text
    assert in_time is not None
    link.close()


async def _async() -> None: ...


REFUSED = {
    "1 parameters at most": Background("b", 1, lambda one, two: None, scope="cluster"),
    "0 parameters at most": Background("b", 1, lambda one: None),
    "is an async function": Background("b", 1, _async),
    "needs scope='cluster'": Background("b", 1, lambda: None, misfire="run"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_served_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        checked(REFUSED[text])


@pytest.mark.parametrize(
    ("cron", "due"),
    [
        ("* * * * *", "2026-03-05 12:30"),
        ("0 3 * * *", "2026-03-05 03:00"),
        ("*/7 9 * * *", "2026-03-05 09:56"),
        ("0 13 * * *", "2026-03-04 13:00"),
        ("0 0 29 2 *", "2024-02-29 00:00"),
    ],
)
def test_the_last_due_time_of_a_cron_expression_is_found(cron: str, due: str) -> None:
    trigger, _ = checked(Background("b", cron, lambda: None))
    now = datetime(2026, 3, 5, 12, 30, 15, tzinfo=trigger.timezone)

    found = _last_due(trigger, now)

    assert found is not None
    assert f"{found:%Y-%m-%d %H:%M}" == due
