"""Pipelines: what comes out, what fails, how they end."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from fixtures import pipelines
from fixtures.pipelines import LinesSink, dead_letters
from fixtures.waiting import eventually
from turbo_queue import Queue, SettingsError
from turbo_queue.connectors import IterableSource, QueueSink, QueueSource, Sink, Source
from turbo_queue.errors import FolderFailed, PipelineFailed
from turbo_queue.pipeline import ExitCode, Outcome, Pipeline, Record
from turbo_queue.pipeline.positions import PositionFile

Make = Callable[..., Pipeline]


@pytest.fixture
def results(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "results", codec="record")


@pytest.fixture
def make(tmp_path: Path, results: Queue) -> Make:
    """Make a pipeline over a list of events, into the queue of results unless said otherwise."""

    def make_pipeline(
        events: Any, work: Any = pipelines.same, sink: Sink | None = None, **settings: Any
    ) -> Pipeline:
        source = events if isinstance(events, Source) else IterableSource(events)
        settings = {"processes": 2, "folder": tmp_path / "folder", "retry_pause": 0.0} | settings
        return Pipeline(source, work, sink or QueueSink(results), **settings)

    return make_pipeline


@pytest.fixture
def started() -> Iterator[Callable[[Pipeline], list[Outcome]]]:
    """Run a pipeline in a thread; gives the list that its outcome will be in."""
    running: list[tuple[Pipeline, threading.Thread]] = []

    def start(pipeline: Pipeline) -> list[Outcome]:
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(pipeline.run()))
        thread.start()
        running.append((pipeline, thread))
        return outcomes

    yield start
    for pipeline, thread in running:
        while thread.is_alive():
            pipeline.stop()
            thread.join(1)


def values(queue: Queue) -> list[Any]:
    return sorted(record.value for record in queue.peek())


# --- what comes out ---


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_each_event_is_worked_on_and_written_once(
    make: Make, tmp_path: Path, start_method: str
) -> None:
    sink = LinesSink(tmp_path / "lines")
    pipeline = make(range(5_000), sink=sink, start_method=start_method)

    outcome = pipeline.run()

    assert sorted(map(int, sink.lines())) == list(range(5_000))
    assert (outcome.counts.read, outcome.counts.written, outcome.counts.dead) == (5_000, 5_000, 0)
    assert outcome.exit_code is ExitCode.OK


def test_an_event_has_no_result_or_one_or_many(make: Make, results: Queue) -> None:
    make(range(4), pipelines.none_one_or_many).run()

    assert values(results) == ["one", "three", "three", "three", "two", "two"]


@pytest.mark.parametrize("value", [0, "", {}, [], False, b""])
def test_falsy_events_are_events(make: Make, results: Queue, value: Any) -> None:
    make([value], lambda event: [event]).run()

    assert [record.value for record in results.peek()] == [value]


def test_key_headers_timestamp_and_origin_go_with_the_result(make: Make, results: Queue) -> None:
    record = Record("a", b"key", (("trace", b"1"), ("trace", b"2")), 1_700_000_000_000, "here")

    make([record], str.upper).run()

    assert list(results.peek()) == [record.replace(value="A")]


def test_a_record_that_the_work_gives_goes_on_as_it_is(make: Make, results: Queue) -> None:
    make(["a"], lambda _: Record("b", key=b"other")).run()

    assert list(results.peek()) == [Record("b", key=b"other")]


def test_work_on_records_sees_all_of_them(make: Make, results: Queue) -> None:
    make([Record("a", key=b"k")], lambda record: record.key.decode(), records=True).run()

    assert values(results) == ["k"]


def test_batched_work_is_given_lists(make: Make, results: Queue) -> None:
    make(range(10), lambda events: [sum(events)], batched=True).run()

    assert sum(values(results)) == sum(range(10))
    assert len(values(results)) < 10


def test_work_may_be_a_class_with_an_object_in_each_process(make: Make, results: Queue) -> None:
    make(range(100), pipelines.Sum).run()

    assert values(results) == list(range(1, 101))


def test_work_may_be_named(make: Make, results: Queue) -> None:
    make(range(3), "fixtures.pipelines:same").run()

    assert values(results) == [0, 1, 2]


def test_a_queue_is_emptied_until_it_is_closed(make: Make, tmp_path: Path, results: Queue) -> None:
    queue = Queue(tmp_path / "source")
    with queue.producer() as producer:
        producer.put_many(range(1_000))
    queue.close()

    outcome = make(QueueSource(queue)).run()

    assert values(results) == list(range(1_000))
    assert outcome.counts.written == 1_000


# --- what fails ---


@pytest.mark.parametrize("is_batched", [False, True])
def test_a_failing_event_is_tried_again_then_dead_and_the_others_go_on(
    make: Make, results: Queue, is_batched: bool
) -> None:
    work = (
        (lambda events: list(map(pipelines.fails_at_13, events)))
        if is_batched
        else pipelines.fails_at_13
    )
    pipeline = make(range(100), work, batched=is_batched, attempts=3)

    outcome = pipeline.run()

    (dead,) = dead_letters(pipeline)
    assert values(results) == [number for number in range(100) if number != 13]
    assert (dead.value, dict(dead.headers)["turbo-queue-error"]) == (13, b"ValueError: it is 13")
    assert (outcome.counts.retried, outcome.counts.dead) == (2, 1)
    assert outcome.exit_code is ExitCode.DEAD_LETTERS


def test_an_event_that_works_at_the_second_try_is_not_dead(
    make: Make, tmp_path: Path, results: Queue
) -> None:
    pipeline = make(range(20), pipelines.FailsOnce(tmp_path))

    outcome = pipeline.run()

    assert values(results) == list(range(20))
    assert (outcome.counts.retried, outcome.counts.dead) == (20, 0)
    assert all(record.headers == () for record in results.peek())


@pytest.mark.parametrize("work", [pipelines.ends_its_process_at_13, pipelines.exits_at_13])
def test_an_event_that_ends_its_process_is_dead_alone(
    make: Make, results: Queue, work: Callable[[int], int]
) -> None:
    pipeline = make(range(100), work)

    outcome = pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [13]
    assert set(values(results)) == set(range(100)) - {13}
    assert outcome.counts.dead == 1


def test_with_one_attempt_too_only_the_event_that_ends_its_process_is_dead(make: Make) -> None:
    pipeline = make(range(100), pipelines.ends_its_process_at_13, attempts=1)

    pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [13]


@pytest.mark.parametrize("is_batched", [False, True])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_whatever_the_work_raises_its_event_fails_alone(
    make: Make, results: Queue, kind: type[BaseException], is_batched: bool
) -> None:
    work = pipelines.Raises(kind)
    pipeline = make(range(20), work.each if is_batched else work, batched=is_batched)

    outcome = pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [13]
    assert values(results) == [number for number in range(20) if number != 13]
    assert outcome.counts.restarts == 0


def test_a_result_that_cannot_be_carried_fails_its_event_alone(make: Make, results: Queue) -> None:
    pipeline = make(range(50), lambda event: object() if event == 13 else event)

    pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [13]
    assert set(values(results)) == set(range(50)) - {13}


def test_an_event_that_no_queue_can_carry_is_dead_as_text(make: Make, results: Queue) -> None:
    pipeline = make([1, 2**64, 2])

    outcome = pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [str(2**64)]
    assert values(results) == [1, 2]
    assert (outcome.counts.read, outcome.exit_code) == (3, ExitCode.DEAD_LETTERS)


def test_a_failing_event_that_no_retry_can_carry_is_dead_as_text(
    make: Make, tmp_path: Path
) -> None:
    pipeline = make(
        QueueSource(closed_queue(tmp_path, "json", 2**64)), pipelines.Raises(ValueError, 2**64)
    )

    pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [str(2**64)]


def test_pickled_events_are_tried_again_as_what_they_are(
    make: Make, tmp_path: Path, results: Queue
) -> None:
    queue = closed_queue(tmp_path, "pickle", Path("some") / "path")

    outcome = make(QueueSource(queue), pipelines.NameOnSecondTry(tmp_path)).run()

    assert values(results) == ["path"]
    assert outcome.counts.retried == 1


def test_dead_letters_that_are_pickles_are_tried_again_as_what_they_are(
    make: Make, tmp_path: Path, results: Queue
) -> None:
    queue = closed_queue(tmp_path, "pickle", Path("some") / "path")
    pipeline = make(QueueSource(queue), pipelines.NameOnSecondTry(tmp_path), attempts=1)
    pipeline.run()

    pipeline.retry_dead()

    assert values(results) == ["path"]


def closed_queue(folder: Path, codec: str, event: Any) -> Queue:
    queue = Queue(folder / "source", codec=codec)
    with queue.producer() as producer:
        producer.put(event)
    queue.close()
    return queue


def test_a_record_with_fields_that_make_no_sense_fails_its_event_alone(
    make: Make, results: Queue
) -> None:
    pipeline = make(range(50), pipelines.stamped_badly_at_13)

    pipeline.run()

    assert [record.value for record in dead_letters(pipeline)] == [13]
    assert set(values(results)) == set(range(50)) - {13}


def test_an_event_that_is_too_large_for_the_queue_is_dead_and_the_others_go_on(
    make: Make, results: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURBO_QUEUE_MAX_EVENT_BYTES", "1000")
    source = IterableSource([1, Record("x" * 2_000, origin="here:2"), 3])
    pipeline = make(source)

    outcome = pipeline.run()

    [letter] = dead_letters(pipeline)
    assert (letter.value[:3], letter.origin) == ("'xx", "here:2")
    assert b"over the limit of 1,000 bytes" in letter.headers[0][1]
    assert (outcome.exit_code, outcome.counts.dead) == (ExitCode.DEAD_LETTERS, 1)
    assert values(results) == [1, 3]


def test_what_the_sink_refuses_is_dead_and_the_others_are_written(
    make: Make, tmp_path: Path
) -> None:
    sink = pipelines.PickySink(tmp_path / "lines")
    pipeline = make(range(100), sink=sink)

    outcome = pipeline.run()

    assert sorted(map(int, sink.lines())) == list(range(0, 100, 2))
    assert sorted(record.value for record in dead_letters(pipeline)) == list(range(1, 100, 2))
    assert outcome.counts.written == 50


def test_a_sink_that_fails_is_written_again_until_it_works(make: Make, tmp_path: Path) -> None:
    sink = pipelines.FlakySink(tmp_path / "lines")

    outcome = make(range(1_000), sink=sink, batch_events=500).run()

    assert sorted(map(int, sink.lines())) == list(range(1_000))
    assert outcome.exit_code is ExitCode.OK


def test_a_damaged_batch_is_counted_and_the_others_are_written(
    make: Make, results: Queue, tmp_path: Path
) -> None:
    for name in ("in", "retry"):
        waiting = Queue(tmp_path / "folder" / name, codec="record")
        with waiting.producer() as producer:
            producer.put(Record(f"in a damaged file of {name}"))
        [file] = waiting.path.glob("ready_*")
        file.write_bytes(file.read_bytes()[:-100])
    pipeline = make([1, 2])

    outcome, again = pipeline.run(), make([3]).run()

    assert (outcome.counts.damaged, outcome.counts.dead) == (2, 0)
    assert outcome.exit_code == ExitCode.DEAD_LETTERS
    assert (again.counts.damaged, again.exit_code) == (0, ExitCode.OK), "those of an earlier run"
    assert values(results) == [1, 2, 3]


def test_dead_letters_can_be_tried_again(make: Make, results: Queue) -> None:
    make([13, 14], pipelines.fails_at_13).run()
    mended = make([13, 14])

    outcome = mended.retry_dead()

    assert values(results) == [13, 14]
    assert dead_letters(mended) == []
    assert outcome.exit_code is ExitCode.OK
    assert outcome.counts.read == 0


def test_workers_rest_while_only_retries_of_a_closed_queue_wait(make: Make, tmp_path: Path) -> None:
    queue = Queue(tmp_path / "source")
    with queue.producer() as producer:
        producer.put(1)
    queue.close()
    before = children_cpu_s()

    outcome = make(QueueSource(queue), pipelines.FailsOnce(tmp_path), retry_pause=2.0).run()

    assert outcome.counts.retried == 1
    assert children_cpu_s() - before < 1.2


def children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_what_the_sink_has_refused_is_not_worked_on_again(make: Make, tmp_path: Path) -> None:
    picky, willing = pipelines.PickySink(tmp_path / "picky"), LinesSink(tmp_path / "willing")
    make([2], pipelines.plus_one, sink=picky).run()
    mended = make([], pipelines.plus_one, sink=willing)

    outcome = mended.retry_dead()

    assert willing.lines() == ["3"]
    assert (outcome.counts.written, dead_letters(mended)) == (1, [])


# --- how they end, and begin again ---


def test_what_is_not_finished_in_time_waits_for_the_next_run(
    make: Make, tmp_path: Path, results: Queue, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    gate = tmp_path / "gate"
    pipeline = make(range(1_000), pipelines.Blocked(gate), batch_events=10, grace=0.5)
    outcomes = started(pipeline)
    eventually(lambda: pipeline_is_full(pipeline))

    pipeline.stop()
    eventually(lambda: outcomes)
    gate.touch()
    again = make(range(1_000), pipelines.Blocked(gate), batch_events=10).run()

    assert outcomes[0].exit_code is ExitCode.FORCED  # Its work never ends.
    assert again.exit_code is ExitCode.OK
    assert sorted(set(values(results))) == list(range(1_000))


def pipeline_is_full(pipeline: Pipeline) -> bool:
    queue = Queue(pipeline.folder / "in", codec="record", max_ready_files=64)
    return queue.path.exists() and queue.is_full


def test_a_stop_lets_what_was_read_be_finished(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    sink = LinesSink(tmp_path / "lines")
    pipeline = make(pipelines.EndlessSource(), sink=sink)
    outcomes = started(pipeline)
    eventually(lambda: len(sink.lines()) > 1_000)

    pipeline.stop()
    eventually(lambda: outcomes)

    written = sorted(map(int, sink.lines()))
    assert written == list(range(len(written)))
    assert outcomes[0].exit_code is ExitCode.OK
    assert outcomes[0].counts.waiting == 0


def test_a_source_that_does_not_stop_leaves_the_sink_its_time(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    source, sink = (
        pipelines.DeafSource(tmp_path / "reading"),
        pipelines.ClosedSink(tmp_path / "end"),
    )
    pipeline = make(source, sink=sink, grace=3)
    outcomes = started(pipeline)
    eventually(source.mark.exists)

    pipeline.stop()
    eventually(lambda: outcomes)

    assert outcomes[0].exit_code is ExitCode.FORCED
    assert sink.lines() == ["closed"]


def test_a_stop_comes_through_while_the_source_is_being_opened(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    source = pipelines.SilentSource(tmp_path / "opening")
    pipeline = make(source, grace=0.1)
    outcomes = started(pipeline)
    eventually(source.mark.exists)

    pipeline.stop()
    eventually(lambda: outcomes)

    assert not outcomes[0].has_ended
    assert multiprocessing.active_children() == []


def test_a_stop_while_the_sink_is_behind_does_nothing_twice(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    sink = pipelines.SlowSink(tmp_path / "lines")
    settings = {"sink": sink, "batch_events": 20, "max_ready_files": 1, "grace": 2.0}
    pipeline = make(range(40), pipelines.five_times, **settings)
    outcomes = started(pipeline)
    eventually(sink.lines)

    pipeline.stop()
    eventually(lambda: outcomes)
    make(range(40), pipelines.five_times, **settings).run()

    assert (outcomes[0].exit_code, outcomes[0].has_ended) == (ExitCode.OK, False)
    assert Counter(map(int, sink.lines())) == dict.fromkeys(range(40), 5)


def test_a_damaged_position_is_none(
    make: Make, results: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = make([1, 2])
    pipeline.folder.mkdir(mode=0o700)
    (pipeline.folder / "position.json").touch()  # As a loss of power leaves it.

    assert PositionFile(pipeline.folder / "position.json", fsync=False).load() is None
    assert "position.json is damaged" in caplog.text
    assert pipeline.run().exit_code is ExitCode.OK
    assert values(results) == [1, 2]


def test_a_second_run_goes_on_where_the_first_was_stopped(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    sink = LinesSink(tmp_path / "lines")
    for _ in range(2):
        before = len(sink.lines())
        pipeline = make(pipelines.EndlessSource(), sink=sink)
        outcomes = started(pipeline)
        eventually(lambda before=before: len(sink.lines()) > before)  # type: ignore[misc]
        pipeline.stop()
        eventually(lambda outcomes=outcomes: outcomes)  # type: ignore[misc]

    written = sorted(map(int, sink.lines()))
    assert written == list(range(len(written)))


def test_a_source_that_has_ended_is_read_from_its_start_by_the_next_run(
    make: Make, results: Queue
) -> None:
    make([1, 2]).run()
    make([1, 2]).run()

    assert values(results) == [1, 1, 2, 2]


def test_reading_waits_while_as_many_batches_wait_as_may(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    gate = tmp_path / "gate"
    pipeline = make(
        range(10_000), pipelines.Blocked(gate), batch_events=10, max_ready_files=3, grace=0.1
    )
    started(pipeline)
    queue = Queue(pipeline.folder / "in", codec="record", max_ready_files=3)

    eventually(lambda: queue.path.exists() and queue.is_full)

    assert queue.traffic().events_in <= 10 * (3 + 2 + 1)  # Ready, held by the workers, one more.


def test_no_event_waits_for_its_batch_to_be_full(
    make: Make, tmp_path: Path, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    source = Queue(tmp_path / "slow", max_batch_age=0.1)
    sink = LinesSink(tmp_path / "lines")
    started(make(QueueSource(source), sink=sink, batch_events=100_000, max_batch_age=0.3))

    with source.producer() as producer:
        for number in range(3):
            begun_at = monotonic()
            producer.put(number)
            eventually(lambda number=number: len(sink.lines()) > number)  # type: ignore[misc]
            assert monotonic() - begun_at < 3 * 0.3 + 1


# --- what cannot be ---


def test_a_source_that_cannot_be_opened_is_told_at_the_start(make: Make) -> None:
    with pytest.raises(PipelineFailed, match="nobody at home"):
        make(pipelines.ClosedSource()).run()


def test_a_queue_that_is_a_file_is_told_at_the_start(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(PipelineFailed, match="it is a link or a file"):
        make(QueueSource(tmp_path / "file")).run()


def test_work_that_cannot_be_sent_is_told_at_the_start(make: Make) -> None:
    with pytest.raises(PipelineFailed, match="top level of a module, or start_method='fork'"):
        make([1], lambda event: event, start_method="spawn").run()


def test_a_class_that_does_no_work_is_told_at_the_start(make: Make) -> None:
    with pytest.raises(PipelineFailed, match="class str, whose objects cannot be called"):
        make(["a"], str).run()


def test_two_pipelines_do_not_share_a_folder(
    make: Make, started: Callable[[Pipeline], list[Outcome]]
) -> None:
    first = make(pipelines.EndlessSource())
    started(first)
    eventually(lambda: (first.folder / "in").exists())

    with pytest.raises(PipelineFailed, match="another pipeline runs in"):
        make([]).run()


def test_a_folder_that_cannot_be_locked_is_told_at_the_start(make: Make) -> None:
    pipeline = make([])
    (pipeline.folder / "pipeline.lock").mkdir(mode=0o700, parents=True)

    with pytest.raises(FolderFailed, match="locking the folder"):
        pipeline.run()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"processes": 0}, "processes is 0"),
        ({"processes": 400_000}, "from 1 to 1,000"),
        ({"attempts": "3"}, "attempts is '3'"),
        ({"retry_pause": -1}, "retry_pause is -1"),
        ({"grace": float("inf")}, "grace is inf"),
        ({"batch_events": 0}, "batch_events is 0"),
        ({"max_batch_age": 0}, "max_batch_age is 0"),
        ({"max_ready_files": 0}, "max_ready_files is 0"),
        ({"fsync": 1}, "fsync is 1"),
        ({"start_method": "thread"}, "start_method is 'thread'"),
        ({"work": "no_such_module:work"}, "no module 'no_such_module'"),
        ({"work": "json:no_such"}, "there is no 'no_such'"),
        ({"work": "json"}, "write 'module:name'"),
        ({"work": "os:sep"}, "must be a function"),
        ({"work": 3}, "must be a function"),
        ({"work": pipelines.is_async}, "is async"),
        ({"work": pipelines.IsAsync}, "is async"),
        ({"work": pipelines.IsAsync()}, "is async"),
        ({"work": "fixtures.pipelines:is_async"}, "is async"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Make, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(SettingsError, match=text):
        make([], **settings)


def test_no_process_is_left_when_it_has_ended(make: Make) -> None:
    make(range(10)).run()

    assert multiprocessing.active_children() == []
