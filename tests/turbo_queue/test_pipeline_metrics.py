"""What a running pipeline tells on its port: what it has done, and whether it gets on."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from fixtures import pipelines
from fixtures.pipelines import LinesSink
from fixtures.queues import fill
from fixtures.status import get, metric, scraped, url_in, value
from fixtures.waiting import eventually
from turbo_queue import Queue, SettingsError
from turbo_queue.connectors import IterableSource, QueueSource, Sink, Source
from turbo_queue.errors import PipelineFailed
from turbo_queue.pipeline import Outcome, Pipeline


class Running:
    """A pipeline that runs in a thread, with its port open."""

    def __init__(self, source: Source, sink: Sink, folder: Path, caplog, **more) -> None:
        self.pipeline = Pipeline(
            source,
            more.pop("work", pipelines.same),
            sink,
            folder=folder,
            retry_pause=0.0,
            metrics_port=0,
            **{"processes": 2, **more},
        )
        self.outcomes: list[Outcome] = []
        self._caplog = caplog
        self._thread = threading.Thread(target=lambda: self.outcomes.append(self.pipeline.run()))
        self._thread.start()

    @property
    def url(self) -> str | None:
        return url_in(self._caplog.text)

    def get(self, page: str) -> tuple[int, str]:
        return get(str(self.url), page)

    def metric(self, name: str, **labels: str) -> float:
        return metric(str(self.url), f"turbo_queue_pipeline_{name}", **labels)

    def stop(self) -> Outcome:
        self.pipeline.stop()
        return self.wait()

    def wait(self) -> Outcome:
        self._thread.join(20)
        return self.outcomes[0]


@pytest.fixture
def run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []
    caplog.set_level(logging.INFO)

    def start(source: Source, sink: Sink | None = None, **more) -> Running:
        sink = sink or LinesSink(tmp_path / "lines")
        running.append(Running(source, sink, tmp_path / "orders", caplog, **more))
        eventually(lambda: running[-1].url)
        return running[-1]

    yield start
    for one in running:
        one.stop()


def test_the_metrics_are_what_its_outcome_is(run, queue: Queue) -> None:
    fill(queue, range(1_000))
    pipeline = run(QueueSource(queue), work=pipelines.fails_at_13, attempts=2)

    eventually(lambda: pipeline.metric("events_written_total") == 999)
    eventually(lambda: pipeline.metric("events_dead_total") == 1)
    seen = scraped(str(pipeline.url))
    counts = pipeline.stop().counts

    for name in ("read", "handled", "written", "retried", "dead"):
        assert value(seen, f"turbo_queue_pipeline_events_{name}_total") == getattr(counts, name)
    assert (counts.handled, counts.written, counts.retried, counts.dead) == (1_000, 999, 1, 1)
    assert value(seen, "turbo_queue_events", queue="orders/dead", state="ready") == 1
    assert value(seen, "turbo_queue_events_out_total", queue=str(queue.path)) == 1_000
    assert value(seen, "turbo_queue_pipeline_processes", role="worker", pipeline="orders") == 2
    assert value(seen, "process_resident_memory_bytes") > 0


@pytest.mark.parametrize("state", ["idle", "full"])
def test_it_stays_ready_while_there_is_nothing_to_do_and_while_its_queue_is_full(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr("turbo_queue.pipeline.condition.SILENT_S", 1.5)
    gate = tmp_path / "gate"
    if state == "idle":
        pipeline = run(pipelines.IdleSource())
    else:
        more = {"batch_events": 10, "max_ready_files": 1, "grace": 1.0}
        pipeline = run(pipelines.EndlessSource(), work=pipelines.Blocked(gate), **more)
        eventually(lambda: pipeline.metric("events_read_total") > 10)
    eventually(lambda: pipeline.get("ready") == (200, "ok\n"))
    end = monotonic() + 2.5

    seen = set()
    eventually(lambda: seen.add(pipeline.get("ready")) or monotonic() > end)
    assert seen == {(200, "ok\n")}
    assert pipeline.get("live") == (200, "ok\n")
    assert pipeline.metric("ready") == 1
    gate.touch()


def test_a_sink_that_takes_nothing_makes_it_unready_and_not_dead(
    run, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turbo_queue.pipeline.condition.SILENT_S", 2.0)
    broken = tmp_path / "broken"
    broken.touch()
    pipeline = run(QueueSource(queue), sink=pipelines.BreakableSink(broken))
    eventually(lambda: pipeline.get("ready")[0] == 200)
    fill(queue, range(10))

    eventually(lambda: "the writer has been silent for" in pipeline.get("ready")[1])
    assert pipeline.get("live") == (200, "ok\n")
    broken.unlink()
    eventually(lambda: pipeline.get("ready")[0] == 200, 20)


def test_a_source_that_cannot_be_committed_makes_it_unready(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turbo_queue.pipeline.condition.SILENT_S", 2.0)
    broken = tmp_path / "broken"
    pipeline = run(pipelines.UncommittedSource(broken), batch_events=10)
    eventually(lambda: pipeline.get("ready")[0] == 200)

    broken.touch()
    eventually(lambda: "the reader has been silent for" in pipeline.get("ready")[1])
    end = monotonic() + 2.0
    seen = set()
    eventually(lambda: seen.add(pipeline.get("ready")[0]) or monotonic() > end)
    assert seen == {503}, "it reads on and on, and that is not enough"
    broken.unlink()
    eventually(lambda: pipeline.get("ready")[0] == 200, 20)


def test_a_worker_that_is_gone_makes_it_unready_until_another_can_work(
    run, queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = tmp_path / "gate"
    monkeypatch.setenv("GATE", str(gate))
    gate.touch()
    pipeline = run(QueueSource(queue), work=pipelines.SlowToBegin)
    eventually(lambda: pipeline.get("ready")[0] == 200)
    gate.unlink()
    os.kill(queue.stats().consumers[0], signal.SIGKILL)

    unready = (503, "1 of 2 worker processes is ready\n")
    eventually(lambda: pipeline.get("ready") == unready)
    assert pipeline.metric("processes", role="worker") == 1
    gate.touch()
    eventually(lambda: pipeline.get("ready")[0] == 200)
    assert pipeline.metric("restarts_total") == 1


def test_it_is_not_ready_before_the_sink_is_open_nor_while_it_stops(
    run, queue: Queue, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    pipeline = run(
        QueueSource(queue), work=pipelines.Blocked(gate), sink=pipelines.SlowToOpen(gate)
    )

    eventually(lambda: pipeline.get("ready") == (503, "starting\n"))
    assert pipeline.get("live") == (200, "ok\n")
    gate.touch()
    eventually(lambda: pipeline.get("ready")[0] == 200)
    gate.unlink()
    fill(queue, [2])
    eventually(lambda: queue.stats().chosen.batches == 1)
    pipeline.pipeline.stop()
    eventually(lambda: pipeline.get("ready") == (503, "stopping\n"))
    gate.touch()
    assert pipeline.wait().counts.handled == 1


def test_a_supervisor_that_is_stuck_is_not_live(
    run, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = run(QueueSource(queue))
    eventually(lambda: pipeline.get("ready")[0] == 200)
    assert pipeline.get("live")[0] == 200
    # It looks after its processes twice a second, so that now it always seems to be late.
    monkeypatch.setattr("turbo_queue.pipeline.condition.STUCK_S", 0.0)

    stuck = "the supervisor has been stuck for"
    assert all(stuck in pipeline.get(page)[1] for page in ("live", "ready"))
    assert pipeline.get("live")[0] == 503


def test_a_port_in_use_keeps_it_from_starting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        pipeline = Pipeline(
            IterableSource([1]),
            pipelines.same,
            LinesSink(tmp_path / "lines"),
            folder=tmp_path / "orders",
            metrics_port=number,
        )

        with pytest.raises(PipelineFailed, match=f"the metrics port {number} at '127.0.0.1'"):
            pipeline.run(progress=False)
    assert not (tmp_path / "lines").exists()


@pytest.mark.parametrize("port", [-1, 65_536, True, "http", 1.5])
def test_what_is_no_port_is_refused(port, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TURBO_QUEUE_METRICS_PORT", str(port))
    sink = LinesSink(tmp_path / "lines")

    for given in (port, None):
        with pytest.raises(SettingsError, match="metrics_port is .*; it must be a number from 0"):
            Pipeline(IterableSource([1]), pipelines.same, sink, metrics_port=given)
