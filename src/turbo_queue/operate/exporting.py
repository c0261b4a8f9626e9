"""`turbo-queue export`: the ready events as JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from turbo_queue.batch import Batch
from turbo_queue.errors import BatchDamaged, TurboQueueError
from turbo_queue.escapes import printable
from turbo_queue.operate import json_lines, options, output, progress, reading, sinks
from turbo_queue.operate.sinks import Sink
from turbo_queue.operate.stopping import Stop, Stopped
from turbo_queue.queue import Queue
from turbo_queue.states import State


def export(
    path: options.QueuePath,
    *,
    to: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout.")
    ] = sinks.STDOUT,
    take: Annotated[bool, typer.Option("--take", help="Take the events out of the queue.")] = False,
    codec: options.ReadCodec = None,
) -> None:
    """Write the events that are ready as JSON lines, the oldest first.

    Without --take the queue stays as it is, and FILE is replaced. With --take
    the events leave the queue, a batch at a time, after its lines were written,
    and FILE is appended to: whatever ends the command, no event is lost. It
    ends with what was ready when it began.

    Bytes are written as {"$bytes": "<base64>"}, which 'turbo-queue import' with
    the codec raw or msgpack makes bytes again; records as 'turbo-queue peek'
    prints them, for 'turbo-queue import --codec record'. What JSON does not have becomes
    what is next to it: other keys than text and timestamps become text, floats
    that are no numbers become null.

    Examples:
      turbo-queue export ./queue | jq .id
      turbo-queue export ./queue --output events.jsonl
      turbo-queue export ./queue --take --output events.jsonl
    """
    queue = options.existing(path, codec)
    is_shown = progress.is_shown() and not (to == sinks.STDOUT and output.out.is_terminal)
    total = queue.stats().ready.events if is_shown else None
    with (
        Stop() as stop,
        sinks.opened(to, stop, append=take) as sink,
        progress.bar("exporting", total, is_wanted=is_shown) as advance,
    ):
        job = _Export(queue, sink, stop, advance)
        problem = job.run(job.take if take else job.copy)
    output.note(f"{output.count(job.events, 'event')} {'taken' if take else 'copied'}")
    if problem:
        output.stop(problem)
    stop.end()


class _Export:
    """One run of the command."""

    def __init__(
        self, queue: Queue, sink: Sink, stop: Stop, advance: Callable[[int], None]
    ) -> None:
        self._queue = queue
        self._sink = sink
        self._stop = stop
        self._advance = advance
        self.events = 0

    def run(self, job: Callable[[], str | None]) -> str | None:
        """Do this; gives what went wrong, if something did."""
        try:
            return job()
        except Stopped:
            return None
        except BrokenPipeError:
            raise  # Not worth a line.
        except (OSError, json_lines.NoJson, TurboQueueError) as error:
            return output.described(error)

    def copy(self) -> str | None:
        """Write all events; gives what was left out, if something was."""
        damaged = 0
        for batch in reading.batches(self._queue, State.READY):
            if self._stop.is_wanted:
                break
            if batch.damage is not None:
                damaged += 1
                output.note(f"{batch.name} is damaged: {printable(batch.damage)}", "")
            self._write(batch.events)
            self._count(len(batch.events))
        left_out = f"{output.count(damaged, 'batch')} could not be read and so not be copied"
        return left_out if damaged else None

    def take(self) -> None:
        """Write the events of all batches that are ready now, and finish them."""
        self._queue.recover()  # So that nothing ready is missed because its consumer died.
        names = options.folder_of(self._queue).names(State.READY)
        with self._queue.consumer() as consumer:
            while names and not self._stop.is_wanted and (batch := consumer.take(timeout=0)):
                # Names sort by age, whatever the state that they begin with.
                if _age(batch.name) > _age(names[-1]):
                    batch.give_back()
                    return
                self._take(batch)

    def _take(self, batch: Batch) -> None:
        number = len(batch)
        try:
            self._write(batch)
            self._sink.sync()
        except BatchDamaged as error:
            batch.set_aside(error.reason)
            return
        except BaseException:
            batch.give_back()  # Not a failure of the batch.
            raise
        batch.acknowledge()
        self._count(number)

    def _write(self, events: Iterable[Any]) -> None:
        lines = [json_lines.to_line(event) for event in events]
        if lines:
            self._sink.write("\n".join([*lines, ""]).encode())

    def _count(self, number: int) -> None:
        self.events += number
        self._advance(number)


def _age(name: str) -> str:
    return name.partition("_")[2]
