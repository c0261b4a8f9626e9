"""What a batch file holds: bytes from rows, and rows from bytes. Touches no file.

A batch is an SQLite database with two tables, written once and then only read, so it is built and
read in memory (`sqlite3_serialize`) and crosses the file system in one write and one read. The
number of finished events lies in the header's `user_version`, four bytes at offset 60 that SQLite
leaves to applications (https://www.sqlite.org/fileformat2.html#user_version_number): a consumer
can note its progress with one small write.

Foreign files are read as https://www.sqlite.org/security.html advises: no trusted schema, checked
cells, two plain tables and nothing else.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from turbo_queue.codec import Decoder, Row
from turbo_queue.errors import BatchDamaged
from turbo_queue.fork_gate import in_sqlite

#: The version of the format; a reader refuses those that it does not know.
FORMAT = 1

#: "TbQ1" in the header's `application_id`, for `file(1)` and for people.
APPLICATION_ID = 0x54625131

#: Where a batch file keeps the number of events that are finished, and how long it is.
PROGRESS_OFFSET = 60
PROGRESS_BYTES = 4

#: Never touched, so it costs no memory; up to twice as much may stay with the process.
_LARGER_THAN_MOST_BATCHES = 2 * 1024 * 1024

#: How many characters of a failure's text are kept.
_MOST_REASON = 10_000

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"

#: What a reader may keep of a large batch, instead of holding on to all of it.
_KEEP_BYTES = 1024 * 1024

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE batch (
    format INTEGER NOT NULL,
    codec TEXT NOT NULL,
    events INTEGER NOT NULL,
    crc32 INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    failed_at INTEGER NOT NULL,
    reason TEXT
);
CREATE TABLE events (seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, body NOT NULL);
"""

