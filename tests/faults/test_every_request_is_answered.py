"""Every request that a live service receives gets one final reply (F4, F5, F6, F11)."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections import Counter
from collections.abc import Callable
from time import perf_counter

import pytest
import redis

from daebus import Daebus, DaebusCaller, Overloaded, RemoteError, ServiceUnavailable, response
from daebus.bus.embedded import EmbeddedServer
from fixtures import services, wire
from fixtures.listening import Subscriber
from fixtures.processes import Processes
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_a_call_to_nobody_ends_within_fifty_milliseconds(url: str) -> None:
    took = []
    with DaebusCaller("nobody_at_all", url) as caller:
        for _ in range(100):
            began = perf_counter()
            with pytest.raises(ServiceUnavailable, match="no service 'nobody_at_all'"):
                caller.call("anything", timeout=10)
            took.append(perf_counter() - began)

    assert sorted(took)[98] <= 0.05


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")

    __repr__ = __str__


def raise_it(error: BaseException) -> None:
    raise error


BAD_HANDLERS = {
    "raises": lambda: raise_it(ValueError("bad")),
    "exits": lambda: sys.exit(3),
    "interrupts": lambda: raise_it(KeyboardInterrupt()),
    "unprintable": lambda: raise_it(Unprintable()),
    "unserialisable": lambda: object(),
    "twice": lambda: (response.error("once"), response.send("twice")),
    "recursion": lambda: json.loads("[" * 100_000),
}


def test_seven_bad_handlers_answer_every_call_once_with_an_error(
    start: Start, url: str, service_name: str
) -> None:
    app = Daebus("app")
    for name, function in BAD_HANDLERS.items():
        app.action(name)(function)
    caller = start(app)

    with Subscriber(url, "caller_bad") as subscriber, redis.Redis.from_url(url) as client:
        sent = [(name, f"{name}-{number}") for number in range(50) for name in BAD_HANDLERS]
        for name, request_id in sent:
            request = {"action": name, "reply_to": "caller_bad", "request_id": request_id}
            client.publish(service_name, json.dumps(request))
        replies = [subscriber.next() for _ in sent]
        # A further request is answered after all of them: there is no reply too many.
        client.publish(
            service_name, '{"action": "no_more", "reply_to": "caller_bad", "request_id": "end"}'
        )
        assert subscriber.next()["request_id"] == "end"

    assert Counter(reply["request_id"] for reply in replies) == {each: 1 for _, each in sent}
    assert {(reply["status"], reply["final"]) for reply in replies} == {("error", True)}
    assert len(replies) == 350
    with pytest.raises(RemoteError, match="SystemExit: 3"):
        caller.call("exits")


@pytest.mark.parametrize("delivery", ["pubsub", "stream"])
def test_an_error_that_no_message_can_hold_is_told_with_it_escaped(
    start: Start, caplog: pytest.LogCaptureFixture, delivery: str
) -> None:
    app = Daebus("app", delivery=delivery, max_deliveries=1)
    app.action("read")(lambda: raise_it(ValueError("no \udcff.txt")))  # A file's name, say.
    caller = start(app)

    with pytest.raises(RemoteError, match=r"ValueError: no \\udcff\.txt"):
        caller.call("read")
    caller.send_message("read")

    eventually(lambda: app.stats().errors == 2)
    app.stop()
    assert "worker.died" not in {getattr(record, "event", "") for record in caplog.records}


def test_a_handler_without_a_reply_answers_null(start: Start) -> None:
    app = Daebus("app")
    app.action("nothing")(lambda: None)

    assert start(app).call("nothing") is None


def test_a_full_service_refuses_at_once_and_its_memory_stays_bounded(
    url: str, service_name: str, processes: Processes
) -> None:
    limit = 20 * 1024 * 1024
    settings = json.dumps(
        {"max_workers": 4, "max_backlog_bytes": limit, "grace": 0.1, "overflow": "reject"}
    )
    service = services.start(processes, service_name, url, settings)
    with DaebusCaller(service_name, url, timeout=60) as caller:
        stuck = [caller.submit("stuck") for _ in range(4)]
        before = services.peak_kib(service.pid)
        text, took, refused = "x" * 10_000, [], 0

        for _ in range(5000):
            began = perf_counter()
            future = caller.submit("echo", text)
            future.add_done_callback(lambda _, began=began: took.append(perf_counter() - began))
        eventually(lambda: len(took) >= 5000 - limit // 10_000, timeout_s=30)
        refused = len(took)

        # What is over the limit is refused at once. What is within it waits.
        assert 5000 - limit // 10_000 <= refused <= 5000 - 0.9 * limit // 10_000
        assert services.peak_kib(service.pid) - before <= limit // 1024 + 20 * 1024
        began = perf_counter()
        late = []
        for _ in range(200):
            began = perf_counter()
            with pytest.raises(Overloaded):
                caller.call("echo", text)
            late.append(perf_counter() - began)
        assert sorted(late)[197] <= 0.1
        assert not any(each.done() for each in stuck)


def test_a_thousand_simultaneous_requests_are_all_answered(start: Start) -> None:
    app, together = Daebus("app", max_workers=32), threading.Barrier(32, timeout=20)

    @app.action("work")
    def work(number: int) -> int:
        if number < 32:
            together.wait()
        return number

    caller = start(app)
    futures = [caller.submit("work", {"number": number}) for number in range(1000)]

    assert [future.result(20) for future in futures] == list(range(1000))


def test_late_repeated_and_forged_replies_are_dropped(start: Start, server: EmbeddedServer) -> None:
    app = Daebus("app")
    app.action("echo")(lambda: app.request.payload)
    caller = start(app)
    assert caller.call("echo", 1) == 1
    replies = caller._calling.replies
    assert replies is not None

    forged = [
        json.dumps(
            {"status": "success", "payload": "forged", "request_id": secrets.token_hex(20)}
        ).encode()
        for _ in range(10_000)
    ]
    wire.publish(server.socket_path, replies.channel, *forged)

    eventually(lambda: replies.incidents.counts().get("unknown_reply") == 10_000)
    assert replies.under_way == 0
    assert caller.call("echo", 2) == 2


def test_a_late_reply_is_dropped_and_leaves_nothing(start: Start) -> None:
    app, release = Daebus("app"), threading.Event()

    @app.action("late")
    def late() -> str:
        release.wait(30)
        return "too late"

    caller = start(app)
    with pytest.raises(TimeoutError):
        caller.call("late", timeout=0.2)
    replies = caller._calling.replies
    assert replies is not None
    assert replies.under_way == 0

    release.set()

    eventually(lambda: replies.incidents.counts().get("unknown_reply") == 1)
