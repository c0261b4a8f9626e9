"""One process needs two connections, however much it calls (F19)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import redis

from daebus import Daebus, DaebusCaller, ServerUnavailable, broadcast
from daebus.bus.embedded import EmbeddedServer
from fixtures import services
from fixtures.processes import Processes
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


def test_ten_thousand_calls_under_way_share_one_connection(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    app, release = Daebus("app", url=own_server.url, max_workers=1), threading.Event()

    @app.action("wait")
    def wait(number: int) -> int:
        release.wait(60)
        return number

    app.start(service_name)
    callers = [DaebusCaller(service_name, own_server.url, timeout=50) for _ in range(100)]
    with redis.Redis.from_url(own_server.url) as client:
        futures = [
            callers[number % 100].submit("wait", {"number": number}) for number in range(10_000)
        ]
        eventually(lambda: app.stats().backlog == 9_999)
        connections = [each for each in client.client_list() if each["name"].startswith("daebus:")]
        release.set()

        assert [future.result(50) for future in futures] == list(range(10_000))

    # One for the service, one for all calls and broadcasts.
    assert len(connections) == 2
    for caller in callers:
        caller.close()
    app.stop()


def test_a_client_too_many_is_told_and_the_others_go_on(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    services.start(processes, service_name, own_server.url)
    with (
        DaebusCaller(service_name, own_server.url) as caller,
        redis.Redis.from_url(own_server.url) as client,
    ):
        assert caller.call("echo", 1) == 1
        client.config_set("maxclients", 3)  # As many as there are by now.

        with pytest.raises(ServerUnavailable, match="max number of clients"):
            Daebus("one_too_many", url=own_server.url).start()

        assert caller.call("echo", 2) == 2


def test_a_closed_caller_leaves_no_connection(url: str) -> None:
    with redis.Redis.from_url(url) as client:

        def connections() -> int:
            return sum("shared" in each["name"] for each in client.client_list())

        before = connections()
        first, second = DaebusCaller("a", url), DaebusCaller("b", url)
        first.send_message("x")
        second.send_message("x")
        assert connections() == before + 1
        first.close()
        assert connections() == before + 1
        second.close()
        eventually(lambda: connections() == before)
    broadcast.close()
