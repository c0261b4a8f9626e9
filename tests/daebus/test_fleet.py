"""What is running, as data: rates, latencies and what waits, on a real server."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import redis

from daebus import Daebus, DaebusCaller, request
from daebus.bus.connection import client
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import Figures, Replica, encode_replica
from daebus.channels import dead_key, inbox_key, presence_key
from daebus.latency import bucket_of
from daebus.operate.fleet.views import Fleet, ServiceView
from daebus.operate.fleet.watch import FleetWatch
from daebus.service.spool import spool_folder
from fixtures.queues import fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import Queue

#: Requests a second, and how many of 100 fail, and are slow.
PACE, FAILING, SLOW = 200, 10, 4


@pytest.fixture
def watch(url: str, tmp_path: Path) -> Iterator[FleetWatch]:
    watch = FleetWatch(url, [tmp_path])
    yield watch
    watch.close()


def look_at(watch: FleetWatch, service: str) -> ServiceView | None:
    return next((view for view in watch.look().services if view.service == service), None)


def foreign(url: str, key: str, value: bytes) -> None:
    with client(url) as server:
        server.set(key, value, px=8000)


@dataclass
class Load:
    """What a caller has measured of a known load, and what was seen of it meanwhile."""

    seen: list[ServiceView] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    errors: int = 0

    @property
    def last(self) -> ServiceView:
        return self.seen[-1]

    def quantile_ms(self, percent: int) -> float:
        return statistics.quantiles(self.latencies_ms, n=100)[percent - 1]

    def done(self, future: Future[object], began: float) -> None:
        self.latencies_ms.append((time.monotonic() - began) * 1000)
        self.errors += future.exception() is not None


@pytest.fixture(scope="module")
def load(server: EmbeddedServer) -> Load:
    """A steady load for so long that the service has said three times how it is."""
    app = Daebus("steady", url=server.url, max_workers=50)

    @app.action("work")
    def work(n: int) -> int:
        pause = threading.Event()
        pause.wait(0.3 if n % 100 < SLOW else 0.03)
        if n % 100 >= 100 - FAILING:
            raise ValueError(n)
        return n

    app.start("steady")
    load, watch = Load(), FleetWatch(server.url, [])
    with DaebusCaller("steady", server.url) as caller:
        began, pause = time.monotonic(), threading.Event()
        for n in range(PACE * 6):
            pause.wait(max(began + n / PACE - time.monotonic(), 0))
            now = time.monotonic()
            future = caller.submit("work", {"n": n}, timeout=10)
            future.add_done_callback(lambda future, now=now: load.done(future, now))
            if n % PACE == PACE - 1:
                load.seen += [view for view in watch.look().services if view.service == "steady"]
    watch.close()
    app.stop()
    return load


def test_rates_are_what_the_caller_sent(load: Load) -> None:
    assert load.last.requests_per_s == pytest.approx(PACE, rel=0.15)
    assert load.last.errors_per_s == pytest.approx(PACE * FAILING / 100, rel=0.5)


def test_rates_stand_between_two_signs_of_life(load: Load) -> None:
    """A replica speaks every 2 s: rates between looks would be 0, and then twice as much."""
    rates = [view.requests_per_s for view in load.seen if view.requests_per_s is not None]

    assert len(rates) >= 3
    assert min(rates[1:]) > PACE * 0.7
    assert max(rates[1:]) < PACE * 1.3


def test_there_are_no_rates_at_the_first_look(load: Load) -> None:
    first = load.seen[0]

    assert (first.requests_per_s, first.errors_per_s, first.p50_ms) == (None, None, None)


def test_latencies_are_in_the_bucket_of_what_the_caller_measured(load: Load) -> None:
    assert load.last.p50_ms is not None
    assert load.last.p99_ms is not None

    assert bucket_of(load.last.p50_ms / 1000) == bucket_of(load.quantile_ms(50) / 1000)
    assert bucket_of(load.last.p99_ms / 1000) == bucket_of(load.quantile_ms(99) / 1000)


def test_an_action_has_the_figures_of_its_service(load: Load) -> None:
    (action,) = [action for action in load.last.actions if action.name == "work"]

    assert action.requests_per_s == pytest.approx(load.last.requests_per_s, rel=0.01)
    assert action.p50_ms == pytest.approx(load.last.p50_ms, rel=0.01)
    assert action.handled == load.last.handled


def test_a_replica_has_its_figures_and_its_readiness(load: Load) -> None:
    (replica,) = load.last.replicas

    assert replica.is_ready
    assert replica.troubles == []
    assert replica.requests_per_s == load.last.requests_per_s
    assert 3 < replica.uptime_s < 20
    assert replica.age_s < 3


def test_a_replica_that_began_anew_has_no_negative_rates(url: str, watch: FleetWatch) -> None:
    def say(handled: int) -> None:
        replica = Replica(
            service="anew", replica_id="1", host="h", pid=1, version="1", started_at=time.time(),
            handled=handled, figures={"f": Figures(handled=handled, latency=[handled])},
        )  # fmt: skip
        foreign(url, presence_key("anew", "1"), encode_replica(replica))

    say(1000)
    assert look_at(watch, "anew")
    threading.Event().wait(0.6)  # Longer than what counts as one moment.
    say(6)
    view = look_at(watch, "anew")

    assert view is not None
    assert view.requests_per_s is not None
    assert 6 / 2 < view.requests_per_s < 6 / 0.5
    assert view.actions[0].requests_per_s == view.requests_per_s


def test_what_waits_is_counted_where_it_waits(
    start: Callable[[Daebus], DaebusCaller], watch: FleetWatch, service_name: str
) -> None:
    app, go_on = Daebus("x", max_workers=1), threading.Event()
    app.action("wait")(lambda: go_on.wait(20))
    caller = start(app)
    futures = [caller.submit("wait") for _ in range(5)]

    def waits() -> bool:
        view = look_at(watch, service_name)
        return view is not None and (view.in_progress, view.backlog) == (1, 4)

    eventually(waits)
    go_on.set()
    assert all(future.result() for future in futures)


def test_an_inbox_counts_what_nobody_has_taken_also_when_nobody_lives(
    url: str, watch: FleetWatch, service_name: str
) -> None:
    app = Daebus("x", delivery="stream")
    app.action("count")(lambda: None)
    app.start(service_name)
    app.stop()
    with DaebusCaller(service_name, url) as caller:
        for _ in range(3):
            caller.send_message("count")

    view = look_at(watch, service_name)

    assert view is not None
    assert (view.replicas, view.waiting_in_inbox, view.delivery) == ([], 3, "stream")


def test_dead_letters_are_those_of_the_server_and_of_the_disk(
    url: str, service_name: str, tmp_path: Path
) -> None:
    with client(url) as server:
        server.xadd(inbox_key(service_name), {"data": "{}"})
        server.xadd(dead_key(service_name), {"data": "{}"})
    work = Queue(spool_folder(tmp_path, service_name, url) / "0" / "work", max_failures=1)
    fill_in_batches(work, [1])
    with pytest.raises(ZeroDivisionError), work.consumer() as consumer:
        for event in consumer:
            event // 0
    watch = FleetWatch(url, [], tmp_path)

    view = look_at(watch, service_name)

    assert view is not None
    assert view.dead_letters == 2
    watch.close()


def test_a_service_that_has_gone_is_shown_without_replicas(
    start: Callable[[Daebus], DaebusCaller], watch: FleetWatch, service_name: str
) -> None:
    app = Daebus("x")
    start(app)
    eventually(lambda: look_at(watch, service_name))

    app.stop()

    eventually(lambda: (view := look_at(watch, service_name)) is not None and not view.replicas)
    view = look_at(watch, service_name)
    assert view is not None
    assert view.requests_per_s is None


def test_channels_stand_beside_actions(
    start: Callable[[Daebus], DaebusCaller], watch: FleetWatch, service_name: str
) -> None:
    app = Daebus("x")
    app.action("both")(lambda: None)
    app.listen("both")(lambda _: request.channel)
    start(app)

    view = look_at(watch, service_name)

    assert view is not None
    assert [(action.name, action.is_channel) for action in view.actions] == [
        ("both", False),
        ("both", True),
    ]


def test_a_server_that_goes_is_a_trouble_until_it_is_back(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    app = Daebus("stays", url=own_server.url)
    app.start()
    watch = FleetWatch(own_server.url, [tmp_path])
    eventually(lambda: [view.service for view in watch.look().services] == ["stays"])

    own_server.stop()
    away = watch.look()
    own_server.start()

    assert away.trouble is not None
    assert "cannot use the server" in away.trouble
    assert [view.service for view in away.services] == ["stays"]
    eventually(lambda: watch.look().trouble is None)
    eventually(lambda: watch.look().services[0].replicas)
    watch.close()
    app.stop()


def test_the_password_is_not_shown() -> None:
    fleet = FleetWatch("redis://me:secret@localhost:1", []).look()

    assert fleet.address == "redis://me:***@localhost:1"
    assert "secret" not in msgspec.json.encode(fleet).decode()


ANOTHER = Replica(service="another", replica_id="3", host="h", pid=1, version="1", started_at=1.0)


@pytest.mark.parametrize("value", [b"{", b"\xff\xfe", encode_replica(ANOTHER)])
def test_foreign_keys_are_passed_over(url: str, watch: FleetWatch, value: bytes) -> None:
    foreign(url, "daebus:{broken}:replica:1", value)

    assert look_at(watch, "broken") is None
    assert look_at(watch, "another") is None


def test_keys_of_another_type_hide_nobody(own_server: EmbeddedServer) -> None:
    app = Daebus("beside", url=own_server.url)
    app.start()
    with client(own_server.url) as server:
        server.lpush("daebus:{beside}:inbox", "no stream")
        server.set(b"daebus:{\xff}:inbox", "no name")
        server.lpush("daebus:{list}:replica:1", "no string")
    watch = FleetWatch(own_server.url, [])

    (view,) = watch.look().services

    assert (view.service, len(view.replicas), view.waiting_in_inbox) == ("beside", 1, None)
    watch.close()
    app.stop()


def test_a_look_is_one_round_trip_on_one_connection(own_server: EmbeddedServer) -> None:
    apps = [Daebus(f"many{number}", url=own_server.url) for number in range(3)]
    for app in apps:
        app.start()
    watch = FleetWatch(own_server.url, [])
    watch.look()
    with client(own_server.url) as server:
        before = connections(server)
        for _ in range(5):
            assert len(watch.look().services) == 3
        assert connections(server) == before
    watch.close()
    for app in apps:
        app.stop()


def connections(server: redis.Redis) -> int:
    return int(server.info("stats")["total_connections_received"])


def test_a_fleet_is_one_line_of_json_and_back(load: Load) -> None:
    fleet = Fleet(at=1.0, address="redis://localhost", services=load.seen)

    assert msgspec.json.decode(msgspec.json.encode(fleet), type=Fleet) == fleet
