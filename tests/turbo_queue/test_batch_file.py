"""What a batch file holds, seen as another language would see it: with SQL and the docs."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import zlib
from pathlib import Path
from typing import Any

import pytest

from fixtures.queues import drain, files, fill, fill_in_batches
from turbo_queue import Queue


def sql(path: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def test_a_plain_select_shows_readable_events(queue: Queue) -> None:
    fill_in_batches(queue, [{"id": 1}, "two", 3])

    assert sql(files(queue)[0], "SELECT body FROM events") == [('{"id":1}\n"two"\n3',)]


def test_the_batch_says_what_it_holds(queue: Queue) -> None:
    fill_in_batches(queue, [{"id": 1}, {"id": 2}])
    (path,) = files(queue)

    assert sql(path, "SELECT * FROM batch") == [
        (1, "json", 2, zlib.crc32(b'{"id":1}\n{"id":2}'), 0, -1, None)
    ]
    assert sql(path, "PRAGMA application_id") == [(0x54625131,)]
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]


def test_progress_is_the_user_version(queue: Queue) -> None:
    fill_in_batches(queue, range(50))
    with queue.consumer() as consumer:
        batch = consumer.take()
        assert batch
        batch.checkpoint(20)

        assert sql(files(queue)[0], "PRAGMA user_version") == [(20,)]
        assert sql(files(queue)[0], "PRAGMA integrity_check") == [("ok",)]


def test_files_and_folders_are_their_owners_alone(queue: Queue) -> None:
    before = os.umask(0)
    try:
        fill_in_batches(queue, [1])
    finally:
        os.umask(before)

    for path in (queue.path, queue.path / "bad", queue.path / ".alive"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in [*files(queue), queue.path / ".ready", queue.path / ".totals"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def write_as_another_language(path: Path, rows: list[tuple[int, Any]], codec: str = "json") -> None:
    """A batch written by the book, with nothing of turbo_queue's."""
    loading = path.with_name(path.name.replace("ready_", "loading_"))
    connection = sqlite3.connect(loading)
    connection.executescript(
        """
        CREATE TABLE batch (
            format INTEGER NOT NULL, codec TEXT NOT NULL, events INTEGER NOT NULL,
            crc32 INTEGER NOT NULL, failures INTEGER NOT NULL, failed_at INTEGER NOT NULL,
            reason TEXT
        );
        CREATE TABLE events (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body NOT NULL);
        """
    )
    checksum = 0
    for seq, (count, body) in enumerate(rows, start=1):
        connection.execute("INSERT INTO events VALUES (?, ?, ?)", (seq, count, body))
        checksum = zlib.crc32(body.encode() if isinstance(body, str) else body, checksum)
    connection.execute(
        "INSERT INTO batch VALUES (1, ?, ?, ?, 0, -1, NULL)",
        (codec, sum(count for count, _ in rows), checksum),
    )
    connection.commit()
    connection.close()
    loading.rename(path)


NAME = "ready_1795246802_01a1fd0c-474b-7000-9dc1-1d57d656d3f2.db"


def test_another_language_can_take_part(queue: Queue) -> None:
    fill(queue, [0])
    write_as_another_language(
        queue.path / NAME, [(1, json.dumps({"from": "elsewhere"})), (3, "1\n2\n3")]
    )

    assert sorted(drain(queue), key=str) == [0, 1, 2, 3, {"from": "elsewhere"}]


def test_a_batch_that_was_written_whole_is_saved_from_a_dead_producer(queue: Queue) -> None:
    fill(queue, [0])
    (path,) = files(queue)
    path.rename(path.with_name(path.name.replace("ready_", "loading_")))

    assert queue.recover().published == 1
    assert drain(queue) == [0]


def test_a_row_may_hold_more_events_than_a_checkpoint(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue", checkpoint=7)
    fill(queue, [])
    write_as_another_language(queue.path / NAME, [(500, "\n".join(map(str, range(500))))])

    with queue.consumer() as consumer:
        for event in consumer:
            if event == 99:
                (done,) = sql(files(queue)[0], "PRAGMA user_version")[0]
                assert 99 - 7 <= done <= 99
                break

    assert drain(queue) == list(range(100, 500))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM batch", "no rows instead of one"),
        ("INSERT INTO batch SELECT * FROM batch", "2 rows instead of one"),
        ("UPDATE batch SET format = 2", "its format is 2; this version reads 1"),
        ("UPDATE batch SET codec = 'yaml'", "there is no codec 'yaml'"),
        ("UPDATE batch SET events = 4", "some of its 4 events are missing"),
        ("UPDATE batch SET crc32 = 0", "not those that were written"),
        ("UPDATE batch SET failures = 'often'", "something else than a batch's figures"),
        ("UPDATE events SET body = '9\n9\n9'", "not those that were written"),
        ("UPDATE events SET count = 'x'", "counts and bodies"),
        ("DELETE FROM events", "some of its 3 events are missing"),
        ("DROP TABLE events", "other tables"),
        ("CREATE TABLE more (a)", "other tables"),
        ("CREATE VIEW more AS SELECT 1", "other tables"),
        ("CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END", "other tables"),
        ("PRAGMA user_version = 4", "4 of its 3 events are said to be finished"),
        ("PRAGMA user_version = -1", "are said to be finished"),
    ],
)
def test_a_batch_that_breaks_the_book_is_set_aside(queue: Queue, change: str, reason: str) -> None:
    fill_in_batches(queue, [1, 2, 3], ["good"])
    path = files(queue)[0]
    connection = sqlite3.connect(path)
    connection.execute(change)
    connection.commit()
    connection.close()

    assert drain(queue) == ["good"]
    (text,) = (queue.path / "bad").glob("*.reason.txt")
    assert text.name.removesuffix(".reason.txt").removeprefix("chosen_") in path.name

    assert re.search(reason, text.read_text())


def test_a_batch_whose_text_is_no_json_is_set_aside(queue: Queue) -> None:
    fill(queue, [])
    write_as_another_language(queue.path / NAME, [(1, "1"), (1, "{")])
    fill(queue, ["good"])

    assert drain(queue) == [1, "good"]
    assert queue.stats().bad_files == 1
