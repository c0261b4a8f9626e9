"""`turbo-queue bench`: what the queue gives on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from turbo_queue.operate import options, output, progress
from turbo_queue.operate.bench_crew import Crew, MemberLost
from turbo_queue.operate.bench_roles import Figures, consume, produce
from turbo_queue.operate.stopping import Stop, Stopped
from turbo_queue.owners import traffic
from turbo_queue.queue import Queue


def bench(
    *,
    producers: Annotated[int, typer.Option(metavar="N", min=1, help="So many processes put.")] = 1,
    consumers: Annotated[int, typer.Option(metavar="N", min=1, help="… and so many get.")] = 1,
    events: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many events, by all together.")
    ] = 200_000,
    codec: Annotated[
        options.CodecName, typer.Option(metavar="CODEC", help="json, msgpack, raw or pickle.")
    ] = (options.CodecName.JSON),
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where its own folder is made, to measure that disk. Else the system's place "
            "for temporary files.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure events per second and processor time per event, on this machine.

    Each producer and consumer is a process of its own. The events have some
    hundred bytes. The queue lives in a new folder, which is removed at the end.
    The time is from the first event's put to the last one's get.

    Examples:
      turbo-queue bench
      turbo-queue bench --producers 4 --consumers 4 --events 1000000
      turbo-queue bench --codec msgpack --folder /dev/shm
    """
    with (
        Stop() as stop,
        tempfile.TemporaryDirectory(prefix="turbo-queue-bench-", dir=folder) as temporary,
        progress.bar("measuring", events) as advance,
    ):
        queue = Queue(Path(temporary) / "queue", codec=codec.value)
        try:
            crew = Crew(stop, _progress_of(queue, advance))
            outcome = _measure(crew, queue, producers, consumers, events)
        except Stopped:
            outcome = None
    stop.end()
    if outcome:
        crowd = f"{output.count(producers, 'producer')}, {output.count(consumers, 'consumer')}"
        output.say(f"{crowd}, {codec.value}")
        output.say(f"{outcome.per_s:,.0f} events/s", "bold green")
        output.say(
            f"{outcome.us(outcome.put + outcome.got):.2f} CPU microseconds per event "
            f"({outcome.us(outcome.put):.2f} to put, {outcome.us(outcome.got):.2f} to get)"
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What all processes have measured."""

    events: int
    put: list[Figures]
    got: list[Figures]

    @property
    def per_s(self) -> float:
        """Events per second, from the first put to the last get."""
        began_at = min(figures.began_at for figures in self.put)
        return self.events / (max(figures.ended_at for figures in self.got) - began_at)

    def us(self, all_figures: list[Figures]) -> float:
        """Processor time per event, in microseconds."""
        return sum(figures.cpu_s for figures in all_figures) / self.events * 1e6


def _measure(crew: Crew, queue: Queue, producers: int, consumers: int, events: int) -> _Outcome:
    with crew:
        shares = [events // producers + (n < events % producers) for n in range(producers)]
        putting = [crew.add(produce, queue, share) for share in shares]
        getting = [crew.add(consume, queue, 0) for _ in range(consumers)]
        crew.answers([*putting, *getting], [])
        for member in (*getting, *putting):
            member.send("go")
        put = crew.answers(putting, getting)
        queue.close()
        got = crew.answers(getting, [])
    if (number := sum(figures.events for figures in got)) != events:
        raise MemberLost(f"{number:,} of {events:,} events came out of the queue")
    return _Outcome(events, put, got)


def _progress_of(queue: Queue, advance: Callable[[int], None]) -> Callable[[], None]:
    folder = options.folder_of(queue)
    seen = 0

    def look() -> None:
        nonlocal seen
        if folder.exists() and (now := traffic(folder).events_out) > seen:
            advance(now - seen)
            seen = now

    return look
