"""A caller of a service with `delivery="stream"`: what it sends is stored until it is handled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from daebus import (
    ConnectionLost,
    Daebus,
    DaebusCaller,
    InboxFull,
    ServiceUnavailable,
    request,
    response,
)
from daebus.bus.embedded import EmbeddedServer
from fixtures.proxy import Proxy
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Service:
    """Keeps what it handled."""

    def __init__(self, delivery: str = "stream", **settings: object) -> None:
        self.app = Daebus("app", delivery=delivery, **settings)
        self.handled: list[object] = []
        self.released = threading.Event()
        self.app.action("keep")(self._keep)
        self.app.action("hold")(self._hold)

    def _keep(self) -> object:
        self.handled.append(request.payload)
        response.send("half", final=False)
        return request.payload

    def _hold(self) -> str:
        self.handled.append("hold")
        assert self.released.wait(30)
        return "held"


@pytest.fixture
def caller(url: str, service_name: str) -> Iterator[DaebusCaller]:
    with DaebusCaller(service_name, url, timeout=10.0) as caller:
        yield caller


def run_once(caller: DaebusCaller, **settings: object) -> Service:
    """Let the service start for the first time, and stop."""
    service = Service(**settings)
    service.app.start(caller.service)
    service.app.stop()
    return service


def test_every_way_to_call_works(start: Start) -> None:
    service = Service()
    caller = start(service.app)

    assert caller.call("keep", 1) == 1
    assert caller.submit("keep", 2).result(10) == 2
    assert list(caller.stream("keep", 3)) == ["half", 3]
    assert caller.send_request("nothing")["status"] == "error"
    assert caller.send_message("keep", 4) == 1
    eventually(lambda: service.handled == [1, 2, 3, 4])
    assert [future.result(10) for future in [caller.submit("keep", n) for n in range(200)]] == list(
        range(200)
    )


def test_a_message_waits_for_a_service_that_is_down(caller: DaebusCaller) -> None:
    run_once(caller)

    assert [caller.send_message("keep", number, timeout=5) for number in range(3)] == [1, 1, 1]
    assert caller.send_message("keep", "late", expires=0.1) == 1
    threading.Event().wait(0.2)  # Until that one has expired.
    again = Service()
    again.app.start(caller.service)

    eventually(lambda: sorted(again.handled) == [0, 1, 2])
    eventually(lambda: again.app.stats().incidents.get("expired") == 1)
    again.app.stop()


def test_a_call_waits_for_a_service_that_is_down(caller: DaebusCaller) -> None:
    run_once(caller)
    future = caller.submit("keep", 1)
    with pytest.raises(TimeoutError):
        caller.call("keep", "given up", timeout=0.2)

    again = Service()
    again.app.start(caller.service)

    assert future.result(10) == 1
    eventually(lambda: again.app.stats().handled == 2)
    assert again.handled == [1]
    again.app.stop()


def test_a_service_that_never_ran_is_unavailable(caller: DaebusCaller) -> None:
    with pytest.raises(ServiceUnavailable, match="no service"):
        caller.call("keep")
    assert caller.send_message("keep") == 0


def test_a_full_inbox_refuses(caller: DaebusCaller) -> None:
    run_once(caller, max_inbox=2)
    assert [caller.send_message("keep") for _ in range(2)] == [1, 1]

    with pytest.raises(InboxFull):
        caller.send_message("keep")
    with pytest.raises(InboxFull):
        caller.call("keep")
    with pytest.raises(InboxFull):
        caller.submit("keep").result(10)
    assert caller._calling.replies.under_way == 0


def test_a_caller_learns_that_the_service_has_changed_its_ways(caller: DaebusCaller) -> None:
    for delivery in ("pubsub", "stream", "pubsub"):
        service = Service(delivery)
        service.app.start(caller.service)
        # What is known of a service may be a second old.
        eventually(lambda: succeeds(lambda: caller.call("keep", 1, timeout=0.5)))
        assert caller.call("keep", 2) == 2
        service.app.stop()


def succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except (TimeoutError, ServiceUnavailable):
        return False
    return True


def test_scripts_that_the_server_has_forgotten_are_loaded_again(start: Start, url: str) -> None:
    caller = start(Service().app)
    assert caller.call("keep", 1, idempotency_key="a") == 1

    with redis.Redis.from_url(url) as client:
        client.script_flush()

    assert caller.call("keep", 2) == 2
    assert caller.call("keep", 3, idempotency_key="b") == 3
    assert caller.call("keep", 4, idempotency_key="b") == 3


def test_a_cut_connection_ends_the_call_and_not_the_message(
    own_server: EmbeddedServer, service_name: str
) -> None:
    service = Service(url=own_server.url)
    service.app.start(service_name)
    with Proxy(own_server.socket_path) as proxy, DaebusCaller(service_name, proxy.url) as caller:
        future = caller.submit("hold", timeout=20)
        eventually(lambda: service.handled == ["hold"])

        proxy.cut()

        assert isinstance(future.exception(5), ConnectionLost)
        service.released.set()
        eventually(lambda: service.app.stats().handled == 1)
        eventually(lambda: succeeds(lambda: caller.call("keep", 1, timeout=0.5)))
    assert service.handled[0] == "hold"
    service.app.stop()
