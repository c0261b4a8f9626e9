"""`turbo-queue import`: JSON lines into a queue."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from turbo_queue.errors import BadEvent, FolderFailed, QueueFull, TurboQueueError
from turbo_queue.operate import json_lines, options, output, progress, sources
from turbo_queue.operate.output import ExitCode
from turbo_queue.operate.sources import Source
from turbo_queue.operate.stopping import Stop
from turbo_queue.queue import Queue
from turbo_queue.settings import MOST_EVENTS_PER_FILE

#: How long a full queue is waited for before it is looked whether a signal came.
_ROOM_S = 0.2


def import_events(
    path: options.QueuePath,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON lines; - is stdin.")
    ] = sources.STDIN,
    *,
    codec: options.WriteCodec = None,
    max_events_per_file: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=MOST_EVENTS_PER_FILE,
            help="A batch is full with so many. Else the environment's, else 10,000.",
            show_default=False,
        ),
    ] = None,
    fsync: Annotated[
        bool, typer.Option("--fsync", help="Make each batch survive a loss of power.")
    ] = False,
) -> None:
    """Put each line of JSON into the queue as an event; empty lines are left out.

    The queue is made if there is none. A line that is not JSON ends it with an
    error that names the line; those before it are in the queue. So are, after
    Ctrl-C or SIGTERM, the lines that were read. The last line of the output
    says how many those are.

    With another codec than json, {"$bytes": "<base64>"} becomes bytes. The codec
    raw takes these and JSON strings, which become str events, and nothing else.
    The codec record takes what 'peek' and 'export' print of a pipeline's folders:
    {"value": ..., "key": ..., "headers": [[name, value]], "timestamp_ms": ...,
    "origin": ...}, of which only the value must be there, and {"$utf8": "<text>"}
    stands for bytes, too.

    Examples:
      turbo-queue import ./queue events.jsonl
      zcat events.jsonl.gz | turbo-queue import ./queue
      turbo-queue import ./queue blobs.jsonl --codec raw --fsync
      turbo-queue import ./orders/in mended.jsonl --codec record
    """
    queue = Queue(
        path,
        codec=codec and codec.value,
        max_events_per_file=max_events_per_file,
        fsync=fsync or None,
    )
    options.refuse_pipeline(queue)
    with (
        sources.opened(file) as source,
        Stop() as stop,
        progress.bar("importing", source.size, in_bytes=source.size is not None) as advance,
    ):
        job = _Import(queue, source, stop, advance)
        job.run()
    if job.problem:
        output.fail(f"{job.problem}; {job.told()}")
    else:
        output.say(job.told())
    if job.is_unwritten:
        # What cannot be written now could not be at the end of the process either, and a producer
        # would try it there, with a traceback.
        os._exit(ExitCode.ERROR)
    if job.problem:
        raise typer.Exit(ExitCode.ERROR)
    stop.end()


class _Import:
    """One run of the command."""

    def __init__(
        self, queue: Queue, source: Source, stop: Stop, advance: Callable[[int], None]
    ) -> None:
        self._source = source
        self._stop = stop
        self._advance = advance
        self._from_line = _reading(queue.settings.codec)
        self._flush_after = queue.settings.max_events_per_file
        self._progress_in_bytes = source.size is not None
        self._producer = queue.producer()
        self._line = 0
        self._put = 0
        self._flushed = 0
        self.problem = ""
        self.is_unwritten = False

    def run(self) -> None:
        """Put the lines and flush them; what goes wrong is in `problem`."""
        try:
            for lines in self._source.lines(self._stop):
                self._put_lines(lines)
        except (TurboQueueError, OSError, _BadLine) as error:
            self.problem = output.described(error)
        try:
            self._producer.close()
            self._flushed = self._put
        except FolderFailed as error:
            self.problem = self.problem or output.described(error)
            self.is_unwritten = True

    def told(self) -> str:
        """How many events are in the queue."""
        if self.is_unwritten:
            least = output.count(self._flushed, "event")
            return f"the first {least} of {self._put:,} are in the queue, the others may not be"
        return f"{output.count(self._put, 'event')} put"

    def _put_lines(self, lines: list[bytes]) -> None:
        events: list[Any] = []
        numbers: list[int] = []
        bad_line: _BadLine | None = None
        for line in lines:
            self._line += 1
            if not line.strip():
                continue
            try:
                events.append(self._from_line(line))
            except json_lines.NoJson as error:
                bad_line = self._bad_line(self._line, error)
                break
            numbers.append(self._line)
        self._put_events(events, numbers)
        if bad_line:
            raise bad_line
        size = sum(map(len, lines)) + len(lines)
        self._advance(size if self._progress_in_bytes else len(events))

    def _put_events(self, events: list[Any], numbers: list[int]) -> None:
        """Put these, and flush each time that a batch is full, to know what is in the queue."""
        done = 0
        while done < len(events):
            room = self._flush_after - (self._put - self._flushed)
            try:
                done += self._put_some(events[done : done + room])
            except BadEvent as error:
                raise self._bad_line(numbers[done + error.events_put], error) from error
            except QueueFull as error:
                done += error.events_put
                if self._stop.is_wanted:
                    return
            if self._put - self._flushed >= self._flush_after:
                self._producer.flush()
                self._flushed = self._put

    def _put_some(self, events: list[Any]) -> int:
        try:
            self._producer.put_many(events, timeout=_ROOM_S)
        except TurboQueueError as error:
            self._put += error.events_put
            raise
        self._put += len(events)
        return len(events)

    def _bad_line(self, number: int, error: Exception) -> _BadLine:
        return _BadLine(f"{self._source.name}, line {number:,}: {error}")


def _reading(codec: str) -> Callable[[bytes], Any]:
    """How a line becomes an event that this codec carries."""
    if codec == options.CodecName.RECORD:
        return json_lines.record_from_line
    return partial(json_lines.from_line, with_bytes=codec != options.CodecName.JSON)


class _BadLine(Exception):
    """A line cannot be an event; the text says which, and why."""
