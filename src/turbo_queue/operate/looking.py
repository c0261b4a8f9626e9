"""`turbo-queue stats` and `turbo-queue peek`: look at a queue once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from turbo_queue.operate import json_lines, options, output, views
from turbo_queue.states import State


class Peekable(StrEnum):
    """The states whose events can be looked at; what is loading is in its producer's memory."""

    READY = "ready"
    CHOSEN = "chosen"
    DEAD = "dead"


def stats(path: options.QueuePath, *, as_json: options.AsJson = False) -> None:
    """Show what is in the queue, what went through it, and who is at work on it.

    ABANDONED are batches whose owner is dead; consumers take them over within
    a second, or 'turbo-queue recover' does.

    Examples:
      turbo-queue stats ./queue
      turbo-queue stats ./queue --json | jq .ready.events
    """
    queue = options.existing(path)
    seen = queue.stats()
    if as_json:
        print(json_lines.to_line(seen.as_dict()))
    else:
        output.show(views.as_table(views.Look(seen), str(queue.path)))


def peek(
    path: options.QueuePath,
    *,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="So many at most.")] = 10,
    state: Annotated[Peekable, typer.Option(help="Of batches in this state.")] = Peekable.READY,
    codec: options.ReadCodec = None,
) -> None:
    """Print the oldest events as JSON lines, without taking them.

    Bytes are printed as {"$bytes": "<base64>"}. Records, as in the folders of a
    pipeline, are printed as {"value": ..., "key": ..., "headers": [[name, value]],
    "timestamp_ms": ..., "origin": ...} without what is empty; their bytes that are
    text are {"$utf8": "<text>"}.

    Examples:
      turbo-queue peek ./queue
      turbo-queue peek ./queue --number 1 --state chosen | jq .
      turbo-queue peek ./orders/dead
    """
    queue = options.existing(path, codec)
    try:
        for event in queue.peek(number, State(state.value)):
            print(json_lines.to_line(event))
    except json_lines.NoJson as error:
        output.stop(str(error))
