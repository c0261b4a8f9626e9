"""What a running pipeline tells on its port: what it has done, and whether it gets on."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fixtures import pipelines
from fixtures.pipelines import LinesSink
from fixtures.queues import fill
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
        matches = map(_URL.search, self._caplog.messages)
        return next((match[0] for match in matches if match), None)

    def get(self, page: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"{self.url}/{page}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        """Each sample by its name and the values of its labels."""
        status, text = self.get("metrics")
        assert status == 200
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def stop(self) -> Outcome:
        self.pipeline.stop()
        return self.wait()

    def wait(self) -> Outcome:
        self._thread.join(20)
        return self.outcomes[0]


_URL = re.compile(r"http://[\d.:]+")


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

    name = "turbo_queue_pipeline_events_{}_total orders".format
    eventually(lambda: pipeline.metrics()[name("written")] == 999)
    eventually(lambda: pipeline.metrics()[name("dead")] == 1)
    seen = pipeline.metrics()
    counts = pipeline.stop().counts

    assert {what: seen[name(what)] for what in ("read", "handled", "written", "retried")} == {
        "read": counts.read,
        "handled": counts.handled,
        "written": counts.written,
        "retried": counts.retried,
    }
    assert (counts.handled, counts.written, counts.retried, counts.dead) == (1_000, 999, 1, 1)
    assert seen["turbo_queue_events orders/dead ready"] == 1
    assert seen[f"turbo_queue_events_out_total {queue.path}"] == 1_000
    assert seen["turbo_queue_pipeline_processes orders worker"] == 2
    assert seen["process_resident_memory_bytes"] > 0


def test_it_is_ready_while_it_works_though_there_is_nothing_to_do(run, queue: Queue) -> None:
    pipeline = run(QueueSource(queue))

    eventually(lambda: pipeline.get("ready") == (200, "ok\n"))
    assert pipeline.get("live") == (200, "ok\n")
    assert pipeline.metrics()["turbo_queue_pipeline_ready orders"] == 1


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
    assert pipeline.metrics()["turbo_queue_pipeline_processes orders worker"] == 1
    gate.touch()
    eventually(lambda: pipeline.get("ready")[0] == 200)
    assert pipeline.metrics()["turbo_queue_pipeline_restarts_total orders"] == 1


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
