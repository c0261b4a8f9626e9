"""Tries whether a source and a sink can be opened, without reading or writing anything."""

from __future__ import annotations

import threading
from typing import Any

from turbo_queue.connectors.interface import Sink, Source


class _Untouched:
    """An intake that has taken nothing yet, and keeps nothing."""

    def __init__(self) -> None:
        self.stopping = threading.Event()

    def flush(self) -> None:
        """See `Intake`."""

    def load(self) -> Any:
        """See `Intake`."""
        return None

    def save(self, position: Any) -> None:
        """See `Intake`."""


def open_source(source: Source) -> None:
    """Open a source as a pipeline does, and close it.

    Raises:
        Exception: what the source says if it cannot be read.
    """
    source.open(_Untouched()).close()


def open_sink(sink: Sink) -> None:
    """Open a sink as a pipeline does, and close it.

    Raises:
        Exception: what the sink says if it cannot be written.
    """
    sink.open(threading.Event()).close()
