"""Listeners take what is published to channels and patterns."""

from __future__ import annotations

import queue
from collections.abc import Callable

import msgspec

from daebus import Broadcast, Daebus, DaebusCaller, request, response
from fixtures.services import Gate
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Event(msgspec.Struct):
    kind: str


def test_several_handlers_share_a_channel(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app"), queue.SimpleQueue()
    channel = f"{service_name}.news"
    app.listen(channel)(lambda data: heard.put(("first", data)))
    app.listen(channel)(lambda data: heard.put(("second", data)))
    start(app)

    receivers = broadcaster.send(channel, {"a": 1})

    assert receivers == 1
    assert sorted(heard.get(timeout=10) for _ in range(2)) == [
        ("first", {"a": 1}),
        ("second", {"a": 1}),
    ]


def test_a_pattern_hears_its_channels_and_says_which(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app"), queue.SimpleQueue()

    @app.listen(f"{service_name}.*")
    def on_event(data: object) -> None:
        heard.put((request.channel, data))

    start(app)
    broadcaster.send(f"{service_name}.created", 1)
    broadcaster.send(f"{service_name}.deleted", 2)

    assert {heard.get(timeout=10), heard.get(timeout=10)} == {
        (f"{service_name}.created", 1),
        (f"{service_name}.deleted", 2),
    }


def test_one_typed_parameter_is_the_whole_payload_and_several_are_its_fields(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app"), queue.SimpleQueue()

    @app.listen(service_name + ".a")
    def whole(event: Event) -> None:
        heard.put(event)

    @app.listen(service_name + ".b")
    def fields(kind: str, count: int = 3) -> None:
        heard.put((kind, count))

    @app.listen(service_name + ".c")
    def nothing() -> None:
        heard.put(request.payload)

    start(app)

    broadcaster.send(service_name + ".a", {"kind": "x"})
    assert heard.get(timeout=10) == Event("x")
    broadcaster.send(service_name + ".b", {"kind": "y"})
    assert heard.get(timeout=10) == ("y", 3)
    broadcaster.send(service_name + ".c", {"kind": "z"})
    assert heard.get(timeout=10) == {"kind": "z"}


def test_a_wrong_payload_is_counted_and_the_handler_does_not_run(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app"), []
    app.listen(service_name + ".a")(lambda: heard.append(1))

    @app.listen(service_name + ".a")
    def typed(event: Event) -> None:
        heard.append(event)

    start(app)

    broadcaster.send(service_name + ".a", {"kind": 5})

    eventually(lambda: app.stats().incidents.get("bad_message") == 1)
    eventually(lambda: heard == [1])


def test_a_listener_has_nobody_to_answer(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, counts = Daebus("app"), queue.SimpleQueue()

    @app.listen(service_name + ".a")
    def on(data: object) -> None:
        counts.put([response.send(data), response.send(data), response.error("no")])

    start(app)
    broadcaster.send(service_name + ".a", 1)

    assert counts.get(timeout=10) == [0, 0, 0]


def test_a_listener_that_raises_disturbs_no_other(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app"), queue.SimpleQueue()

    @app.listen(service_name + ".a")
    def fails(data: object) -> None:
        raise RuntimeError("on purpose")

    app.listen(service_name + ".a")(lambda data: heard.put(data))
    start(app)

    for number in range(100):
        broadcaster.send(service_name + ".a", number)

    assert sorted(heard.get(timeout=10) for _ in range(100)) == list(range(100))
    eventually(lambda: app.stats().errors == 100)


def test_a_listener_that_is_over_its_time_limit_is_told_of(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app = Daebus("app")

    with Gate() as gate:
        app.listen(service_name + ".a", timeout=0.2)(lambda _: gate.pass_through())
        app.listen(service_name + ".b", timeout=30)(lambda _: None)
        gate.close()
        start(app)
        broadcaster.send(service_name + ".b", 1)
        broadcaster.send(service_name + ".a", 1)

        eventually(lambda: app.stats().incidents.get("handler_timeout") == 1)

        gate.open()
        eventually(lambda: app.stats().handled == 2)
    assert app.stats().errors == 0
