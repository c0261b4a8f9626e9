"""Which queues and pipelines there are in a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.pipelines import same
from fixtures.queues import fill_in_batches
from fixtures.waiting import eventually
from turbo_queue import Found, Queue, discover
from turbo_queue.connectors import IterableSource, JsonLinesSink, QueueSink
from turbo_queue.pipeline import Pipeline


def made(path: Path) -> Queue:
    queue = Queue(path)
    fill_in_batches(queue, [1])
    return queue


def test_a_queue_is_found_at_the_folder_itself_and_below(tmp_path: Path) -> None:
    queue = made(tmp_path / "a" / "b" / "queue")

    for folder in (queue.path, tmp_path / "a" / "b", tmp_path):
        assert discover(folder) == [Found(queue.path, (queue.path,))]


def test_what_is_deeper_than_asked_for_is_not_found(tmp_path: Path) -> None:
    made(tmp_path / "a" / "b" / "c" / "queue")

    assert discover(tmp_path, depth=3) == []
    assert len(discover(tmp_path, depth=4)) == 1


def test_a_pipeline_is_found_with_its_queues_and_whether_it_runs(tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"  # The source is read in another process.

    def events() -> Iterator[int]:
        yield 1
        eventually(go_on.exists)

    results = Queue(tmp_path / "results", codec="record")
    pipeline = Pipeline(
        IterableSource(events()), same, QueueSink(results), folder=tmp_path / "p", processes=1
    )
    thread = threading.Thread(target=pipeline.run)
    thread.start()
    try:
        eventually(lambda: [place.is_running for place in discover(tmp_path / "p")] == [True])
        eventually(lambda: len(discover(tmp_path / "p")[0].queues) >= 2)
        (found,) = discover(tmp_path / "p")
    finally:
        go_on.touch()
        thread.join()

    assert (found.is_pipeline, found.pid) == (True, os.getpid())
    assert "in" in [path.name for path in found.queues]
    (ended,) = discover(tmp_path / "p")
    assert (ended.is_running, ended.pid) == (False, None)


def test_looking_keeps_no_pipeline_from_running(tmp_path: Path) -> None:
    stop = threading.Event()

    def look_all_the_time() -> None:
        while not stop.is_set():
            discover(tmp_path)

    thread = threading.Thread(target=look_all_the_time)
    thread.start()
    try:
        for number in range(3):
            sink = JsonLinesSink(tmp_path / f"out{number}")
            pipeline = Pipeline(IterableSource([1]), same, sink, folder=tmp_path / "p", processes=1)
            assert pipeline.run(progress=False).has_ended
    finally:
        stop.set()
        thread.join()


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    queue = made(tmp_path / "elsewhere" / "queue")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(queue.path)
    (tmp_path / "here" / "round").symlink_to(tmp_path)
    (tmp_path / "named").symlink_to(tmp_path / "elsewhere")

    assert discover(tmp_path / "here") == []
    assert [found.path for found in discover(tmp_path / "named")] == [queue.path]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_what_is_another_users_is_not_looked_at(tmp_path: Path) -> None:
    queue = made(tmp_path / "queue")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "pipeline.lock").touch()
    os.chown(queue.path, 12345, 12345)
    os.chown(tmp_path / "p", 12345, 12345)

    assert discover(tmp_path) == []


def test_nothing_and_foreign_files_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "pipeline.lock").mkdir()
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "pipeline.lock").write_bytes(b"\xff no number " * 1000)
    (tmp_path / "odd" / "in").touch()

    assert [(found.path.name, found.queues) for found in discover(tmp_path)] == [("odd", ())]
    assert discover(tmp_path / "file") == []
    assert discover(tmp_path / "nowhere") == []
