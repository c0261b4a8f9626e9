"""`turbo-queue recover` and `turbo-queue dead`: what went wrong, and how to put it right."""

from __future__ import annotations

import json
from pathlib import Path

from fixtures.processes import Processes
from fixtures.queue_commands import drained, filled, killed, queue_command
from turbo_queue import Queue

DYING_CONSUMER = """
    import os, sys
    from turbo_queue import Queue

    consumer = Queue(sys.argv[1]).consumer()
    assert consumer.take(timeout=10)
    os._exit(9)
"""


def test_recover_gives_back_what_a_dead_consumer_held(tmp_path: Path, processes: Processes) -> None:
    queue = filled(tmp_path / "queue", range(3))
    assert processes.python(DYING_CONSUMER, str(queue.path)).wait() == 9
    assert queue.stats().chosen.abandoned == 1

    done, again = queue_command("recover", queue.path), queue_command("recover", queue.path)

    assert (done.code, done.out) == (0, "1 batch of dead consumers, ready again\n")
    assert (again.code, again.out) == (0, "nothing to recover\n")
    assert drained(queue) == [0, 1, 2]


def test_recover_leaves_what_the_living_hold(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))
    with queue.consumer() as consumer:
        batch = consumer.take(timeout=0)
        assert batch is not None

        assert queue_command("recover", queue.path).out == "nothing to recover\n"
        batch.acknowledge()


def test_recover_tells_what_it_buried_and_set_aside(tmp_path: Path, processes: Processes) -> None:
    queue = filled(tmp_path / "queue", range(3), max_failures=1)
    assert processes.python(DYING_CONSUMER, str(queue.path)).wait() == 9
    (queue.path / "chosen_nonsense").write_text("no batch")
    command = ["recover", queue.path]

    done = queue_command(*command, env={"TURBO_QUEUE_MAX_FAILURES": "1"})

    assert done.code == 0
    assert "1 batch whose consumers died too often, dead" in done.out
    assert "1 file that cannot be batches, set aside in bad/" in done.out
    assert len(queue.dead) == 1


def test_dead_list_has_a_line_for_each_batch(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(20), max_events_per_file=10)
    first = killed(queue, "no\nsuch \x1b[31mluck")
    second = killed(queue)

    done = queue_command("dead", "list", queue.path)

    lines = done.out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [first, second]
    assert lines[0].endswith(
        "  5 failures at 0  10 events  json  ValueError: no\\nsuch \\x1b[31mluck"
    )


def test_dead_list_with_json_is_an_array(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))
    empty = queue_command("dead", "list", queue.path, "--json")
    name = killed(queue)

    (batch,) = json.loads(queue_command("dead", "list", queue.path, "--json").out)

    assert json.loads(empty.out) == []
    assert batch == {
        "name": name,
        "reason": "ValueError: no such luck",
        "failures": 5,
        "failed_at": 0,
        "events": 3,
        "codec": "json",
    }


def test_dead_list_says_so_if_there_is_none(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))

    done = queue_command("dead", "list", queue.path)

    assert (done.code, done.out) == (0, "no batch is dead\n")


def test_dead_show_gives_the_reason_and_the_events(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", [{"id": 1}, {"id": 2}])
    name = killed(queue)

    done = queue_command("dead", "show", queue.path, name)

    assert (done.code, done.out) == (0, '{"id":1}\n{"id":2}\n')
    assert done.err.splitlines() == [
        "reason: ValueError: no such luck",
        "failures: 5 in a row",
        "failed at: event 0, counted from 0",
        "events: 2 not finished, json",
    ]


def test_dead_show_takes_a_path_that_the_shell_has_completed(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(1))
    name = killed(queue)

    assert queue_command("dead", "show", queue.path, queue.path / name).out == "0\n"


def test_dead_retry_makes_one_batch_ready_again(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(4), max_events_per_file=2)
    first, second = killed(queue), killed(queue)

    done = queue_command("dead", "retry", queue.path, first)

    assert (done.code, done.out) == (0, "1 batch is ready again\n")
    assert [batch.name for batch in queue.dead] == [second]
    assert drained(queue) == [0, 1]


def test_dead_retry_all_makes_every_batch_ready_again(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(4), max_events_per_file=2)
    for _ in range(2):
        killed(queue)

    done = queue_command("dead", "retry", queue.path, "--all")
    again = queue_command("dead", "retry", queue.path, "--all")

    assert (done.code, done.out) == (0, "2 batches are ready again\n")
    assert (again.code, again.out) == (0, "0 batches are ready again\n")
    assert drained(queue) == [0, 1, 2, 3]


def test_a_batch_that_is_not_dead_is_an_error(tmp_path: Path) -> None:
    queue = filled(tmp_path / "queue", range(3))
    ready = next(queue.path.glob("ready_*")).name
    for command in ("show", "retry"):
        for name in (ready, "nonsense", "../queue"):
            done = queue_command("dead", command, queue.path, name)

            assert (done.code, done.out) == (1, "")
            assert done.err.startswith("error: there is no batch ")
            assert done.err.count("\n") == 1


def test_a_dead_batch_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    queue: Queue = filled(tmp_path / "queue", range(3))
    name = killed(queue)
    (queue.path / name).write_bytes(b"no batch")

    for command in ("show", "retry"):
        done = queue_command("dead", command, queue.path, name)

        assert (done.code, done.out) == (1, "")
        assert done.err == "error: a batch is damaged: it is no SQLite database\n"
