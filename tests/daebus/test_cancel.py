"""A request that nobody wants any more is not started, and what runs is ended or told."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import signal
import threading
from collections.abc import Callable
from time import monotonic

import pytest
import redis

from daebus import Daebus, DaebusCaller, request, response
from daebus.service.control import MAX_REMEMBERED, Cancellations
from fixtures.processes import Processes
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Service:
    """One thread, one event loop, and what came of each handler."""

    def __init__(self, **settings: object) -> None:
        self.app = Daebus("app", **{"max_workers": 1, **settings})
        self.ran: list[object] = []
        self.ends: list[str] = []
        self.begun = threading.Event()
        self.released = threading.Event()
        self.app.action("block")(self._block)
        self.app.action("run")(self._run)
        self.app.action("watch")(self._watch)
        self.app.action("sleep")(self._sleep)
        self.app.action("tick")(self._tick)

    def _block(self) -> None:
        self.begun.set()
        assert self.released.wait(30)

    def _run(self) -> None:
        self.ran.append(request.payload)

    def _watch(self) -> None:
        """Works in a thread until nobody wants the result."""
        self.begun.set()
        eventually(lambda: request.is_cancelled, timeout_s=20)
        self.ends.append("saw it")

    async def _sleep(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise

    async def _tick(self, times: int) -> str:
        try:
            for number in range(times):
                response.send(number, final=False)
                await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        assert not request.is_cancelled
        return "over"

    def cancelled(self) -> int:
        return self.app.stats().incidents.get("cancelled", 0)


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
def test_a_cancelled_request_is_not_started(start: Start, delivery: str) -> None:
    service = Service(delivery=delivery, prefetch=1)
    caller = start(service.app)
    blocking = caller.submit("block")
    assert service.begun.wait(10)

    futures = [caller.submit("run", number) for number in range(3)]
    assert futures[1].cancel()
    eventually(lambda: service.app._lifecycle._parts.handling._cancelled)  # It has heard of that.
    service.released.set()

    assert concurrent.futures.wait(futures, 10).not_done == set()
    blocking.result(10)
    eventually(lambda: service.cancelled() == 1)
    assert service.ran == [0, 2]
    assert futures[1].cancelled()
    assert caller._calling.replies.under_way == 0


def test_an_async_handler_is_cancelled(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    future = caller.submit("sleep")
    assert service.begun.wait(10)

    assert caller.cancel(future)

    eventually(lambda: service.ends == ["cancelled"], timeout_s=2)
    assert service.cancelled() == 1
    assert caller.call("run") is None
    # The answer that nobody waits for is no news to the caller.
    assert caller._calling.replies.incidents.counts() == {}


def test_a_handler_in_a_thread_can_see_it(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    future = caller.submit("watch")
    assert service.begun.wait(10)

    future.cancel()

    eventually(lambda: service.ends == ["saw it"], timeout_s=2)


def test_to_cancel_twice_or_too_late_does_nothing(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    late = caller.submit("run", 1)
    assert late.result(10) is None
    future = caller.submit("sleep")
    assert service.begun.wait(10)

    assert not late.cancel()
    assert future.cancel()
    assert future.cancel()

    eventually(lambda: service.ends == ["cancelled"])
    assert service.cancelled() == 1


def test_a_stream_that_is_left_early_cancels_its_handler(start: Start) -> None:
    service = Service()
    stream = start(service.app).stream("tick", {"times": 1000})
    assert next(stream) == 0

    stream.close()

    eventually(lambda: service.ends == ["cancelled"], timeout_s=2)


def test_a_stream_that_was_never_begun_cancels_its_handler(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    stream = caller.stream("sleep")
    assert service.begun.wait(10)

    del stream

    eventually(lambda: service.ends == ["cancelled"], timeout_s=2)
    assert caller._calling.replies.under_way == 0


def test_a_stream_may_take_longer_than_the_wait_for_one_response(start: Start) -> None:
    service = Service()
    caller = start(service.app)

    assert list(caller.stream("tick", {"times": 8}, timeout=0.5)) == [*range(8), "over"]


def test_an_async_handler_is_cancelled_when_its_callers_time_is_over(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    began = monotonic()

    with pytest.raises(TimeoutError):
        caller.call("sleep", timeout=0.3)

    eventually(lambda: service.ends == ["cancelled"], timeout_s=2)
    assert monotonic() - began < 1.5
    eventually(lambda: service.app.stats().incidents.get("expired") == 1)


def test_a_handler_in_a_thread_sees_that_its_callers_time_is_over(start: Start) -> None:
    service = Service()
    caller = start(service.app)

    with pytest.raises(TimeoutError):
        caller.call("watch", timeout=0.3)

    eventually(lambda: service.ends == ["saw it"], timeout_s=2)


def test_a_message_is_not_cancelled_once_it_is_started(start: Start) -> None:
    service, seen = Service(), []
    app = service.app

    @app.action("note")
    async def note() -> None:
        await asyncio.sleep(0.4)
        seen.append(request.is_cancelled)

    assert start(app).send_message("note", expires=0.1) == 1

    eventually(lambda: seen == [False])


def test_a_message_that_has_expired_is_not_started(start: Start) -> None:
    service = Service()
    caller = start(service.app)
    caller.submit("block")
    assert service.begun.wait(10)

    caller.send_message("run", "late", expires=0.1)
    caller.send_message("run", "in time", expires=30)
    caller.send_message("run", "any time", timeout=1)
    threading.Event().wait(0.2)  # Until the first of them has expired.
    service.released.set()

    eventually(lambda: service.ran == ["in time", "any time"])
    assert service.app.stats().incidents["expired"] == 1


CALLING = """
import sys
from daebus import *
with DaebusCaller(sys.argv[1]) as caller:
    caller.call("run")
    print("calling", flush=True)
    try:
        caller.call("sleep")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_cancels_the_call(start: Start, url: str, processes: Processes) -> None:
    service = Service()
    name = start(service.app).service
    program = processes.python(CALLING, name, env={"DAEBUS_URL": url})
    program.wait_for("calling")
    assert service.begun.wait(10)

    program.signal(signal.SIGINT)

    assert program.wait() == 0, program.output
    assert "interrupted" in program.output
    eventually(lambda: service.ends == ["cancelled"], timeout_s=5)


