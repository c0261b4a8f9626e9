"""Responses: several, one final, and how many received them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis

from daebus import (
    AlreadyAnswered,
    Daebus,
    DaebusCaller,
    OutsideMessage,
    RemoteError,
    request,
    response,
)
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_success_is_the_same_as_send(start: Start) -> None:
    app = Daebus("app")
    app.action("give")(lambda: response.success([1]))

    assert start(app).call("give") == [1]


@pytest.mark.parametrize(
    ("error", "text"),
    [("no luck", "no luck"), (ValueError("bad"), "bad"), (KeyError(), "KeyError")],
)
def test_an_error_is_a_text_or_an_exception(start: Start, error: object, text: str) -> None:
    app = Daebus("app")
    app.action("fail")(lambda: response.error(error))

    with pytest.raises(RemoteError) as raised:
        start(app).call("fail")
    assert (raised.value.message, raised.value.code) == (text, "error")


def test_a_second_final_response_is_refused_and_only_the_first_is_sent(start: Start) -> None:
    app, raised = Daebus("app"), []

    @app.action("twice")
    def twice() -> None:
        response.send(1)
        for again in (response.send, response.error, lambda x: response.send(x, final=False)):
            try:
                again(2)
            except AlreadyAnswered as error:
                raised.append(error.action)

    assert list(start(app).stream("twice")) == [1]
    eventually(lambda: raised == ["twice", "twice", "twice"])


def test_a_failed_response_leaves_room_for_an_error(start: Start) -> None:
    app = Daebus("app")

    @app.action("give")
    def give() -> object:
        try:
            return response.send(object())
        except ValueError:
            return response.error("could not be sent")

    with pytest.raises(RemoteError, match="could not be sent"):
        start(app).call("give")


def test_responses_count_their_receivers(start: Start) -> None:
    app, counts = Daebus("app"), []

    @app.action("count")
    def count() -> object:
        receivers = response.send("part", final=False)
        counts.append((int(receivers), receivers == 1, bool(receivers), receivers + 1))
        return response.send("whole")

    assert list(start(app).stream("count")) == ["part", "whole"]
    assert counts == [(1, True, True, 2)]


def test_a_caller_that_has_gone_counts_as_none(start: Start, url: str) -> None:
    app, counts, done = Daebus("app"), [], threading.Event()

    @app.action("count")
    def count() -> None:
        counts.append(int(response.send("nobody is there")))
        done.set()

    caller = start(app)
    with redis.Redis.from_url(url) as client:
        client.publish(caller.service, '{"action": "count", "reply_to": "caller_gone"}')

    assert done.wait(10)
    assert counts == [0]


def test_a_message_that_wants_no_reply_gets_none(start: Start) -> None:
    app, counts, done = Daebus("app"), [], threading.Event()

    @app.action("note")
    def note() -> None:
        counts.append(response.send("nobody asked"))
        done.set()

    start(app).send_message("note")

    assert done.wait(10)
    assert counts == [0]


def test_outside_a_message_the_error_says_so() -> None:
    app = Daebus("app")

    for use in (
        lambda: request.payload,
        lambda: response.send(1),
        lambda: app.request,
        lambda: app.response,
    ):
        with pytest.raises(OutsideMessage, match="was used outside a message"):
            use()


def test_each_of_many_messages_has_its_own_request_and_response(start: Start) -> None:
    app, together = Daebus("app", max_workers=20), threading.Barrier(20, timeout=20)

    @app.action("mine")
    def mine() -> object:
        before = request.payload
        together.wait()
        return app.response.success([before, app.request.payload, app.request.request_id])

    caller = start(app)
    futures = [caller.submit("mine", number) for number in range(100)]
    results = [future.result() for future in futures]

    assert [result[:2] for result in results] == [[number, number] for number in range(100)]
    assert len({result[2] for result in results}) == 100


def test_an_error_that_is_too_large_for_a_message_is_cut(start: Start) -> None:
    app = Daebus("app", max_message_bytes=1000)
    app.action("say")(lambda: response.error("x" * 2000))

    @app.action("fail")
    def fail() -> None:
        raise ValueError("y" * 2000)

    caller = start(app)

    with pytest.raises(RemoteError, match=r"x{100}… \(2,000 characters\)$"):
        caller.call("say")
    with pytest.raises(RemoteError, match=r"ValueError: y{88}… \(2,012 characters\)$"):
        caller.call("fail")
