"""Traces that go through a pipeline, in the headers of its records."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import get_current_span

from daebus import DaebusCaller
from fixtures import traced_handlers
from fixtures.kafka import mock_cluster
from fixtures.processes import Processes
from fixtures.queues import drain, fill
from fixtures.spans import Seen, Spans
from fixtures.waiting import eventually
from turbo_queue import Queue, SettingsError
from turbo_queue.connectors import IterableSource, QueueSink, QueueSource
from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.pipeline import ExitCode, Pipeline, Record
from turbo_queue.spans import context_of

#: Spans somewhere else.
PARENTS = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]


@pytest.fixture
def results(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "results", codec="record")


@pytest.fixture
def run(tmp_path: Path, results: Queue) -> Callable[..., Any]:
    """Run a pipeline over records to their end; gives the results."""

    def run_pipeline(events: list[Record], work: Any, **settings: Any) -> list[Record]:
        source = Queue(tmp_path / "source", codec="record")
        fill(source, events)
        source.close()
        chosen = {"processes": 1, "folder": tmp_path / "orders", "retry_pause": 0.0, **settings}
        pipeline = Pipeline(QueueSource(source), work, QueueSink(results), **chosen)
        assert pipeline.run(progress=False).exit_code is ExitCode.OK
        return drain(results)

    return run_pipeline


def records(*parents: str) -> list[Record]:
    return [
        Record({"number": 1}, headers=(("traceparent", parent.encode()), ("shop", b"berlin")))
        for parent in parents
    ]


def sender_in(headers: Iterable[tuple[str, Any]]) -> str:
    """Which span some headers say that they come from; they say it once."""
    (parent,) = (value for name, value in headers if name == "traceparent")
    return parent.decode()[:52]


def sender(span: Seen) -> str:
    """How headers say that they come from a span; what follows depends on the sampling."""
    return f"00-{span.trace_id[2:]}-{span.id[2:]}"


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_the_work_on_an_event_belongs_to_its_trace(
    run: Callable[..., Any], spans: Spans, start_method: str
) -> None:
    work = traced_handlers.pack

    (result,) = run(records(PARENTS[0]), work, traces=True, start_method=start_method)

    outer, inner = spans.wait_for(2)
    assert (outer.kind, outer.name, inner.name) == ("CONSUMER", "process orders", "pack")
    assert f"00-{outer.trace_id[2:]}-{str(outer.parent_id)[2:]}-01" == PARENTS[0]
    assert inner.parent_id == outer.id
    assert outer.pid != os.getpid()
    assert sender_in(result.headers) == sender(outer)
    assert dict(result.headers)["shop"] == b"berlin"


def test_without_traces_the_headers_go_on_as_they_are(
    run: Callable[..., Any], spans: Spans
) -> None:
    event = records(PARENTS[0])[0]

    (result,) = run([event], traced_handlers.pack)

    assert result.headers == event.headers
    assert [span.name for span in spans.wait_for(0)] == []


def test_each_try_of_an_event_has_a_span_in_its_trace(
    run: Callable[..., Any], spans: Spans, tmp_path: Path
) -> None:
    event = records(PARENTS[0])[0].replace(value=str(tmp_path / "mark"))

    run([event], traced_handlers.fails_once, records=True, traces=True)

    first, second = spans.wait_for(2)
    assert (first.status, second.status) == ("ERROR", "UNSET")
    assert first.exceptions == ["ConnectionError"]
    assert first.parent_id == second.parent_id == f"0x{PARENTS[0][36:52]}"


def test_a_result_that_brings_a_trace_keeps_it(run: Callable[..., Any], spans: Spans) -> None:
    (result,) = run(
        records(PARENTS[0]), traced_handlers.of_another_trace, records=True, traces=True
    )

    assert result.headers == traced_handlers.ANOTHER_TRACE


def test_a_batch_has_one_span_with_links_to_its_events(
    run: Callable[..., Any], spans: Spans
) -> None:
    results = run(records(*PARENTS), traced_handlers.pack_all, batched=True, traces=True)

    outer, _, _ = spans.wait_for(3)
    assert outer.attributes["messaging.batch.message_count"] == 2
    assert (outer.parent_id, outer.links) == (None, [f"0x{each[36:52]}" for each in PARENTS])
    assert [sender_in(result.headers) for result in results] == [sender(outer)] * 2


def test_headers_that_are_nonsense_begin_a_new_trace(run: Callable[..., Any], spans: Spans) -> None:
    headers = (("traceparent", b"\xff\0"), ("baggage", 3), ("tracestate", None))

    run([Record({}, headers=headers)], traced_handlers.pack, traces=True)

    outer, inner = spans.wait_for(2)
    assert (outer.parent_id, inner.parent_id) == (None, outer.id)


def test_a_header_that_is_too_long_for_a_trace_is_not_shown_to_the_api_which_would_log_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    headers = (("baggage", b"a=1," * 5000), ("traceparent", PARENTS[0].encode()))

    context = context_of(Record({}, headers=headers))

    assert get_current_span(context).get_span_context().is_valid
    assert caplog.records == []


def test_a_file_may_ask_for_traces(tmp_path: Path) -> None:
    file = tmp_path / "orders.toml"
    tables = (
        '[pipeline]\nwork = "json:dumps"\ntraces = %s\n[source]\ntype = "json-lines"\n'
        'path = "in"\n[sink]\ntype = "json-lines"\npath = "out"\n'
    )

    file.write_text(tables % "true")
    assert Pipeline.from_toml(file)._plan.traces
    file.write_text(tables % '"maybe"')
    with pytest.raises(SettingsError, match="traces is 'maybe'; it must be true or false"):
        Pipeline.from_toml(file)


def test_the_environment_may_ask_for_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Pipeline:
        return Pipeline(IterableSource([]), str, QueueSink("results"))

    monkeypatch.setenv("TURBO_QUEUE_TRACES", "1")
    assert make()._plan.traces
    monkeypatch.setenv("TURBO_QUEUE_TRACES", "maybe")
    with pytest.raises(SettingsError, match="traces is 'maybe'; it must be true or false"):
        make()


def test_the_trace_goes_from_topic_to_topic(tmp_path: Path, spans: Spans) -> None:
    with mock_cluster() as cluster:
        incoming, outgoing = cluster.topic(), cluster.topic()
        cluster.put(incoming, ['{"number": 1}'], headers=[("traceparent", PARENTS[0])])
        pipeline = Pipeline(
            KafkaSource(
                incoming, group="packing", bootstrap_servers=cluster.bootstrap, format="json"
            ),
            traced_handlers.pack,
            KafkaSink(outgoing, bootstrap_servers=cluster.bootstrap, format="json"),
            folder=tmp_path / "kafka",
            processes=1,
            start_method="spawn",  # A fork may find librdkafka's locks held by this test's clients.
            traces=True,
        )

        with ThreadPoolExecutor(1) as running:
            ended = running.submit(pipeline.run)
            try:
                eventually(lambda: cluster.messages(outgoing) or ended.done(), 30)
            finally:
                pipeline.stop()
        (message,) = cluster.messages(outgoing)
    outer = spans.one("CONSUMER")
    assert str(outer.parent_id)[2:] in PARENTS[0]
    assert sender_in(message.headers()) == sender(outer)


def test_caller_service_process_and_pipeline_are_one_trace(
    url: str,
    service_name: str,
    spans: Spans,
    processes: Processes,
    tmp_path: Path,
    results: Queue,
) -> None:
    orders = Queue(tmp_path / "orders", codec="record")
    orders.consumer().close()  # It is there before the pipeline asks for it.
    service = processes.python(SERVICE, service_name, env={"DAEBUS_TRACES": "1"})
    packing = processes.python(PIPELINE, str(orders.path), str(results.path))
    service.wait_for("is ready")

    with DaebusCaller(service_name, url, traces=True) as caller:
        pid = caller.call("order", {"folder": str(orders.path), "number": 1})
    (result,) = results.consumer().take(timeout=20)
    orders.close()
    assert packing.wait() == 0
    service.signal(signal.SIGTERM)
    assert service.wait() == 0

    assert spans.tree(4, service_name) == [
        "CLIENT svc/order",
        "  SERVER svc/order",
        "    CONSUMER process packing",
        "      INTERNAL pack",
    ]
    seen = {span.kind: span for span in spans.all()}
    assert seen["SERVER"].pid == pid
    assert len({span.pid for span in seen.values()} | {service.pid, packing.pid}) == 5
    assert result.value == {"number": 1, "packed": 1}
    assert sender_in(result.headers) == sender(seen["CONSUMER"])


SERVICE = """
    import sys
    sys.path.insert(0, "tests")
    from daebus import Daebus
    from fixtures import traced_handlers

    if __name__ == "__main__":
        app = Daebus("app", processes=1)
        app.action("order", workers="process")(traced_handlers.order)
        app.run(sys.argv[1])
    """

PIPELINE = """
    import sys
    sys.path.insert(0, "tests")
    from fixtures import traced_handlers
    from turbo_queue import Queue
    from turbo_queue.connectors import QueueSink, QueueSource
    from turbo_queue.pipeline import Pipeline

    if __name__ == "__main__":
        orders, results = (Queue(folder, codec="record") for folder in sys.argv[1:])
        folder = orders.path.parent / "packing"
        Pipeline(QueueSource(orders), traced_handlers.pack, QueueSink(results), folder=folder,
                 processes=1, traces=True).run()
    """
