"""Requests with an idempotency key: the first one runs, the others get its answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from daebus import (
    Daebus,
    DaebusCaller,
    HandlerTimeout,
    RemoteError,
    ReplicaLost,
    ServiceStopping,
    SettingsError,
    WorkerDied,
    request,
    response,
)
from daebus.bus.embedded import EmbeddedServer
from daebus.channels import answer_key
from daebus.messages import MAX_MESSAGE_BYTES, decode_request
from daebus.service.exchange import Exchange
from daebus.service.request import ActionRequest
from fixtures import process_handlers
from fixtures.listening import Subscriber
from fixtures.processes import Processes
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Shop:
    """Handlers that count how often they run, in a thread and on the event loop."""

    def __init__(self, **settings: object) -> None:
        self.app = Daebus("shop", **settings)
        self.runs = itertools.count(1)
        self.count = 0
        self.begun = threading.Event()
        self.released = threading.Event()
        self.app.action("buy")(self._buy)
        self.app.action("buy_async")(self._buy_async)
        self.app.action("fail")(self._fail)
        self.app.action("refuse")(self._refuse)
        self.app.action("hold")(self._hold)
        self.app.action("report")(self._report)

    def _buy(self) -> dict[str, object]:
        self.count += 1
        return {"order": self.count, "of": request.payload}

    async def _buy_async(self) -> dict[str, object]:
        await asyncio.sleep(0)
        return self._buy()

    def _fail(self) -> None:
        self.count += 1
        raise ValueError(f"failure {self.count}")

    def _refuse(self) -> None:
        self.count += 1
        response.error(f"refusal {self.count}")

    def _hold(self) -> int:
        self.count += 1
        self.begun.set()
        assert self.released.wait(30)
        return self.count

    def _report(self) -> str:
        self.count += 1
        response.send("half", final=False)
        return f"report {self.count}"


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
@pytest.mark.parametrize("action", ["buy", "buy_async"])
def test_a_repeat_gets_the_first_result(start: Start, action: str, delivery: str) -> None:
    shop = Shop(delivery=delivery)
    caller = start(shop.app)

    first = caller.call(action, {"item": 1}, idempotency_key="order-1")
    again = caller.submit(action, {"item": 2}, idempotency_key="order-1").result(10)
    other = caller.call(action, {"item": 3}, idempotency_key="order-2")

    assert first == again == {"order": 1, "of": {"item": 1}}
    assert other == {"order": 2, "of": {"item": 3}}
    assert shop.count == 2


@pytest.mark.parametrize("action", ["fail", "refuse"])
def test_a_repeat_gets_the_first_error(start: Start, shop: Shop, action: str) -> None:
    caller = start(shop.app)

    errors = []
    for _ in range(2):
        with pytest.raises(RemoteError) as error:
            caller.call(action, idempotency_key="once")
        errors.append((error.value.message, error.value.code))

    assert errors[0] == errors[1]
    assert shop.count == 1


def test_a_repeat_waits_while_the_first_is_running(start: Start, shop: Shop) -> None:
    caller = start(shop.app)
    first = caller.submit("hold", idempotency_key="once")
    assert shop.begun.wait(10)
    repeats = [caller.submit("hold", idempotency_key="once") for _ in range(5)]
    with pytest.raises(TimeoutError):
        repeats[0].result(0.3)

    shop.released.set()

    assert [each.result(10) for each in (first, *repeats)] == [1] * 6
    assert shop.count == 1


def test_a_repeat_runs_nothing_although_the_first_caller_has_given_up(
    start: Start, shop: Shop
) -> None:
    caller = start(shop.app)
    with pytest.raises(TimeoutError):
        caller.call("hold", idempotency_key="once", timeout=0.2)
    repeat = caller.submit("hold", idempotency_key="once")
    with pytest.raises(TimeoutError):
        repeat.result(0.3)

    shop.released.set()

    assert repeat.result(10) == 1
    assert shop.count == 1


def test_many_at_once_run_once_among_replicas(start: Start) -> None:
    shops = [Shop(), Shop()]
    callers = [start(shop.app) for shop in shops]

    with ThreadPoolExecutor(16) as pool:
        results = list(
            pool.map(lambda n: callers[0].call("buy", idempotency_key=f"k{n % 10}"), range(200))
        )

    assert sum(shop.count for shop in shops) == 10
    assert all(results[n] == results[n % 10] for n in range(200))


def test_after_the_window_it_runs_again(start: Start) -> None:
    shop = Shop(deduplication=0.2)
    caller = start(shop.app)

    assert caller.call("buy", idempotency_key="once")["order"] == 1
    eventually(lambda: caller.call("buy", idempotency_key="once")["order"] == 2, timeout_s=5)


def test_without_a_window_keys_mean_nothing(start: Start) -> None:
    shop = Shop(deduplication=0)
    caller = start(shop.app)

    assert [caller.call("buy", idempotency_key="once")["order"] for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
def test_a_message_runs_once(start: Start, delivery: str) -> None:
    shop = Shop(delivery=delivery)
    caller = start(shop.app)

    for _ in range(5):
        assert caller.send_message("buy", {"item": 1}, idempotency_key="once") == 1

    assert caller.call("buy", idempotency_key="once") == {"order": 1, "of": {"item": 1}}
    eventually(lambda: app_handled(shop) == 6)
    assert shop.count == 1


def test_a_message_that_fails_is_tried_again(start: Start) -> None:
    app, runs = Daebus("app", delivery="stream", lease=0.5), []

    @app.action("work")
    def work() -> int:
        runs.append(1)
        if len(runs) == 1:
            raise ValueError("not yet")
        return len(runs)

    caller = start(app)
    caller.send_message("work", idempotency_key="once")

    eventually(lambda: len(runs) == 2, timeout_s=20)
    assert caller.call("work", idempotency_key="once") == 2


def app_handled(shop: Shop) -> int:
    return shop.app.stats().handled


def test_a_repeated_stream_gets_the_final_response(start: Start, shop: Shop) -> None:
    caller = start(shop.app)

    assert list(caller.stream("report", idempotency_key="once")) == ["half", "report 1"]
    assert list(caller.stream("report", idempotency_key="once")) == ["report 1"]


@pytest.mark.leaves_threads
def test_a_request_that_was_cut_off_by_a_stop_runs_again(
    start: Start, service_name: str, shop: Shop
) -> None:
    stopping = Shop(grace=0.1)
    stopping.app.start(service_name)
    with DaebusCaller(service_name, timeout=10) as caller:
        future = caller.submit("hold", idempotency_key="once")
        assert stopping.begun.wait(10)
        stopping.app.stop()
        with pytest.raises(ServiceStopping):
            future.result(10)
        stopping.released.set()

        shop.released.set()
        assert start(shop.app).call("hold", idempotency_key="once") == 1


def test_a_key_that_is_no_text_is_refused(start: Start, shop: Shop) -> None:
    with pytest.raises(SettingsError, match="idempotency key"):
        start(shop.app).call("buy", idempotency_key="")


#: Dies, or is stopped, in the middle of its first run.
DYING = """
import os, sys, time
from pathlib import Path
from daebus import *
app = Daebus("dying", delivery=sys.argv[2], lease=0.5)
mark = Path(sys.argv[3])

