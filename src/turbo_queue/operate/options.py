"""Arguments and options that several commands have, and the queue that they name."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from turbo_queue.discovery import discover
from turbo_queue.folder import Folder
from turbo_queue.operate import output
from turbo_queue.queue import Queue


class CodecName(StrEnum):
    """The codecs that there are."""

    JSON = "json"
    MSGPACK = "msgpack"
    RAW = "raw"
    RECORD = "record"
    PICKLE = "pickle"


QueuePath = Annotated[
    Path, typer.Argument(metavar="PATH", help="The queue's folder.", show_default=False)
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

ReadCodec = Annotated[
    CodecName | None,
    typer.Option(
        "--codec",
        metavar="CODEC",
        help="Batches say themselves how to read them; but pickles, which run code when they are "
        "read, are only read with --codec pickle.",
        show_default=False,
    ),
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Serve /metrics for Prometheus, /live and /ready at this port; 0 for any. Else "
        "TURBO_QUEUE_METRICS_PORT, else none.",
        show_default=False,
    ),
]

MetricsHost = Annotated[
    str | None,
    typer.Option(
        "--metrics-host",
        metavar="ADDRESS",
        help="Where that port listens. Else TURBO_QUEUE_METRICS_HOST, else 127.0.0.1.",
        show_default=False,
    ),
]

WriteCodec = Annotated[
    CodecName | None,
    typer.Option(
        "--codec",
        metavar="CODEC",
        help="How the events are kept: json, msgpack, raw, record or pickle. Else the "
        "environment's TURBO_QUEUE_CODEC, else json.",
        show_default=False,
    ),
]


def existing(path: Path, codec: CodecName | None = None) -> Queue:
    """The queue in this folder; ends the command if there is none."""
    queue = Queue(path, codec=codec and codec.value)
    if not folder_of(queue).exists():
        refuse_pipeline(queue)
        why = "a producer or 'turbo-queue import' makes one"
        if not queue.path.exists():
            why = f"there is no such folder; {why}"
        output.stop(f"there is no queue in {str(queue.path)!r}: {why}")
    return queue


def refuse_pipeline(queue: Queue) -> None:
    """End the command if the folder is a pipeline's, which is no queue itself but has some."""
    for found in discover(queue.path, depth=0):
        if found.is_pipeline:
            names = ", ".join(repr(str(path)) for path in found.queues)
            output.stop(f"{str(queue.path)!r} is the folder of a pipeline; its queues are {names}")


def folder_of(queue: Queue) -> Folder:
    """The folder of a queue, to look at."""
    return Folder(queue.path)
