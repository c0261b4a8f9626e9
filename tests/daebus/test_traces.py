"""Traces: from a caller through services and their worker processes, in the headers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from time import monotonic

import pytest
import redis
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach

from daebus import (
    BadMessage,
    Broadcast,
    CallTimeout,
    Daebus,
    DaebusCaller,
    RemoteError,
    SettingsError,
    request,
    response,
)
from fixtures import traced_handlers
from fixtures.processes import Processes
from fixtures.spans import Spans, hang_at_flush, set_up
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]

#: A span somewhere else.
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def make_app(**settings: object) -> Daebus:
    app = Daebus("app", **{"traces": True, **settings})

    @app.action("add")
    def add(a: int, b: int = 0) -> int:
        return a + b

    @app.action("add_soon")
    async def add_soon(a: int, b: int = 0) -> int:
        await asyncio.sleep(0)
        return a + b

    @app.action("headers")
    def headers() -> dict[str, str]:
        return dict(request.headers)

    @app.action("fail")
    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    @app.action("refuse")
    async def refuse() -> None:
        response.error("not today")

    @app.action("count")
    def count() -> None:
        response.send(1, final=False)
        response.send(2)

    return app


@pytest.fixture
def serve(start: Start, service_name: str, url: str, spans: Spans) -> Iterator[Start]:
    """Start an app and give a caller of it that traces."""
    callers: list[DaebusCaller] = []

    def serve_app(app: Daebus) -> DaebusCaller:
        start(app)
        callers.append(DaebusCaller(service_name, url, timeout=10.0, traces=True))
        return callers[-1]

    yield serve_app
    for caller in callers:
        caller.close()


CALLS: dict[str, Callable[[DaebusCaller], object]] = {
    "call": lambda caller: caller.call("add", {"a": 1}),
    "call of an async handler": lambda caller: caller.call("add_soon", {"a": 1}),
    "send_request": lambda caller: caller.send_request("add", {"a": 1}),
    "submit": lambda caller: caller.submit("add", {"a": 1}).result(10),
    "stream": lambda caller: list(caller.stream("add", {"a": 1}))[-1],
}


@pytest.mark.parametrize("way", CALLS)
def test_a_call_and_its_handler_are_one_trace(serve: Start, spans: Spans, way: str) -> None:
    caller = serve(make_app())

    assert CALLS[way](caller) == 1

    client, server = sorted(spans.wait_for(2), key=lambda span: span.kind)
    assert (client.kind, server.kind) == ("CLIENT", "SERVER")
    assert client.name == server.name == server.attributes["rpc.method"]
    assert server.parent_id == client.id
    assert server.trace_id == client.trace_id
    assert server.attributes["rpc.system.name"] == "daebus"
    assert server.attributes["daebus.delivery_count"] == 1
    assert 0 < server.attributes["daebus.waited_s"] < 10


def test_a_stream_ends_its_span_with_the_final_response(serve: Start, spans: Spans) -> None:
    stream = serve(make_app()).stream("count")

    assert next(stream) == 1
    spans.one("SERVER")
    assert [span.kind for span in spans.all()] == ["SERVER"]
    assert list(stream) == [2]

    assert spans.one("CLIENT").status == "UNSET"


def test_a_message_without_reply_is_produced_and_consumed(
    serve: Start, spans: Spans, service_name: str
) -> None:
    serve(make_app()).send_message("add", {"a": 1})

    sent, handled = spans.one("PRODUCER"), spans.one("CONSUMER")
    assert (sent.name, handled.name) == (f"send {service_name}/add", f"process {service_name}/add")
    assert handled.parent_id == sent.id
    assert handled.attributes["messaging.destination.name"] == f"{service_name}/add"


def test_a_listener_begins_a_trace(serve: Start, spans: Spans, broadcaster: Broadcast) -> None:
    app = make_app()
    app.listen("traced.*")(lambda data: None)
    serve(app)

    broadcaster.send("traced.one", 1)

    span = spans.one("CONSUMER")
    assert (span.name, span.parent_id) == ("process traced.*", None)
    assert span.attributes["messaging.destination.name"] == "traced.one"
    assert span.attributes["messaging.destination.template"] == "traced.*"


def test_what_a_handler_raises_is_recorded(serve: Start, spans: Spans) -> None:
    with pytest.raises(RemoteError):
        serve(make_app()).call("fail")

    server, client = spans.one("SERVER"), spans.one("CLIENT")
    assert (server.status, client.status) == ("ERROR", "ERROR")
    assert server.exceptions == [server.attributes["error.type"]] == ["ZeroDivisionError"]
    assert "on purpose" in str(server.error)
    assert client.attributes["error.type"] == "handler_error"


def test_an_error_that_is_answered_is_recorded(serve: Start, spans: Spans) -> None:
    with pytest.raises(RemoteError):
        serve(make_app()).call("refuse")

    for span in (spans.one("SERVER"), spans.one("CLIENT")):
        assert (span.status, span.error) == ("ERROR", "not today")
        assert span.attributes["rpc.response.status_code"] == "error"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_time_limit_that_passes_is_recorded(serve: Start, spans: Spans, is_async: bool) -> None:
    app, ended = make_app(), threading.Event()

    async def sleep() -> None:
        await asyncio.sleep(10)

    app.action("slow", timeout=0.1)(sleep if is_async else lambda: ended.wait(10))
    caller = serve(app)

    with pytest.raises(RemoteError, match=r"0\.1 s"):
        caller.call("slow")
    ended.set()

    assert spans.one("SERVER").status == "ERROR"
    assert spans.one("CLIENT").attributes["error.type"] == "handler_timeout"


def test_a_result_that_nobody_can_send_is_told_to_the_caller(serve: Start, spans: Spans) -> None:
    app = make_app()
    app.action("object")(object)

    with pytest.raises(RemoteError):
        serve(app).call("object")

    assert spans.one("CLIENT").attributes["error.type"] == "handler_error"


def test_calls_that_end_otherwise_end_their_spans(serve: Start, spans: Spans) -> None:
    app, ended = make_app(), threading.Event()
    app.action("wait")(lambda: ended.wait(10))
    caller = serve(app)

    with pytest.raises(CallTimeout):
        caller.call("wait", timeout=0.1)
    future = caller.submit("wait")
    future.cancel()
    with pytest.raises(CancelledError):
        future.result()
    caller.stream("wait").close()  # type: ignore[attr-defined]
    with pytest.raises(BadMessage):
        caller.submit("wait", object())
    ended.set()

    eventually(lambda: [span.kind for span in spans.all()].count("CLIENT") == 4)
    errors = [span.attributes["error.type"] for span in spans.all() if span.kind == "CLIENT"]
    assert errors == [
        "daebus.errors.CallTimeout",
        "cancelled",
        "cancelled",
        "daebus.errors.BadMessage",
    ]


def test_what_a_handler_calls_belongs_to_its_span(
    serve: Start, spans: Spans, service_name: str
) -> None:
    app = make_app()

    @app.action("outer")
    def outer() -> int:
        span = trace.get_tracer("user").start_as_current_span("mine")
        with span, DaebusCaller(service_name, traces=True) as traced:
            return int(traced.call("add", {"a": 1}))

    @app.action("outer_untraced")
    async def outer_untraced() -> int:
        with DaebusCaller(service_name) as plain:
            return int(await asyncio.to_thread(plain.call, "add", {"a": 1}))

    caller = serve(app)
    caller.call("outer")
    caller.call("outer_untraced")

    assert spans.tree(8, service_name) == [
        "CLIENT svc/outer",
        "  SERVER svc/outer",
        "    INTERNAL mine",
        "      CLIENT svc/add",
        "        SERVER svc/add",
        "CLIENT svc/outer_untraced",
        "  SERVER svc/outer_untraced",
        "    SERVER svc/add",
    ]


def test_any_client_may_send_the_context(start: Start, spans: Spans) -> None:
    caller = start(make_app())  # It does not trace.

    caller.call("add", {"a": 1}, headers={"traceparent": PARENT})

    span = spans.one("SERVER")
    assert f"00-{span.trace_id[2:]}-{str(span.parent_id)[2:]}-01" == PARENT


def test_a_caller_goes_on_with_the_trace_that_its_headers_say(serve: Start, spans: Spans) -> None:
    headers = {"traceparent": PARENT, "tracestate": "shop=1", "user": "ada"}

    seen = serve(make_app()).call("headers", headers=headers)

    client = spans.one("CLIENT")
    assert str(client.parent_id)[2:] in PARENT
    assert seen == headers | {"traceparent": PARENT.replace(PARENT[36:52], client.id[2:])}


def test_baggage_reaches_the_handler(serve: Start, spans: Spans) -> None:
    app = make_app()
    app.action("baggage")(lambda: baggage.get_baggage("shop"))
    caller = serve(app)

    token = attach(baggage.set_baggage("shop", "berlin"))
    try:
        assert caller.call("baggage") == "berlin"
    finally:
        detach(token)


def test_headers_that_are_nonsense_begin_a_new_trace(
    start: Start, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    caller = start(make_app())
    nonsense = {"traceparent": "00-x", "tracestate": "=\n,", "baggage": "a\nERROR forged=,\x1b[31m"}

    assert caller.call("add", {"a": 1}, headers=nonsense) == 1

    assert spans.one("SERVER").parent_id is None
    assert "forged" not in caplog.text


def test_headers_that_are_too_long_for_a_trace_stay_where_they_are(
    start: Start, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()

    @app.action("outer")
    def outer() -> dict[str, str]:
        with DaebusCaller(app.stats().service) as inner:
            return dict(inner.call("headers"))

    caller = start(app)
    long = {"tracestate": "a=1," * 5000, "baggage": "b=2," * 5000, "traceparent": "c" * 20_000}

    assert caller.call("headers", headers=long) == long
    assert len(caller.call("outer", headers={**long, "traceparent": PARENT})) == 1
    assert "b=2,b=2" not in caplog.text


def test_a_name_without_end_does_not_fill_the_memory_of_spans(
    start: Start, spans: Spans, url: str, service_name: str
) -> None:
    start(make_app())
    sent = {"action": "add", "payload": {"a": 1}, "service": "x" * 100_000}

    with redis.Redis.from_url(url) as client:
        client.publish(service_name, json.dumps(sent))

    assert spans.one("CONSUMER").attributes["daebus.caller"] == "x" * 200


def test_a_service_that_does_not_trace_passes_the_trace_on(start: Start, service_name: str) -> None:
    app = make_app(traces=False)

    @app.action("outer")
    def outer(headers: dict[str, str] | None = None) -> dict[str, str]:
        with DaebusCaller(service_name) as inner:
            return dict(inner.call("headers", headers=headers))

    caller = start(app)
    theirs = {"traceparent": PARENT, "tracestate": "shop=1", "baggage": "a=1"}

    assert caller.call("outer", headers={**theirs, "user": "ada"}) == theirs
    mine = {"traceparent": PARENT.replace("0af", "0bf"), "user": "eve"}
    assert caller.call("outer", {"headers": mine}, headers=theirs) == {"baggage": "a=1", **mine}
    assert caller.call("outer") == {}
    assert caller.call("outer", headers={"traceparent": PARENT, "baggage": "a" * 20_000}) == {
        "traceparent": PARENT
    }


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_the_trace_goes_on_in_worker_processes(
    serve: Start, spans: Spans, service_name: str, start_method: str, tmp_path: object
) -> None:
    app = Daebus("app", processes=2, start_method=start_method, traces=True)
    app.action("order", workers="process")(traced_handlers.order)
    app.on_worker_start(set_up)
    caller = serve(app)

    pids = [
        caller.call("order", {"folder": f"{tmp_path}/queue", "number": number})
        for number in range(10)
    ]
    app.stop()  # Each process exports what it has when it ends.

    assert spans.tree(20, service_name) == ["CLIENT svc/order", "  SERVER svc/order"] * 10
    handled = [span.pid for span in spans.all() if span.kind == "SERVER"]
    assert handled == pids
    assert os.getpid() not in handled


def test_a_collector_that_does_not_answer_holds_up_no_stop(start: Start, spans: Spans) -> None:
    app = Daebus("app", processes=1, start_method="fork", grace=20.0, traces=True)
    app.action("pid", workers="process")(os.getpid)
    app.on_worker_start(hang_at_flush)
    start(app).call("pid")

    began = monotonic()
    app.stop()

    assert monotonic() - began < 10


def test_a_service_that_ends_exports_its_last_spans(
    url: str, service_name: str, spans: Spans, processes: Processes
) -> None:
    service = processes.python(
        """
        import sys
        sys.path.insert(0, "tests")
        from daebus import Daebus
        from fixtures import spans
        spans.set_up()
        app = Daebus("app", traces=True)
        app.action("echo")(lambda: 1)
        app.run(sys.argv[1])
        """,
        service_name,
    )
    service.wait_for("is ready")

    with DaebusCaller(service_name) as caller:
        caller.call("echo")
    service.signal(signal.SIGTERM)

    assert service.wait() == 0
    assert spans.one("SERVER").pid == service.pid


def test_a_message_that_is_delivered_again_stays_in_its_trace(serve: Start, spans: Spans) -> None:
    app = Daebus("app", delivery="stream", lease=0.3, traces=True)

    @app.action("work")
    def work() -> None:
        if request.delivery_count == 1:
            raise ConnectionError("try again")

    serve(app).send_message("work")

    sent, first, second = spans.wait_for(3)
    assert [sent.kind, first.kind, second.kind] == ["PRODUCER", "CONSUMER", "CONSUMER"]
    assert first.parent_id == second.parent_id == sent.id
    assert [each.attributes["daebus.delivery_count"] for each in (first, second)] == [1, 2]
    assert [first.status, second.status] == ["ERROR", "UNSET"]
    assert first.attributes["messaging.message.id"] == second.attributes["messaging.message.id"]


def test_an_answer_that_is_given_again_runs_no_handler(
    serve: Start, spans: Spans, service_name: str
) -> None:
    caller = serve(make_app())

    for _ in range(2):
        assert caller.call("add", {"a": 1}, idempotency_key="once") == 1

    assert spans.tree(3, service_name) == [
        "CLIENT svc/add",
        "  SERVER svc/add",
        "CLIENT svc/add",
    ]


def test_built_in_actions_make_no_spans(start: Start, spans: Spans) -> None:
    caller = start(make_app())

    caller.call("daebus.ping")
    caller.call("add", {"a": 1})

    spans.one("SERVER")


def test_nothing_of_it_is_needed_where_traces_are_off(
    url: str, processes: Processes, service_name: str
) -> None:
    program = processes.python(
        """
        import sys
        sys.modules["opentelemetry"] = None  # Whoever imports it fails.
        from daebus import Daebus, DaebusCaller, request
        from turbo_queue.tracing import current_headers
        app = Daebus("app")
        app.action("inner")(lambda: request.headers["traceparent"])
        app.action("outer")(lambda: DaebusCaller(sys.argv[1]).call("inner"))
        app.start(sys.argv[1])
        with DaebusCaller(sys.argv[1]) as caller:
            found = caller.call("outer", headers={"traceparent": "theirs"})
        app.stop()
        print(found, current_headers(), [name for name in sys.modules if "spans" in name])
        """,
        service_name,
    )

    program.wait_for("theirs () []")


@pytest.mark.parametrize(
    "program",
    [
        "from daebus import Daebus; Daebus('app', traces=True)",
        "from daebus import DaebusCaller; DaebusCaller('app', traces=True)",
        "from turbo_queue.pipeline import *; Pipeline(None, str, None, traces=True)",
    ],
)
def test_traces_without_the_package_say_what_to_install(processes: Processes, program: str) -> None:
    hidden = "import sys; sys.modules['opentelemetry'] = None; "

    ended = processes.python(hidden + program)

    ended.wait_for(
        "SettingsError: traces need OpenTelemetry's API, which is not installed: pip "
        "install 'daebus[traces]'"
    )


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_environment_may_ask_for_traces(
    start: Start, spans: Spans, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("DAEBUS_TRACES", value)

    start(make_app(traces=None)).call("add", {"a": 1})

    assert {span.kind for span in spans.wait_for(2)} == {"CLIENT", "SERVER"}


def test_a_switch_that_says_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAEBUS_TRACES", "maybe")

    with pytest.raises(SettingsError, match="traces is 'maybe'; it must be 1 or 0"):
        Daebus("app")


def test_a_switch_that_is_no_truth_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="traces is 1; it must be True or False"):
        Daebus("app", traces=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("package", ["daebus", "turbo_queue"])
def test_a_propagator_that_there_is_not_is_told(processes: Processes, package: str) -> None:
    program = f"from {package}.tracing import is_wanted\nis_wanted(True)"

    process = processes.python(program, env={"OTEL_PROPAGATORS": "nonsense"})

    assert process.wait() == 1
    assert "SettingsError: traces cannot be made as OTEL_PROPAGATORS says" in process.output
    assert "nonsense" in process.output
