"""Broadcast publishes one message, or very many."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from daebus import BadMessage, Broadcast, Daebus, DaebusCaller
from daebus.bus.embedded import EmbeddedServer
from fixtures import wire
from fixtures.listening import Subscriber
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_send_gives_the_receivers(broadcaster: Broadcast, url: str) -> None:
    with Subscriber(url, "bc.a"), Subscriber(url, "bc.a"):
        assert broadcaster.send("bc.a", {"a": 1}) == 2
    assert broadcaster.send("bc.nobody", None) == 0


def test_many_arrive_in_order(start: Start, broadcaster: Broadcast, service_name: str) -> None:
    app, heard = Daebus("app", max_workers=1, max_backlog=100_000), []
    app.listen(service_name + ".n")(lambda data: heard.append(data))
    start(app)

    receivers = broadcaster.send_many(service_name + ".n", range(20_000))

    assert receivers == 20_000
    eventually(lambda: len(heard) == 20_000, timeout_s=30)
    assert heard == list(range(20_000))


def test_a_value_that_cannot_be_sent_ends_it_after_those_before(
    start: Start, broadcaster: Broadcast, service_name: str
) -> None:
    app, heard = Daebus("app", max_workers=1), []
    app.listen(service_name + ".n")(lambda data: heard.append(data))
    start(app)

    def values() -> Iterator[object]:
        yield from range(700)
        yield object()
        yield "never reached"

    with pytest.raises(BadMessage):
        broadcaster.send_many(service_name + ".n", values())

    eventually(lambda: heard == list(range(700)))


def test_nothing_to_send_is_fine(broadcaster: Broadcast) -> None:
    assert broadcaster.send_many("bc.nothing", []) == 0


def test_it_waits_for_a_slow_subscriber_instead_of_having_it_cut_off(
    own_server: EmbeddedServer,
) -> None:
    broadcaster, done, lags = Broadcast(own_server.url), threading.Event(), []
    with (
        redis.Redis.from_url(own_server.url) as client,
        wire.subscribe(own_server.socket_path, "bc.slow") as slow,
    ):

        def read_slowly() -> None:
            while not done.wait(0.005):
                lags.append(max(int(each["omem"]) for each in client.client_list("pubsub")))
                slow.recv(250_000)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        receivers = broadcaster.send_many("bc.slow", itertools.repeat("x" * 1000, 60_000))
        done.set()
        reader.join()
    broadcaster.close()

    # 60 MB were sent, and the server would have cut it off at 48.
    assert receivers == 60_000
    assert 1024 * 1024 < max(lags) < 16 * 1024 * 1024


def test_without_the_right_to_client_list_it_goes_on_unpaced(own_server: EmbeddedServer) -> None:
    with redis.Redis.from_url(own_server.url) as client:
        client.execute_command(
            *["ACL", "SETUSER", "plain", "on", "nopass", "&*", "+publish", "+ping", "+hello"],
            "+client|setname",
            "+client|setinfo",
        )
    broadcaster = Broadcast(own_server.url.replace("unix://", "unix://plain:x@"))

    assert broadcaster.send_many("bc.unpaced", itertools.repeat("x" * 1000, 3000)) == 0
    broadcaster.close()
