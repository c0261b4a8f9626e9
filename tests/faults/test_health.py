"""A service knows when it is deaf, stuck or stopping, and says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from daebus import Daebus, DaebusCaller
from daebus.bus.commands import confirmed
from daebus.bus.embedded import EmbeddedServer
from daebus.channels import inbox_key
from daebus.deadline import Deadline
from fixtures.proxy import Proxy
from fixtures.services import Gate
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def forget_subscriptions(app: Daebus) -> None:
    """The server has none of them any more, and the service does not know it."""
    link = app._lifecycle._parts.link
    command = confirmed(b"UNSUBSCRIBE", list(link._channels))
    link.send(command)
    command.wait(Deadline.after(5.0))


@pytest.fixture
def proxy(own_server: EmbeddedServer) -> Iterator[Proxy]:
    with Proxy(Path(own_server.url.removeprefix("unix://"))) as proxy:
        yield proxy


@pytest.fixture(params=["pubsub", "stream"])
def app(request: pytest.FixtureRequest, proxy: Proxy, service_name: str) -> Iterator[Daebus]:
    """A service that runs, and reaches its server through the proxy."""
    app = Daebus(service_name, url=proxy.url, delivery=request.param)
    app.action("echo")(lambda: app.request.payload)
    app.start()
    yield app
    proxy.resume()
    app.stop()


def test_a_service_without_its_subscriptions_is_not_ready_and_gets_them_back(
    app: Daebus, proxy: Proxy
) -> None:
    assert app.health().is_ready

    forget_subscriptions(app)

    eventually(lambda: not app.health().is_ready)
    assert app.health().is_live
    eventually(lambda: app.health().is_ready)
    assert app.stats().incidents["deaf"] == 1
    with DaebusCaller(app.name, proxy.url, timeout=5.0) as caller:
        assert caller.call("echo", 1) == 1


def test_a_service_whose_server_hangs_is_not_ready_until_it_is_back(
    app: Daebus, proxy: Proxy
) -> None:
    proxy.stall()

    eventually(lambda: not app.health().is_ready, 20)
    assert app.health().is_live  # To start it anew would not help.
    proxy.resume()
    eventually(lambda: app.health().is_ready, 20)


def test_a_service_whose_server_was_away_for_long_is_alive_when_it_is_back(
    own_server: EmbeddedServer, service_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus.service.heartbeat.REFRESH_S", 0.5)
    monkeypatch.setattr("daebus.service.health.DEAF_FOR_GOOD_S", 3.0)
    app = Daebus(service_name, url=own_server.url)
    app.start()
    try:
        own_server.kill()
        assert not threading.Event().wait(3.5)
        looks = [app.health()]
        own_server.start()

        eventually(lambda: looks.append(app.health()) or looks[-1].is_ready)

        assert looks[0].troubles[0].startswith("it is not connected")
        assert all(look.is_live for look in looks)
    finally:
        app.stop()


def test_a_service_whose_handlers_are_stuck_is_neither_ready_nor_alive(start: Start) -> None:
    app = Daebus("app", max_workers=2, max_stall=0.5)

    with Gate() as gate:
        app.action("wait")(gate.pass_through)
        gate.close()
        caller = start(app)
        calls = [caller.submit("wait") for _ in range(3)]

        eventually(lambda: not app.health().is_ready)

        assert not app.health().is_live
        assert "1 messages wait, and none was finished" in app.health().troubles[0]
        gate.open()
        assert all(call.result(10) for call in calls)
        eventually(lambda: app.health().is_ready)


def test_an_inbox_is_read_as_soon_as_there_is_room_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus.service.inbox.LATE_READ_S", 1.0)
    app = Daebus("app", delivery="stream", max_workers=1, prefetch=1)

    with Gate() as gate:
        app.action("wait")(gate.pass_through)
        gate.close()
        call = start(app).submit("wait")
        eventually(gate.is_waited_for)
        assert not threading.Event().wait(1.5)
        assert app.health().is_ready

        gate.open()

        assert call.result(10)
        eventually(lambda: app._lifecycle._parts._inbox._asked_at_s is not None)
        assert app.health().troubles == []


def test_a_service_that_cannot_read_its_inbox_is_not_ready(
    url: str, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daebus.service.inbox.LATE_READ_S", 0.5)
    app = Daebus("app", delivery="stream", lease=0.3)
    key = inbox_key(start(app).service)

    with redis.Redis.from_url(url) as client:
        client.set(key, "no stream")
        eventually(lambda: app.health().troubles == ["its inbox is not read"])

        assert app.health().is_live
        client.delete(key)
        eventually(lambda: app.health().is_ready)


def test_a_service_whose_event_loop_is_blocked_is_neither_ready_nor_alive(start: Start) -> None:
    app = Daebus("app", max_stall=0.5)

    with Gate() as gate:

        @app.action("block")
        async def block() -> bool:
            return gate.pass_through()

        gate.close()
        caller = start(app)
        calls = [caller.submit("block")]
        eventually(gate.is_waited_for)
        calls.append(caller.submit("block"))

        eventually(lambda: not app.health().is_live)

        gate.open()
        assert all(call.result(10) for call in calls)


def test_handlers_that_are_stuck_are_not_hidden_by_others_that_get_on(start: Start) -> None:
    app = Daebus("app", max_stall=0.5)

    with Gate() as gate:

        @app.action("block")
        async def block() -> bool:
            return gate.pass_through()

        gate.close()
        caller = start(app)
        calls = [caller.submit("block")]
        eventually(gate.is_waited_for)
        calls.append(caller.submit("block"))

        eventually(lambda: caller.call("daebus.ping") and not app.health().is_live)

        gate.open()
        assert all(call.result(10) for call in calls)
        eventually(lambda: app.health().is_ready)


def test_messages_that_wait_on_disk_wait_as_well(start: Start) -> None:
    app, ended = Daebus("app", max_backlog=2, max_stall=0.5), threading.Event()

    @app.action("wait")
    async def wait() -> bool:
        return await asyncio.to_thread(ended.wait, 60)

    caller = start(app)
    calls = [caller.submit("wait") for _ in range(5)]

    eventually(lambda: not app.health().is_live)

    assert app.stats().backlog == 0
    assert app.health().troubles[0].startswith("3 messages wait, and none was finished")
    ended.set()
    assert all(call.result(10) for call in calls)
    eventually(lambda: app.health().is_ready)


def test_a_slow_handler_is_no_trouble_before_messages_have_waited_for_long(start: Start) -> None:
    app = Daebus("app", max_workers=1, max_stall=3.0)

    with Gate() as gate:
        app.action("wait")(gate.pass_through)
        gate.close()
        caller = start(app)
        calls = [caller.submit("wait")]
        eventually(gate.is_waited_for)
        # Two beats of the service's heart, in which nothing waits.
        assert not threading.Event().wait(4.5)
        calls.append(caller.submit("wait"))
        eventually(lambda: app.stats().backlog == 1)

        assert app.health().is_ready
        gate.open()
        assert all(call.result(10) for call in calls)


def test_a_service_that_stops_is_not_ready_while_it_finishes(start: Start) -> None:
    app = Daebus("app")

    with Gate() as gate:
        app.action("wait")(gate.pass_through)
        gate.close()
        call = start(app).submit("wait")
        eventually(gate.is_waited_for)

        stopping = threading.Thread(target=app.stop)
        stopping.start()

        eventually(lambda: not app.health().is_ready)
        assert app.health().troubles == ["it is stopping"]
        gate.open()
        assert call.result(10)
        stopping.join(10)


def test_a_service_that_does_not_run_is_not_ready() -> None:
    assert not Daebus("app").health().is_ready
