"""`turbo-queue metrics`: queues as metrics for Prometheus, printed once or served."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from turbo_queue.operate import options, output
from turbo_queue.operate.stopping import Stop
from turbo_queue.settings import metrics_address
from turbo_queue.status_port import LIVE, METRICS, READY, StatusPort, probe

#: How long it looks for a signal before it looks again, in seconds; a signal ends the wait at once.
_WAIT_S = 3600.0

#: How long an answer may take that is being given at the end, in seconds.
_LAST_ANSWER_S = 1.0


def metrics(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="The queues' folders.", show_default=False),
    ],
    *,
    metrics_port: options.MetricsPort = None,
    metrics_host: options.MetricsHost = None,
) -> None:
    """Print what is in queues as metrics for Prometheus, or serve it at a port until Ctrl-C.

    For queues without a pipeline; 'turbo-queue run --metrics-port' serves those
    of its own. Each metric has the label "queue", the path as it is given here.
    Without a port they are printed once, as the textfile collector of
    node_exporter takes them. Needs the package prometheus-client.

    Examples:
      turbo-queue metrics ./orders
      turbo-queue metrics ./orders ./orders/dead --metrics-port 9102
      turbo-queue metrics /srv/queues/* > queues.prom.new && mv queues.prom.new queues.prom
    """
    queues = {str(path): options.existing(path) for path in paths}
    try:
        from turbo_queue.metrics import (  # noqa: PLC0415 - an extra
            QueueCollector,
            exposition,
            metrics_page,
        )
    except ImportError as error:
        output.stop(str(error))
    collector = QueueCollector(queues)
    address = metrics_address(metrics_port, metrics_host)
    if address is None:
        sys.stdout.write(exposition(collector).decode())
        return
    # It is well as long as it answers; how the queues are, the metrics say.
    pages = {LIVE: probe(list), READY: probe(list), METRICS: metrics_page(collector)}
    port = StatusPort(pages, port=address.port, host=address.host)
    with Stop() as stop:
        port.start()
        output.note(f"metrics are at {port.url}{METRICS}; Ctrl-C ends it")
        while not stop.wait(_WAIT_S):
            pass
        port.join(_LAST_ANSWER_S)
