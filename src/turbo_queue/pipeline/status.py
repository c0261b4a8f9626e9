"""The status port of a running pipeline: whether it is live and ready, and its metrics.

Imported only when such a port is asked for; it needs the standard library's HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from turbo_queue.errors import PipelineFailed, SettingsError
from turbo_queue.pipeline.condition import Condition
from turbo_queue.pipeline.plan import Plan
from turbo_queue.queue import Queue
from turbo_queue.settings import Address
from turbo_queue.status_port import LIVE, METRICS, READY, Page, StatusPort, page_or_why_not, probe

logger = logging.getLogger("turbo_queue.pipeline")

#: How long an answer may take that is being given while the pipeline ends, in seconds.
LAST_ANSWER_S = 1.0


@contextmanager
def serving(address: Address, plan: Plan, look: Callable[[], Condition]) -> Iterator[None]:
    """Serve `/live`, `/ready` and `/metrics` in this block.

    Args:
        address: Where.
        plan: What the pipeline does.
        look: Gives its condition; safe from any thread.

    Raises:
        PipelineFailed: the port cannot be had.
    """
    pages = {
        LIVE: probe(lambda: look().why_not_live),
        READY: probe(lambda: look().why_not_ready),
        METRICS: page_or_why_not(lambda: _metrics(plan, look)),
    }
    port = StatusPort(pages, port=address.port, host=address.host)
    try:
        port.start()
    except SettingsError as error:
        raise PipelineFailed(f"the pipeline cannot start: {error}") from error
    logger.info("metrics and probes are at %s", port.url, extra={"event": "pipeline.status"})
    try:
        yield
    finally:
        port.join(LAST_ANSWER_S)


def _metrics(plan: Plan, look: Callable[[], Condition]) -> Page:
    from turbo_queue.metrics import QueueCollector, metrics_page  # noqa: PLC0415 - an extra
    from turbo_queue.pipeline.metrics import PipelineCollector  # noqa: PLC0415

    queues = (plan.incoming, plan.retries, plan.outgoing, plan.dead)
    return metrics_page(
        PipelineCollector(plan.folder.name, look),
        QueueCollector({_label(plan, queue): queue for queue in queues}),
    )


def _label(plan: Plan, queue: Queue) -> str:
    """What the queue is called: `orders/in`, or the path of one that is not the pipeline's own."""
    if queue.path.parent == plan.folder:
        return f"{plan.folder.name}/{queue.path.name}"
    return str(queue.path)
