"""DaebusCaller: calls, futures, streams, one-way messages, deadlines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from daebus import (
    Daebus,
    DaebusCaller,
    RemoteError,
    ServiceUnavailable,
    SettingsError,
    TooLarge,
    request,
    response,
)
from daebus.client.expiry import Expiry
from daebus.deadline import Deadline
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Slow(dict[str, None]):
    """A bucket into which a call comes only after it was taken out to be emptied."""

    def __init__(self, is_taken: Callable[[], bool]) -> None:
        super().__init__()
        self.is_taken = is_taken

    def __setitem__(self, request_id: str, nothing: None) -> None:
        eventually(self.is_taken)
        super().__setitem__(request_id, nothing)


def test_a_future_ends_though_its_thread_was_held_up_until_its_deadline() -> None:
    ended: list[str] = []
    expiry, deadline = Expiry(ended.append), Deadline.after(0.2)
    bucket = expiry.add("first", deadline)
    with expiry._lock:
        expiry._buckets[bucket] = Slow(lambda: bucket not in expiry._buckets)

    expiry.add("late", deadline)

    eventually(lambda: "late" in ended)


@pytest.fixture
def echo(start: Start) -> DaebusCaller:
    app = Daebus("app")
    app.action("echo")(lambda: request.payload)

    @app.action("about")
    def about() -> object:
        return {
            "service": request.service,
            "headers": dict(request.headers),
            "remaining": request.remaining(),
        }

    @app.action("count")
    def count(to: int) -> int:
        for number in range(1, to):
            response.send(number, final=False)
        return to

    @app.action("fail")
    def fail() -> None:
        raise ValueError("on purpose")

    return start(app)


def test_sixty_four_threads_share_one_caller(echo: DaebusCaller) -> None:
    def calls(thread: int) -> list[object]:
        return [echo.call("echo", [thread, number]) for number in range(50)]

    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(calls, range(64)))

    assert results == [[[thread, number] for number in range(50)] for thread in range(64)]


def test_futures_give_results_and_errors(echo: DaebusCaller) -> None:
    good = [echo.submit("echo", number) for number in range(500)]
    bad = echo.submit("fail")

    assert [future.result(10) for future in good] == list(range(500))
    assert isinstance(bad.exception(10), RemoteError)


def test_a_cancelled_future_takes_no_reply(echo: DaebusCaller) -> None:
    future = echo.submit("echo", 1)
    future.cancel()

    assert echo.call("echo", 2) == 2


def test_a_future_ends_at_its_deadline(start: Start) -> None:
    app, release = Daebus("app"), threading.Event()
    app.action("wait")(lambda: release.wait(30))
    caller = start(app)

    error = caller.submit("wait", timeout=0.2).exception(5)

    assert isinstance(error, TimeoutError)
    assert "within 0.2 s" in str(error)
    release.set()


def test_a_stream_yields_each_response(echo: DaebusCaller) -> None:
    assert list(echo.stream("count", {"to": 5})) == [1, 2, 3, 4, 5]
    assert echo.call("count", {"to": 5}) == 5


def test_a_stream_that_is_left_early_leaves_nothing_behind(echo: DaebusCaller) -> None:
    stream = echo.stream("count", {"to": 1000})

    assert next(stream) == 1
    stream.close()

    assert echo._calling.replies is not None
    assert echo._calling.replies.under_way == 0
    assert echo.call("echo", 1) == 1


def test_a_stream_ends_with_the_services_error(echo: DaebusCaller) -> None:
    with pytest.raises(RemoteError, match="on purpose"):
        list(echo.stream("fail"))


def test_send_request_returns_errors_and_raises_what_is_no_answer(
    echo: DaebusCaller, url: str
) -> None:
    assert echo.send_request("echo", {"a": 1}) == {"a": 1}
    assert echo.send_request("fail") == {"status": "error", "error": "ValueError: on purpose"}
    with DaebusCaller("nobody_at_all", url) as nobody, pytest.raises(ServiceUnavailable):
        nobody.send_request("echo")


def test_one_way_messages_tell_their_receivers(echo: DaebusCaller, url: str) -> None:
    with DaebusCaller("nobody_at_all", url) as nobody:
        assert nobody.send_message("echo") == 0
    assert echo.send_message("echo", {"a": 1}) == 1
    assert echo.send_to_service({"a": 1}, action="echo") == 1


def test_the_wire_carries_what_remains_and_no_date(url: str, service_name: str) -> None:
    with Subscriber(url, service_name) as subscriber, DaebusCaller(service_name, url) as caller:
        caller.submit("echo", {"a": 1}, timeout=5.0, headers={"trace": "t"})
        sent = subscriber.next()

    assert 4000 < sent.pop("timeout_ms") <= 5000
    assert sent.pop("reply_to").startswith("caller_")
    assert len(sent.pop("request_id")) >= 32
    assert sent == {"action": "echo", "payload": {"a": 1}, "headers": {"trace": "t"}, "v": 2}


def test_headers_deadline_and_sender_reach_the_handler(echo: DaebusCaller) -> None:
    about = echo.call("about", headers={"user": "ada"}, timeout=3.0)

    assert about["headers"] == {"user": "ada"}
    assert about["service"] is None
    assert 2.0 < about["remaining"] <= 3.0


def test_a_handler_calls_another_service_on_its_own_server(
    start: Start, echo: DaebusCaller, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Daebus("other", url=url)
    target = echo.service

    @other.action("pass_on")
    def pass_on() -> object:
        with DaebusCaller(target) as inner:  # Without an address: the service's own.
            return inner.call("about")

    monkeypatch.setenv("DAEBUS_URL", "redis://127.0.0.1:1")
    other.start("other_service")
    with DaebusCaller("other_service", url) as caller:
        about = caller.call("pass_on")
    other.stop()

    assert about["service"] == "other_service"


def test_close_may_be_repeated_and_the_next_call_connects_again(echo: DaebusCaller) -> None:
    for number in range(3):
        assert echo.call("echo", number) == number
        echo.close()
        echo.close()


def test_a_request_whose_caller_gave_up_is_not_started(start: Start) -> None:
    app, release, ran = Daebus("app", max_workers=1), threading.Event(), []
    app.action("block")(lambda: release.wait(30))
    app.action("run")(lambda: ran.append(1))
    caller = start(app)
    blocking = caller.submit("block")

    with pytest.raises(TimeoutError):
        caller.call("run", timeout=0.2)
    release.wait(0.05)  # The service counts from when it got the request.
    release.set()
    blocking.result(10)

    eventually(lambda: app.stats().incidents.get("expired") == 1)
    assert ran == []


def test_a_callback_may_submit_but_not_wait(echo: DaebusCaller) -> None:
    refused, chained = [], []
    done = threading.Event()

    def callback(future: object) -> None:
        try:
            echo.call("echo", 2)
        except SettingsError as error:
            refused.append(str(error))
        echo.submit("echo", 3).add_done_callback(
            lambda future: (chained.append(future.result()), done.set())
        )

    echo.submit("echo", 1).add_done_callback(callback)

    assert done.wait(10)
    assert chained == [3]
    assert "use submit" in refused[0]


def test_a_request_that_is_too_large_is_refused_at_the_sender(echo: DaebusCaller) -> None:
    with pytest.raises(TooLarge, match="over the limit of 1,048,576 bytes"):
        echo.call("echo", "x" * 1024 * 1024)


@pytest.mark.parametrize("name", ["", "caller_x", "a\nb", "x" * 201, None])
def test_a_name_that_no_service_can_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError):
        DaebusCaller(name)


def test_a_bad_timeout_is_refused(echo: DaebusCaller) -> None:
    with pytest.raises(SettingsError, match="timeout is -1"):
        echo.call("echo", timeout=-1)


def test_a_callback_that_would_end_its_thread_ends_no_other_call(echo: DaebusCaller) -> None:
    future = echo.submit("echo", 1)
    future.add_done_callback(lambda _: sys.exit(3))
    assert future.result(10) == 1

    def answers() -> bool:
        try:
            return echo.call("echo", 2, timeout=1) == 2
        except ConnectionError:
            return False

    eventually(answers)


def test_the_first_calls_to_a_service_are_not_overtaken(start: Start) -> None:
    app, seen = Daebus("app", max_workers=1), []
    app.action("note")(lambda number: seen.append(number))
    caller = start(app)

    futures = [caller.submit("note", {"number": number}) for number in range(3000)]

    for future in futures:
        future.result(10)
    assert seen == list(range(3000))
