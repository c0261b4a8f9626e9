"""The work of a pipeline with spans: one for each event, or one for each batch.

Imported only where traces are wanted. An event's span belongs to the trace that the headers of
its record say, and its results carry that on. A batch's span begins a trace of its own, with links
to those of its events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from opentelemetry.context import Context, attach, detach
from opentelemetry.propagate import get_global_textmap
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)

from turbo_queue.pipeline.failures import described
from turbo_queue.pipeline.results import Step
from turbo_queue.records import Header, Record
from turbo_queue.spans import context_of, flush, headers_of, tracer

#: Does the work on a whole batch.
Together = Callable[[list[Record]], list[Record]]


#: What a span says.
Facts = dict[str, str | int]


class WorkSpans:
    """Makes the spans of one pipeline.

    Args:
        pipeline: Its name.
    """

    def __init__(self, pipeline: str) -> None:
        self._name = f"process {pipeline}"
        self._attributes: Facts = {
            "messaging.system": "turbo_queue",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": pipeline,
        }
        #: The names of the headers that carry a trace.
        self._fields = get_global_textmap().fields
        #: Has what was not exported yet exported.
        self.flush = flush

    def around_each(self, do: Step) -> Step:
        """The work on an event, in a span."""

        def do_in_span(record: Record, results: list[Record]) -> None:
            context = context_of(record)
            attributes: Facts = {**self._attributes, "turbo_queue.origin": record.origin}
            span = tracer.start_span(self._name, context, SpanKind.CONSUMER, attributes)
            made: list[Record] = []
            with _in_span(span, context) as headers:
                do(record, made)
            results += self._carrying(headers, made, of=self._trace_of(record))

        return do_in_span

    def around_all(self, do: Together) -> Together:
        """The work on a batch, in a span."""

        def do_in_span(records: list[Record]) -> list[Record]:
            attributes: Facts = {**self._attributes, "messaging.batch.message_count": len(records)}
            span = tracer.start_span(
                self._name, Context(), SpanKind.CONSUMER, attributes, list(_links_to(records))
            )
            with _in_span(span, Context()) as headers:
                made = do(records)
            return self._carrying(headers, made, of=[])

        return do_in_span

    def _carrying(
        self, headers: tuple[Header, ...], results: list[Record], of: list[Header]
    ) -> list[Record]:
        """The results with the headers that carry the trace on, unless they have others.

        Args:
            headers: those.
            results: what was made.
            of: the headers that carried the trace here, which a result may have taken over.
        """
        return [
            result.replace(headers=(*self._other_than_trace(result), *headers))
            if self._trace_of(result) in ([], of)
            else result
            for result in results
        ]

    def _trace_of(self, record: Record) -> list[Header]:
        return [header for header in record.headers if header[0] in self._fields]

    def _other_than_trace(self, record: Record) -> list[Header]:
        return [header for header in record.headers if header[0] not in self._fields]


def _links_to(records: list[Record]) -> Iterator[Link]:
    for record in records:
        if record.headers:
            context = get_current_span(context_of(record)).get_span_context()
            if context.is_valid:
                yield Link(context)


@contextmanager
def _in_span(span: Span, context: Context) -> Iterator[tuple[Header, ...]]:
    """Run work in its span; gives the headers that carry its trace on."""
    here = set_span_in_context(span, context)
    token = attach(here)
    try:
        yield headers_of(here)
    except BaseException as error:
        _fail(span, error)
        raise
    finally:
        detach(token)
        span.end()


def _fail(span: Span, error: BaseException) -> None:
    try:
        span.record_exception(error)
    except Exception:  # noqa: BLE001, S110 - the user's __str__ may raise anything
        pass
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(StatusCode.ERROR, described(error))
