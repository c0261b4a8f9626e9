"""A real Valkey for the session, and a check that no test leaves anything behind."""

from __future__ import annotations

import logging
import os
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daebus import Broadcast, Daebus, DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from daebus.logs import PACKAGES
from daebus.service.context import current
from fixtures import spans as traced
from fixtures.kafka import Cluster, mock_cluster, started_broker
from fixtures.processes import Processes
from fixtures.waiting import eventually
from kafka_broker import KafkaBroker
from turbo_queue import Queue


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The session's own server, on a unix socket."""
    with EmbeddedServer(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the services of this session, also those in other processes, keep files."""
    folder = tmp_path_factory.mktemp("spool")
    os.environ["DAEBUS_SPOOL"] = str(folder)
    return folder


@pytest.fixture
def url(server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the session's server, which is also the default one in this test."""
    monkeypatch.setenv("DAEBUS_URL", server.url)
    return server.url


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that this test may stop, kill and restart."""
    with EmbeddedServer(tmp_path / "server") as running:
        yield running


@pytest.fixture
def service_name() -> str:
    """A name that no other test uses."""
    return f"svc_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start(url: str, service_name: str) -> Iterator[Callable[[Daebus], DaebusCaller]]:
    """Start an app as `service_name` and give a caller of it; both are closed at the end."""
    apps: list[Daebus] = []
    callers: list[DaebusCaller] = []

    def start_app(app: Daebus) -> DaebusCaller:
        app.start(service_name)
        apps.append(app)
        callers.append(DaebusCaller(service_name, url, timeout=10.0))
        return callers[-1]

    yield start_app
    for caller in callers:
        caller.close()
    for app in apps:
        app.stop()


@pytest.fixture
def broadcaster(url: str) -> Iterator[Broadcast]:
    """Publishes to the session's server."""
    broadcaster = Broadcast(url)
    yield broadcaster
    broadcaster.close()


@pytest.fixture(scope="session")
def kafka() -> Iterator[Cluster]:
    """The broker at `KAFKA_BOOTSTRAP`, or else one of the session's own."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP"):
        yield Cluster(bootstrap, is_real=True)
        return
    with started_broker() as broker:
        yield Cluster(broker.bootstrap, is_real=True)


@pytest.fixture(scope="session")
def second_kafka() -> Iterator[KafkaBroker]:
    """The broker of `own_kafka`; one for all tests, because it takes seconds to start."""
    with started_broker() as broker:
        yield broker


@pytest.fixture
def own_kafka(second_kafka: KafkaBroker) -> KafkaBroker:
    """A Kafka broker that this test may stop, kill and restart."""
    if not second_kafka.is_running:
        second_kafka.start()
    return second_kafka


@pytest.fixture(params=["broker", "mock"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """What must hold for a real broker, and for the one inside librdkafka."""
    if request.param == "broker":
        yield request.getfixturevalue("kafka")
        return
    with mock_cluster() as mock:
        yield mock


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts Python programs; all are gone when the test ends, whatever happens."""
    with Processes() as started:
        yield started


@pytest.fixture
def spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> traced.Spans:
    """The spans that end in this test, here and in the processes that it starts."""
    traced.set_up()
    traced.flush()  # What other tests have left.
    path = tmp_path / "spans.jsonl"
    monkeypatch.setenv(traced.VARIABLE, str(path))
    return traced.Spans(path)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    """A queue in a folder of its own."""
    return Queue(tmp_path / "queue")


@pytest.fixture
def seed() -> int:
    """Where random moments begin; a test prints it, so that its failure can be repeated."""
    return int(os.environ.get("TEST_SEED") or random.randrange(1_000_000))


@pytest.fixture
def own_logging() -> Iterator[None]:
    """For what sets up the logging of this process, as commands do: it is as before afterwards."""
    logs = [logging.getLogger(package) for package in PACKAGES]
    before = [(log, log.level, list(log.handlers)) for log in logs]
    yield
    for log, level, handlers in before:
        log.setLevel(level)
        log.handlers = handlers


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread, a message's context or another level of the log behind."""
    before, level = set(threading.enumerate()), logging.getLogger("daebus").level
    yield
    assert logging.getLogger("daebus").level == level, "the log has another level; use own_logging"
    assert current.get() is None, "a message's context is still set"
    if request.node.get_closest_marker("leaves_threads"):
        return

    def left() -> list[str]:
        return [
            thread.name
            for thread in threading.enumerate()
            if thread not in before
            and thread.name.startswith(("daebus", "turbo-queue"))
            and thread.name not in {"daebus-expiry", "daebus-watch"}  # They end by themselves.
        ]

    eventually(lambda: not left(), timeout_s=5.0, what=lambda: f"threads left behind: {left()}")


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers of this suite."""
    config.addinivalue_line("markers", "leaves_threads: a handler of this test never returns")
    os.environ.pop("DAEBUS_URL", None)
    # Else each of the hundreds of programs that are started here compiles every module again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