@app.action("work")
def work():
    with mark.open("a") as runs:
        runs.write("run ")
    if mark.read_text() == "run ":
        os.kill(os.getpid(), int(sys.argv[4]))
        time.sleep(1)  # A stop reaches this thread a moment later.
    return mark.read_text()

app.run(sys.argv[1])
"""


def test_a_repeat_runs_at_once_when_the_first_replica_has_died(
    url: str, service_name: str, processes: Processes, tmp_path: object
) -> None:
    mark = str(tmp_path / "mark")
    for _ in range(2):
        options = (service_name, "pubsub", mark, str(int(signal.SIGKILL)))
        program = processes.python(DYING, *options, env={"DAEBUS_URL": url})
        program.wait_for("is ready at")

    with DaebusCaller(service_name, url, timeout=20) as caller:
        with pytest.raises(ReplicaLost):
            caller.call("work", idempotency_key="once")
        assert caller.call("work", idempotency_key="once", timeout=5) == "run run "
        assert caller.call("work", idempotency_key="once", timeout=5) == "run run "


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_message_that_is_delivered_again_is_no_repeat(
    url: str, service_name: str, processes: Processes, tmp_path: object, number: int
) -> None:
    mark = str(tmp_path / "mark")
    for _ in range(2):
        options = (service_name, "stream", mark, str(int(number)))
        program = processes.python(DYING, *options, env={"DAEBUS_URL": url})
        program.wait_for("is ready at")

    with DaebusCaller(service_name, url, timeout=20) as caller:
        assert caller.call("work", idempotency_key="once") == "run run "
        assert caller.call("work", idempotency_key="once") == "run run "


def test_each_action_has_keys_of_its_own(start: Start, shop: Shop) -> None:
    caller = start(shop.app)

    assert caller.call("buy", {}, idempotency_key="once") == {"order": 1, "of": {}}
    assert caller.call("report", idempotency_key="once") == "report 2"
    assert answer_key("shop", "a:b", "c") != answer_key("shop", "a", "b:c")


def test_a_repeat_hears_of_a_worker_that_was_killed(start: Start) -> None:
    app = process_handlers.register(Daebus("app", processes=1, max_attempts=1))
    caller = start(app)
    for action, payload, error in (
        ("limited", {"seconds": 60}, HandlerTimeout),
        ("task", {"kind": "kill"}, WorkerDied),
    ):
        for _ in range(2):
            with pytest.raises(error):
                caller.call(action, payload, idempotency_key="once", timeout=8)


def test_a_request_that_was_cancelled_in_its_worker_runs_again(start: Start, url: str) -> None:
    app = process_handlers.register(Daebus("app", processes=1))
    caller = start(app)
    first = caller.submit("sleep", {"seconds": 60}, idempotency_key="once")
    with redis.Redis.from_url(url) as client:
        eventually(lambda: client.exists(answer_key(caller.service, "sleep", "once")))

    first.cancel()

    assert caller.call("sleep", {"seconds": 0}, idempotency_key="once", timeout=8)


def test_a_request_counts_as_running_for_the_whole_window(
    start: Start, shop: Shop, url: str
) -> None:
    caller = start(shop.app)
    caller.submit("hold", idempotency_key="once")
    assert shop.begun.wait(10)

    with redis.Redis.from_url(url) as client:
        left_ms = client.pttl(answer_key(caller.service, "hold", "once"))
    shop.released.set()

    assert 200_000 < left_ms <= 300_000


def test_a_request_without_end_leaves_no_key_without_end(
    start: Start, shop: Shop, url: str
) -> None:
    caller = start(shop.app)
    message = {"action": "hold", "idempotency_key": "once", "timeout_ms": 1e30}
    with redis.Redis.from_url(url) as client:
        client.publish(caller.service, json.dumps(message))
        assert shop.begun.wait(10)
        left_ms = client.pttl(answer_key(caller.service, "hold", "once"))
    shop.released.set()

    assert left_ms > 0


def test_each_of_those_that_wait_is_answered_whatever_its_id(
    start: Start, shop: Shop, url: str
) -> None:
    app = shop.app

    @app.action("fill")
    def fill() -> str:
        shop.begun.set()
        assert shop.released.wait(30)
        return "x" * (MAX_MESSAGE_BYTES - 200)

    caller = start(app)
    first = caller.submit("fill", idempotency_key="once")
    assert shop.begun.wait(10)
    message = {"action": "fill", "idempotency_key": "once"}
    with (
        redis.Redis.from_url(url) as client,
        Subscriber(url, "caller_a") as one,
        Subscriber(url, "caller_b") as other,
        Subscriber(url, "caller_c") as long,
    ):
        for name, request_id in (("a", 1), ("b", 1), ("c", "y" * 500)):
            asked = {**message, "reply_to": f"caller_{name}", "request_id": request_id}
            client.publish(caller.service, json.dumps(asked))
        eventually(lambda: app_handled(shop) == 3)
        shop.released.set()

        assert first.result(10) == one.next()["payload"] == other.next()["payload"]
        assert long.next()["code"] == "handler_error"
    assert app.stats().gaps == 0


def test_a_request_that_is_cancelled_while_the_server_is_asked_costs_nothing_else(
    start: Start, shop: Shop, url: str
) -> None:
    caller = start(shop.app)
    parts = shop.app._lifecycle._parts
    idempotency = parts.handling._idempotency
    data = json.dumps({"action": "buy_async", "idempotency_key": "once"}).encode()
    request = ActionRequest(decode_request(data), caller.service, None)
    exchange = Exchange(parts._routes.actions["buy_async"], request, None, data)

    async def begin_and_cancel() -> None:
        task = asyncio.create_task(idempotency.begin_async(exchange))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with redis.Redis.from_url(url) as client:
        client.client_pause(200)
    asyncio.run(begin_and_cancel())
    exchange.response.refuse("cancelled", "it was cancelled")

    assert caller.call("buy_async", {}, idempotency_key="once") == {"order": 1, "of": {}}
    assert shop.app.stats().gaps == 0


def test_an_answer_is_kept_also_when_the_server_was_away_at_its_end(
    own_server: EmbeddedServer, service_name: str
) -> None:
    shop = Shop(url=own_server.url)
    shop.app.start(service_name)
    with DaebusCaller(service_name, own_server.url, timeout=10) as caller:
        first = caller.submit("hold", idempotency_key="once")
        assert shop.begun.wait(10)
        own_server.kill()
        assert first.exception(10) is not None
        shop.released.set()
        eventually(lambda: app_handled(shop) == 1)
        # What is not sent again is given up when the next connection fails.
        link = shop.app._lifecycle._parts.link
        error = link._error
        eventually(lambda: link._error is not error)
        own_server.start()
        eventually(lambda: shop.app.stats().gaps == 1)

        eventually(lambda: answers(caller))
        assert caller.call("hold", idempotency_key="once") == 1
    assert shop.count == 1
    shop.app.stop()


def answers(caller: DaebusCaller) -> bool:
    try:
        return caller.call("hold", idempotency_key="once") == 1
    except ConnectionError:
        return False