_INSERT_BYTES = "INSERT INTO events VALUES (?, ?, ?)"
_INSERT_TEXT = "INSERT INTO events VALUES (?, ?, CAST(? AS TEXT))"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a batch holds.

    Args:
        codec: The name of the codec of its events.
        rows: Its rows, in order.
        events: How many events they hold together.
        crc32: The checksum of their bodies, one after the other.
        done: How many of those, from the first on, are finished.
        failures: How often in a row it has failed at the event `failed_at`.
        failed_at: The event (counted from 0) that it failed at, or -1.
        reason: Why it failed last, for people.
    """

    codec: str
    rows: tuple[Row, ...]
    events: int
    crc32: int
    done: int = 0
    failures: int = 0
    failed_at: int = -1
    reason: str | None = None

    def unfinished(self, decoder: Decoder) -> list[Any]:
        """The events that are not finished.

        Raises:
            BatchDamaged: there is no such codec, or it cannot read them.
            SettingsError: the decoder does not read their codec.
        """
        decoder.check(self.codec)
        events = [event for row in self.rows for event in decoder.events(self.codec, row)]
        return events[self.done :]

    def failed(self, done: int, reason: str) -> Contents:
        """The same batch after one failure more. A batch that has moved on begins at one again."""
        failures = self.failures + 1 if done == self.failed_at else 1
        text = reason[:_MOST_REASON].encode(errors="replace").decode()
        return replace(self, done=done, failures=failures, failed_at=done, reason=text)

    def forgiven(self) -> Contents:
        """The same batch as if it had never failed."""
        return replace(self, failures=0, failed_at=-1, reason=None)


class BatchFormat:
    """Turns contents into the bytes of a batch file and back. For one thread at a time."""

    def __init__(self) -> None:
        # mallopt(3): glibc gives the memory of a batch back to the system after each one, and gets
        # it anew page by page, until something larger than a batch was freed once.
        bytes(_LARGER_THAN_MOST_BATCHES)
        self._written_bytes = 0
        with in_sqlite:
            self._writer = _new_writer()
            self._empty = self._writer.serialize()
            self._reader = _in_memory()
            self._reader.text_factory = bytes
            self._reader.execute("PRAGMA trusted_schema = OFF")
            self._reader.execute("PRAGMA cell_size_check = ON")

    def __del__(self) -> None:
        with in_sqlite:
            self._writer.close()
            self._reader.close()

    def write(self, contents: Contents) -> bytes:
        """The bytes of the file that holds this.

        Raises:
            BatchDamaged: it is more than SQLite can hold.
        """
        with in_sqlite:
            data = self._write(contents)
        if contents.done == 0:
            return data
        return (
            data[:PROGRESS_OFFSET]
            + progress(contents.done)
            + data[PROGRESS_OFFSET + PROGRESS_BYTES :]
        )

    def _write(self, contents: Contents) -> bytes:
        database = self._writer
        try:
            self._empty_writer(sum(len(row.body) for row in contents.rows))
            database.execute("BEGIN")
            numbered = enumerate(contents.rows, start=1)
            for is_text, rows in groupby(numbered, lambda each: each[1].is_text):
                database.executemany(
                    _INSERT_TEXT if is_text else _INSERT_BYTES,
                    ((seq, row.number, row.body) for seq, row in rows),
                )
            database.execute(
                "INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    FORMAT,
                    contents.codec,
                    contents.events,
                    contents.crc32,
                    contents.failures,
                    contents.failed_at,
                    contents.reason,
                ),
            )
            database.execute("COMMIT")
            data = database.serialize()
            self._written_bytes = len(data)
        except BaseException as error:
            self._writer.close()  # Without a journal nothing can be taken back.
            self._writer, self._written_bytes = _new_writer(), 0
            if isinstance(error, sqlite3.Error | OverflowError):
                text = f"the events do not fit into one SQLite file: {error}"
                raise BatchDamaged(text) from error
            raise
        return data

    def _empty_writer(self, next_bytes: int) -> None:
        """Begin the next batch: in the memory of the last one if that is not too large for it.

        SQLite uses the pages again that the last one had, instead of growing from nothing.
        """
        if self._written_bytes > 2 * next_bytes:
            self._writer.deserialize(self._empty)
        else:
            self._writer.execute("DELETE FROM events")
            self._writer.execute("DELETE FROM batch")

    def read(self, data: bytes) -> Contents:
        """What the bytes of a file hold, checked as a whole.

        Raises:
            BatchDamaged: they are not those of a whole batch file.
        """
        if len(data) < _HEADER_BYTES or not data.startswith(_MAGIC):
            raise BatchDamaged("it is no SQLite database" if data else "it is empty")
        with in_sqlite:
            try:
                return self._read(data)
            except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
                raise BatchDamaged(f"SQLite cannot read it: {error}") from error
            finally:
                if len(data) > _KEEP_BYTES:
                    self._reader.deserialize(self._empty)

    def _read(self, data: bytes) -> Contents:
        database = self._reader
        database.deserialize(data)
        # Virtual tables and views have no root page.
        parts = database.execute("SELECT name, type, rootpage > 0 FROM sqlite_schema").fetchall()
        if sorted(parts) != [(b"batch", b"table", 1), (b"events", b"table", 1)]:
            raise BatchDamaged("it has other tables than a batch file")
        heads = database.execute(
            "SELECT format, codec, events, crc32, failures, failed_at, reason FROM batch LIMIT 2"
        ).fetchall()
        if len(heads) != 1:
            raise BatchDamaged(f"its table batch has {len(heads) or 'no'} rows instead of one")
        version, codec, events, crc32, failures, failed_at, reason = heads[0]
        if version != FORMAT:
            raise BatchDamaged(f"its format is {version!r}; this version reads {FORMAT}")
        rows = tuple(
            Row(count, body, kind == b"text")
            for count, body, kind in database.execute(
                "SELECT count, body, typeof(body) FROM events ORDER BY seq"
            )
        )
        if not all(
            isinstance(row.number, int) and row.number > 0 and isinstance(row.body, bytes)
            for row in rows
        ):
            raise BatchDamaged("its table events holds something else than counts and bodies")
        if sum(row.number for row in rows) != events:
            raise BatchDamaged(f"some of its {events!r} events are missing")
        if _crc32(rows) != crc32:
            raise BatchDamaged("its events are not those that were written (crc32)")
        numbers_are_whole = isinstance(failures, int) and isinstance(failed_at, int)
        if not isinstance(codec, bytes) or not numbers_are_whole:
            raise BatchDamaged("its table batch holds something else than a batch's figures")
        done = int.from_bytes(data[PROGRESS_OFFSET : PROGRESS_OFFSET + PROGRESS_BYTES], "big")
        if done > events:
            raise BatchDamaged(f"{done:,} of its {events:,} events are said to be finished")
        return Contents(
            codec.decode(),
            rows,
            events,
            crc32,
            done,
            failures,
            failed_at,
            reason.decode(errors="replace") if isinstance(reason, bytes) else None,
        )


def progress(done: int) -> bytes:
    """What a batch file holds at `PROGRESS_OFFSET` once so many of its events are finished."""
    return done.to_bytes(PROGRESS_BYTES, "big")


def _crc32(rows: Iterable[Row]) -> int:
    checksum = 0
    for row in rows:
        checksum = zlib.crc32(row.body, checksum)
    return checksum


def _new_writer() -> sqlite3.Connection:
    database = _in_memory()
    database.execute("PRAGMA journal_mode = OFF")
    database.executescript(_SCHEMA)
    return database


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
