"""Daebus, as it is in this checkout, while it is looked at: metrics, and traces."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from time import perf_counter

from common import PAYLOAD, cpu_s, give, main, ready, time_calls
from opentelemetry import trace as tracing
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from daebus import Daebus, DaebusCaller, request, response


class Nowhere(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


def trace(share: float) -> None:
    """Make spans of this share of the requests, in batches to an exporter that drops them."""
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)))
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    tracing.set_tracer_provider(provider)


def options_of(traces: float | None) -> dict[str, bool]:
    """What switches traces on, of this share."""
    if traces is None:
        return {}
    trace(traces)
    return {"traces": True}


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}"


def serve(port: int, service: str, metrics_port: int | None, traces: float | None) -> None:
    more = options_of(traces)
    app = Daebus("bench", url=url(port), metrics_port=metrics_port, **more)

    @app.action("echo")
    def echo() -> object:
        return response.send(request.payload)

    app.start(service)
    ready()
    threading.Event().wait()


def submit(port: int, service: str, count: int, traces: float | None) -> None:
    """The rate with 500 under way, and the latency of one after the other."""
    with DaebusCaller(service, url(port), **options_of(traces)) as caller:
        under_way: deque = deque(caller.submit("echo", PAYLOAD) for _ in range(500))
        for future in under_way:
            future.result()
        under_way.clear()
        began, cpu = perf_counter(), cpu_s()
        for _ in range(count):
            if len(under_way) >= 500:
                under_way.popleft().result()
            under_way.append(caller.submit("echo", PAYLOAD))
        for future in under_way:
            future.result()
        rate, cpu_us = count / (perf_counter() - began), (cpu_s() - cpu) / count * 1e6
        give(
            rate=rate,
            cpu_us=cpu_us,
            **time_calls(lambda: caller.call("echo", PAYLOAD), count // 100),
        )


main(serve=serve, submit=submit)
