"""`daebus server`: the bundled Valkey in the foreground."""

from __future__ import annotations

import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from daebus.bus.embedded import EmbeddedServer
from daebus.errors import SettingsError
from daebus.operate import output
from daebus.operate.output import ExitCode
from daebus.service.signals import stop_on_signals


def server(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Where its socket, log and data live. Else a temporary one, removed at the end.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Listen on this port of the loopback address too, with a password; 0 for any.",
            show_default=False,
        ),
    ] = None,
    persistent: Annotated[
        bool, typer.Option("--persistent", help="Keep the data over restarts; needs --folder.")
    ] = False,
) -> None:
    """Run the bundled Valkey server until Ctrl-C or SIGTERM.

    It listens on a unix socket that only you may use. The first line of the
    output is its address, with the password if it has one; the second is the
    line that makes other commands use it. For development you need not start a
    server: DAEBUS_URL=embedded:// starts one when it is needed.

    Examples:
      daebus server
      daebus server --port 6390
      daebus server --folder ./data --persistent
    """
    if persistent and folder is None:
        raise SettingsError("--persistent needs a --folder for the data to stay in")
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="daebus-server-")))
        ends: SimpleQueue[int | None] = SimpleQueue()
        stack.enter_context(stop_on_signals(lambda: ends.put(None)))
        valkey = stack.enter_context(
            EmbeddedServer(folder.resolve(), port=port, persistent=persistent)
        )
        output.say(valkey.url, "bold")
        output.say(f"export DAEBUS_URL='{valkey.url}'")
        output.note(f"Valkey runs with pid {valkey.pid} in {folder}; Ctrl-C stops it")
        watcher = threading.Thread(
            target=lambda: ends.put(valkey.wait()), name="daebus-server-end", daemon=True
        )
        watcher.start()
        code = ends.get()
    if code is not None:
        output.fail(f"the server ended by itself with exit code {code}")
        raise typer.Exit(ExitCode.ERROR)
    output.note("Stopped")
