"""`turbo-queue dead`: the batches that failed too often."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from turbo_queue.dead_batches import DeadBatch
from turbo_queue.errors import BatchNotFound
from turbo_queue.escapes import printable
from turbo_queue.operate import json_lines, options, output
from turbo_queue.queue import Queue

dead = typer.Typer(
    no_args_is_help=True, help="List, show and retry the batches that failed too often."
)

BATCH_HELP = "The name of its file, as 'turbo-queue dead list' shows it."


@dead.command("list")
def list_dead(path: options.QueuePath, *, as_json: options.AsJson = False) -> None:
    """Show the dead batches, oldest first.

    A line for each: its name, how often it failed in a row and at which event
    (counted from 0), how many events are not finished, their codec, and what
    it failed with. With --json it is one line, an array of objects.

    Examples:
      turbo-queue dead list ./queue
      turbo-queue dead list ./queue --json | jq '.[].reason'
    """
    batches = list(options.existing(path).dead)
    if as_json:
        print(json_lines.to_line([asdict(batch) for batch in batches]))
        return
    for batch in batches:
        output.out.print(_line(batch))
    if not batches:
        output.say("no batch is dead")


@dead.command("show")
def show_dead(
    path: options.QueuePath,
    name: Annotated[str, typer.Argument(metavar="NAME", help=BATCH_HELP, show_default=False)],
    *,
    codec: options.ReadCodec = None,
) -> None:
    """Show why a batch is dead, and its events that are not finished.

    The first event is the one that it failed at. The events are JSON lines on
    stdout; what there is to say about the batch goes to stderr, so the lines
    can be kept or imported as they are.

    Examples:
      turbo-queue dead show ./queue dead_1795247780_01a1fd1b-33f1-7000-80f8-f87c4292d42c.db
      turbo-queue dead show ./queue NAME | head -1 | jq .
    """
    queue = options.existing(path, codec)
    batch = _found(queue, Path(name).name)
    for title, value in (
        ("reason", batch.reason),
        ("failures", f"{batch.failures:,} in a row"),
        ("failed at", f"event {batch.failed_at:,}, counted from 0"),
        ("events", f"{batch.events:,} not finished, {batch.codec}"),
    ):
        output.note(f"{title}: {printable(value)}", "")
    try:
        for event in queue.dead.events(batch.name):
            print(json_lines.to_line(event))
    except json_lines.NoJson as error:
        output.stop(str(error))


@dead.command("retry")
def retry_dead(
    path: options.QueuePath,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help=BATCH_HELP, show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that are dead.")] = False,
) -> None:
    """Make a dead batch ready again, or all of them, as if they had never failed.

    Examples:
      turbo-queue dead retry ./queue dead_1795247780_01a1fd1b-33f1-7000-80f8-f87c4292d42c.db
      turbo-queue dead retry ./queue --all
    """
    if (name is None) is not every:
        raise typer.BadParameter("name a batch or give --all, one of them", param_hint="NAME")
    queue = options.existing(path)
    if name is not None:
        queue.dead.retry(Path(name).name)
        output.say("1 batch is ready again")
        return
    retried = sum(_retry_if_there(queue, batch.name) for batch in list(queue.dead))
    output.say(f"{output.count(retried, 'batch')} {'is' if retried == 1 else 'are'} ready again")


def _found(queue: Queue, name: str) -> DeadBatch:
    for batch in queue.dead:
        if batch.name == name:
            return batch
    queue.dead.events(name)  # It says why, if the batch is there and damaged.
    raise BatchNotFound(name)


def _retry_if_there(queue: Queue, name: str) -> bool:
    try:
        queue.dead.retry(name)
    except BatchNotFound:
        return False  # Somebody else was faster.
    return True


def _line(batch: DeadBatch) -> Text:
    failures = output.count(batch.failures, "failure")
    events = output.count(batch.events, "event")
    return Text.assemble(
        (batch.name, "bold"),
        printable(f"  {failures} at {batch.failed_at:,}  {events}  {batch.codec}  "),
        (printable(batch.reason), "red"),
    )
