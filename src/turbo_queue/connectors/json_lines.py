"""Files with one event a line: JSON, or text; plain, or gzip by their name."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from os import PathLike
from typing import Any

from turbo_queue.connectors import line_writer
from turbo_queue.connectors.formats import Format, decoder, encoder
from turbo_queue.connectors.interface import Intake, Reader, Sink, Source, Writer
from turbo_queue.connectors.line_reader import LineReader
from turbo_queue.errors import BadEvent, SettingsError

STDOUT = "-"


class JsonLinesSource(Source):
    r"""The lines of files, one event each; it ends with the last file's last line.

    A name that ends with `.gz` is read as gzip. Lines with nothing but white space are left out. A
    line that is not what `format` says is one event that fails. A file that was read to some line
    is read on from there, unless it is another one by then or is shorter; from stdin nothing is
    read twice.

    Args:
        path: A file, or several to be read one after the other; `-` is stdin.
        format: `json`, `text` or `bytes`.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> from turbo_queue.connectors import JsonLinesSource, fill
        >>> from pathlib import Path
        >>> Path("orders.jsonl").write_text("1\n2\n")
        4
        >>> fill(Queue("orders", codec="raw"), JsonLinesSource("orders.jsonl"))
        2
    """

    def __init__(
        self,
        path: str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        format: Format = "json",  # noqa: A002 - as all connectors have it
    ) -> None:
        given = [path] if isinstance(path, str | PathLike) else path
        if not (isinstance(given, Sequence) and given):
            raise SettingsError(f"{path!r} names no file; name one or more")
        self._paths = [_checked(name) for name in given]
        self._decode = decoder(format)

    def open(self, intake: Intake) -> Reader:
        """See `Source`.

        Raises:
            SourceFailed: the first file is not what its name says.
            OSError: it cannot be opened.
        """
        return LineReader(self._paths, intake)

    def decode(self, value: Any) -> Any:
        """See `Source`."""
        return self._decode(value)


class JsonLinesSink(Sink):
    r"""Appends each event as a line to a file; bytes as they are.

    What was flushed is synced, and is there whole after a kill. In a file whose name ends with
    `.gz` each flush is a gzip member, and what a kill has left of one is taken out; in another file
    it may leave half a line, which then stands on a line of its own.

    Args:
        path: The file, for this sink alone; made if it is not there. `-` is stdout. A named pipe
            needs somebody who reads it.
        format: `json`, `text` or `bytes`.

    Raises:
        SettingsError: a setting makes no sense.

    Example:
        >>> from pathlib import Path
        >>> from turbo_queue.connectors import JsonLinesSink, empty
        >>> empty(Queue(folder), JsonLinesSink("numbers.jsonl"), stop_when_empty=True)
        3
        >>> Path("numbers.jsonl").read_text()
        '1\n2\n3\n'
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        format: Format = "json",  # noqa: A002
    ) -> None:
        self._path = _checked(path)
        self._format = format
        self._encode = encoder(format)

    def open(self, stopping: threading.Event) -> Writer:
        """See `Sink`.

        Raises:
            SinkFailed: another sink writes to the file, it is not what its name says, or it is a
                pipe that nobody reads.
            OSError: it cannot be opened.
        """
        if self._path == STDOUT:
            return line_writer.opened_stdout(self.encode, stopping)
        return line_writer.opened(self._path, self.encode, stopping)

    def encode(self, value: Any) -> bytes:
        """See `Sink`.

        Raises:
            BadEvent: it is no line in this format.
        """
        if value is None and self._format == "json":
            return b"null"
        line = value if isinstance(value, bytes) else self._encode(value)
        if not isinstance(line, bytes):
            raise BadEvent("None is no line of text; give the sink format='json', or return text")
        if b"\n" in line:
            raise BadEvent("it has a line break, so it would be several lines")
        return line


def _checked(path: object) -> str:
    if not isinstance(path, str | PathLike):
        raise SettingsError(f"a file is named by {path!r}; it must be a text or a path")
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text:
        raise SettingsError(f"{text!r} names no file")
    return text
