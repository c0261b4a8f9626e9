"""`async def` handlers run side by side on one event loop, beside the threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from daebus import (
    Broadcast,
    Daebus,
    DaebusCaller,
    HandlerTimeout,
    RemoteError,
    ServiceStopping,
    request,
    response,
)

Start = Callable[[Daebus], DaebusCaller]


def test_many_run_at_once_each_with_its_own_context(start: Start) -> None:
    app, waiting = Daebus("app", max_workers=1), []
    gate: list[asyncio.Event] = []

    @app.action("meet")
    async def meet(number: int) -> list[object]:
        if not gate:
            gate.append(asyncio.Event())
        waiting.append(number)
        if len(waiting) == 50:
            gate[0].set()
        await gate[0].wait()
        return [number, request.payload["number"], threading.current_thread().name]

    caller = start(app)
    futures = [caller.submit("meet", {"number": number}) for number in range(50)]

    results = [future.result(10) for future in futures]
    assert results == [[number, number, "daebus-event-loop"] for number in range(50)]


def test_they_stream_and_fail_as_threads_do(start: Start) -> None:
    app = Daebus("app")

    @app.action("stream")
    async def stream() -> str:
        response.send(1, final=False)
        await asyncio.sleep(0)
        return "end"

    @app.action("fail")
    async def fail() -> None:
        raise ValueError("on purpose")

    caller = start(app)

    assert list(caller.stream("stream")) == [1, "end"]
    with pytest.raises(RemoteError, match="ValueError: on purpose"):
        caller.call("fail")


def test_a_time_limit_cancels_the_handler(start: Start) -> None:
    app, cancelled = Daebus("app"), threading.Event()

    @app.action("slow", timeout=0.1)
    async def slow() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(HandlerTimeout):
        start(app).call("slow")
    assert cancelled.wait(10)


def test_a_handlers_own_timeout_is_an_error_of_the_handler(start: Start) -> None:
    app = Daebus("app")

    @app.action("slow", timeout=30)
    async def slow() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(RemoteError, match="of its own") as raised:
        start(app).call("slow")
    assert raised.value.code == "handler_error"


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
def test_a_handler_whose_own_task_was_cancelled_has_failed(start: Start, delivery: str) -> None:
    app, runs = Daebus("app", delivery=delivery, lease=0.3), []

    @app.action("gather")
    async def gather() -> None:
        runs.append(request.request_id)
        part = asyncio.get_running_loop().create_future()
        part.cancel()
        await part

    with pytest.raises(RemoteError, match="CancelledError") as raised:
        start(app).call("gather")
    assert raised.value.code == "handler_error"
    assert len(runs) == 1


def test_a_stop_cancels_what_does_not_finish_in_time(start: Start) -> None:
    app, started = Daebus("app", grace=0.2), threading.Event()

    @app.action("slow")
    async def slow() -> None:
        started.set()
        await asyncio.sleep(30)

    future = start(app).submit("slow")
    assert started.wait(10)
    app.stop()

    assert isinstance(future.exception(10), ServiceStopping)


def test_listeners_may_be_async(start: Start, broadcaster: Broadcast, service_name: str) -> None:
    app, heard = Daebus("app"), threading.Event()

    @app.listen(service_name + ".a")
    async def on(data: int) -> None:
        await asyncio.sleep(0)
        if data == 7:
            heard.set()

    start(app)
    broadcaster.send(service_name + ".a", 7)

    assert heard.wait(10)
