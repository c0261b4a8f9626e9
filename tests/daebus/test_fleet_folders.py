"""Queues and pipelines of this machine, as a fleet has them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from daebus.operate.fleet.folders import FolderWatch
from daebus.operate.fleet.views import QueueView
from daebus.operate.fleet.watch import folders_to_watch
from fixtures.pipelines import fails_at_13
from fixtures.queues import drain, fill_in_batches
from turbo_queue import Queue
from turbo_queue.connectors import IterableSource, JsonLinesSink
from turbo_queue.pipeline import Pipeline


def only_queue(watch: FolderWatch) -> QueueView:
    (view,), _ = watch.look()
    return view


def test_a_queue_has_its_states_and_who_is_at_work(queue: Queue) -> None:
    fill_in_batches(queue, range(10), range(20))
    with queue.consumer() as consumer:
        assert consumer.take()
        view = only_queue(FolderWatch([queue.path]))

    assert view.states["ready"].events + view.states["chosen"].events == 30
    assert (view.states["chosen"].batches, view.consumers) == (1, [os.getpid()])
    assert (view.name, view.path, view.events_in) == ("queue", str(queue.path), 30)


def test_rates_are_those_of_the_last_looks(queue: Queue) -> None:
    fill_in_batches(queue, range(10))
    watch = FolderWatch([queue.path])
    assert only_queue(watch).in_per_s is None

    fill_in_batches(queue, range(1000))
    drain(queue)
    view = only_queue(watch)

    assert view.in_per_s
    assert view.out_per_s == pytest.approx(view.in_per_s * 1.01)
    idle = only_queue(watch)
    assert idle.in_per_s
    assert 0 < idle.in_per_s < view.in_per_s


def test_a_pipeline_tells_what_waits_and_what_is_dead(tmp_path: Path) -> None:
    Pipeline(
        IterableSource(range(20)),
        fails_at_13,
        JsonLinesSink(tmp_path / "out"),
        folder=tmp_path / "orders",
        processes=1,
        attempts=1,
    ).run(progress=False)

    queues, (view,) = FolderWatch([tmp_path]).look()

    assert queues == []
    assert (view.name, view.is_running, view.waiting, view.dead_letters) == ("orders", False, 0, 1)
    assert {queue.name for queue in view.queues} == {"in", "retry", "out", "dead"}


def test_a_queue_that_cannot_be_read_is_a_trouble_of_its_own(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        fill_in_batches(Queue(tmp_path / name), [1])
    (tmp_path / "bad" / ".totals").unlink()
    (tmp_path / "bad" / ".totals").mkdir()

    bad, good = sorted(FolderWatch([tmp_path]).look()[0], key=lambda view: view.name)

    assert (good.trouble, good.states["ready"].events) == (None, 1)
    assert ".totals" in str(bad.trouble)


def test_a_damaged_batch_hides_no_other(queue: Queue) -> None:
    fill_in_batches(queue, [1], [2])
    first = min(queue.path.glob("ready_*"))
    first.write_bytes(b"damaged")

    view = only_queue(FolderWatch([queue.path]))

    assert (view.states["ready"].batches, view.states["ready"].events) == (2, 1)


def test_a_folder_named_twice_is_shown_once(queue: Queue) -> None:
    fill_in_batches(queue, [1])

    queues, _ = FolderWatch([queue.path.parent, queue.path, queue.path]).look()

    assert len(queues) == 1


def test_a_queue_that_has_gone_is_gone(tmp_path: Path) -> None:
    fill_in_batches(Queue(tmp_path / "old"), [1])
    watch = FolderWatch([tmp_path])
    assert only_queue(watch).name == "old"

    (tmp_path / "old").rename(tmp_path / "new")

    assert only_queue(watch).name == "new"


def test_a_name_that_is_no_text_can_be_told(tmp_path: Path) -> None:
    fill_in_batches(Queue(os.fsdecode(os.fsencode(tmp_path) + b"/q\xff")), [1])

    view = only_queue(FolderWatch([tmp_path]))

    assert view.name == r"q\xff"
    assert msgspec.json.decode(msgspec.json.encode(view), type=QueueView) == view


def test_the_folders_are_those_given_or_of_the_environment_or_of_the_services(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DAEBUS_FOLDERS", raising=False)
    assert folders_to_watch([], tmp_path) == [tmp_path]
    monkeypatch.setenv("DAEBUS_FOLDERS", os.pathsep.join(["a", "", "b"]))
    assert folders_to_watch([], tmp_path) == [Path("a"), Path("b")]
    assert folders_to_watch([Path("c")], tmp_path) == [Path("c")]