def test_what_cannot_be_read_on_the_control_channel_is_counted(start: Start, url: str) -> None:
    service = Service()
    caller = start(service.app)
    with redis.Redis.from_url(url) as client:
        for data in (b"\xff", b"{}", b'{"cancel": 5}', b"[]", json.dumps({"cancel": "x" * 99})):
            assert client.publish(f"daebus:{{{caller.service}}}:control", data) == 1

    eventually(lambda: service.app.stats().incidents.get("bad_message") == 4)
    assert caller.call("run") is None


def test_the_memory_of_cancelled_requests_is_bounded() -> None:
    cancellations = Cancellations()
    for number in range(MAX_REMEMBERED + 500):
        cancellations.add(str(number))

    assert len(cancellations.ids) == MAX_REMEMBERED
    assert str(MAX_REMEMBERED + 499) in cancellations.ids
    assert "0" not in cancellations.ids


def test_a_long_id_is_not_remembered(start: Start, url: str) -> None:
    service = Service()
    caller = start(service.app)
    cancelled = service.app._lifecycle._parts.handling._cancelled
    with redis.Redis.from_url(url) as client:
        for request_id in ("x" * 500_000, "short"):
            text = json.dumps({"cancel": request_id})
            client.publish(f"daebus:{{{caller.service}}}:control", text)

    eventually(lambda: list(cancelled) == ["short"])
    assert service.app.stats().incidents["bad_message"] == 1
