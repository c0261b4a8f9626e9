"""The code blocks of the document that defines turbo_queue, run as they are written.

`blocks/` holds them to the letter, but for the indentation of the loops, which the document has
lost. The last one is run in the same program as those before; it calls the module `fast_queue`.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

BLOCKS = Path(__file__).parent / "blocks"

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "queues"


@pytest.fixture
def scope(root: Path) -> Any:
    """What the program of the document has defined so far; its producer and consumer are closed."""
    scope: dict[str, Any] = {}
    yield scope
    for name in ("enqueue", "dequeue"):
        if name in scope:
            scope[name].close()


def run(scope: dict[str, Any], root: Path, name: str) -> None:
    exec((BLOCKS / name).read_text().replace("/path/to/queue", str(root)), scope)


def batches(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root / "data_in") if name.endswith(".db"))


def test_clean_up_of_a_queue_that_is_not_there_makes_it(scope: dict[str, Any], root: Path) -> None:
    run(scope, root, "q01_cleanup.py")

    assert batches(root) == []


def test_enqueueing_stops_once_five_files_are_ready(scope: dict[str, Any], root: Path) -> None:
    run(scope, root, "q01_cleanup.py")
    run(scope, root, "q02_enqueue.py")

    assert scope["enqueue"].enqueue_active is False
    assert len([name for name in batches(root) if name.startswith("ready_")]) == 5


def test_dequeueing_gives_everything_and_then_none(scope: dict[str, Any], root: Path) -> None:
    run(scope, root, "q01_cleanup.py")
    run(scope, root, "q02_enqueue.py")
    scope["enqueue"].close()
    scope["fast_queue"] = scope["turbo_queue"]
    run(scope, root, "q03_dequeue.py")

    assert scope["data"] is None
    assert batches(root) == []
    scope["enqueue"].start()
    scope["enqueue"].add("more")
    assert next(scope["get_data"]) == "more"


def test_file_names_are_those_of_the_document(scope: dict[str, Any], root: Path) -> None:
    steps = (BLOCKS / "q04_names.txt").read_text()
    documented = re.findall(r"^\w+_<epoch_time>_<uuid>\.db$", steps, re.MULTILINE)
    run(scope, root, "q01_cleanup.py")
    turbo_queue = scope["turbo_queue"]
    enqueue = scope["enqueue"] = turbo_queue.enqueue()
    enqueue.queue_name, enqueue.root_path = "data_in", str(root)
    dequeue = scope["dequeue"] = turbo_queue.dequeue(1)
    dequeue.queue_name, dequeue.root_path = "data_in", str(root)

    enqueue.start()
    seen = [*batches(root)]
    enqueue.add({"id": 1})
    enqueue.flush()
    seen += batches(root)
    events = dequeue.get()
    next(events)
    seen += batches(root)
    next(events)

    assert batches(root) == []
    assert [re.sub(rf"\d{{10}}_{UUID}", "<epoch_time>_<uuid>", name) for name in seen] == [
        documented[0],
        documented[2],
        documented[4],
    ]
    assert len({re.sub("^[a-z]+", "", name) for name in seen}) == 1
    assert abs(int(seen[0].split("_")[1]) - time.time()) < 60
