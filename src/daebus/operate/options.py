"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The server: redis://, rediss://, unix:// or embedded://. "
        "Else the environment's DAEBUS_URL, else redis://localhost:6379.",
        show_default=False,
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

Spool = Annotated[
    Path | None,
    typer.Option(
        "--spool",
        metavar="FOLDER",
        help="Where services of this machine keep files. "
        "Else the environment's DAEBUS_SPOOL, else ~/.local/state/daebus.",
        show_default=False,
    ),
]

Folders = Annotated[
    list[Path] | None,
    typer.Option(
        "--folder",
        metavar="PATH",
        help="A queue, a pipeline, or a folder that has some; give it several times for more. "
        "Else the environment's DAEBUS_FOLDERS, else where services keep files.",
        show_default=False,
    ),
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        min=0,
        max=65535,
        help="Serve /metrics for Prometheus, /live and /ready at this port; 0 for any. "
        "Else DAEBUS_METRICS_PORT, else none.",
        show_default=False,
    ),
]

MetricsHost = Annotated[
    str | None,
    typer.Option(
        "--metrics-host",
        metavar="ADDRESS",
        help="Where that port listens. Else DAEBUS_METRICS_HOST, else 127.0.0.1.",
        show_default=False,
    ),
]

Service = Annotated[
    str, typer.Argument(metavar="SERVICE", help="The service's name.", show_default=False)
]

Action = Annotated[
    str, typer.Argument(metavar="ACTION", help="The action's name.", show_default=False)
]

Payload = Annotated[
    str | None,
    typer.Argument(
        metavar="JSON",
        help="The payload: any JSON value, or - to read it from stdin. Left out, it is {}.",
        show_default=False,
    ),
]

Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.001,
        help="How long to wait for a response, and for each further one. "
        "Else the environment's DAEBUS_TIMEOUT, else 30.",
        show_default=False,
    ),
]
