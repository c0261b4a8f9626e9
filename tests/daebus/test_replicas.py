"""Replicas of a service share its calls; what is published to its own channel reaches them all."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest
import redis

from daebus import Daebus, DaebusCaller, ReplicaLost, ServiceUnavailable
from daebus.bus.embedded import EmbeddedServer
from daebus.bus.presence import Replica as Described
from daebus.channels import mode_key
from daebus.client import watch
from daebus.client.replicas import LiveReplica, least_busy
from fixtures.listening import Subscriber
from fixtures.proxy import Proxy
from fixtures.waiting import eventually

Start = Callable[[Daebus], DaebusCaller]


class Replica:
    """An app that counts what it handles, and can be made to hold on."""

    def __init__(self, **settings: object) -> None:
        self.app = Daebus("app", **settings)
        self.handled = 0
        self.holds = threading.Event()
        self.released = threading.Event()
        self.app.action("work")(self._work)
        self.app.action("hold")(self._hold)

    def _work(self) -> None:
        self.handled += 1

    def _hold(self) -> str:
        self.holds.set()
        assert self.released.wait(30)
        return "done"


@pytest.fixture
def three(start: Start) -> Iterator[tuple[DaebusCaller, list[Replica]]]:
    """Three replicas, and a caller that knows all of them."""
    replicas = [Replica(max_workers=1) for _ in range(3)]
    callers = [start(replica.app) for replica in replicas]
    yield callers[0], replicas
    for replica in replicas:
        replica.released.set()


def test_calls_are_shared_evenly(three: tuple[DaebusCaller, list[Replica]]) -> None:
    caller, replicas = three

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: caller.call("work"), range(1500)))

    handled = [replica.handled for replica in replicas]
    assert sum(handled) == 1500
    assert max(handled) <= 1.2 * min(handled), handled


def test_each_message_goes_to_one_replica(three: tuple[DaebusCaller, list[Replica]]) -> None:
    caller, replicas = three

    assert [caller.send_message("work") for _ in range(300)] == [1] * 300

    eventually(lambda: sum(replica.handled for replica in replicas) == 300)
    assert min(replica.handled for replica in replicas) > 50


def test_a_busy_replica_gets_no_calls_while_others_are_free(
    three: tuple[DaebusCaller, list[Replica]],
) -> None:
    caller, replicas = three
    held = caller.submit("hold")
    eventually(lambda: any(replica.holds.is_set() for replica in replicas))
    busy = next(replica for replica in replicas if replica.holds.is_set())

    for _ in range(60):
        caller.call("work", timeout=5)

    assert busy.handled == 0
    busy.released.set()
    assert held.result(10) == "done"


def test_replicas_come_and_go_and_no_call_fails(start: Start, service_name: str) -> None:
    caller = start(Replica().app)
    ended, counts = threading.Event(), Counter[str]()

    def calls() -> None:
        while not ended.is_set():
            caller.call("work", timeout=10)
            counts["calls"] += 1

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(calls)
        for _ in range(3):
            other = Replica()
            other.app.start(service_name)
            eventually(lambda other=other: other.handled > 20)
            other.app.stop()
        ended.set()
        calling.result(10)

    assert counts["calls"] > 60


def test_a_service_that_has_just_started_is_found_by_the_next_call(
    url: str, service_name: str
) -> None:
    replica = Replica()
    with DaebusCaller(service_name, url) as caller:
        for _ in range(3):
            began = monotonic()
            with pytest.raises(ServiceUnavailable, match="no service"):
                caller.call("work")
            assert monotonic() - began < 0.5
        assert caller.send_message("work") == 0

        replica.app.start(service_name)
        caller.call("work")
        replica.app.stop()

        with pytest.raises(ServiceUnavailable, match="no service"):
            caller.call("work")
    assert replica.handled == 1


def test_what_is_published_to_the_services_own_channel_reaches_every_replica(
    three: tuple[DaebusCaller, list[Replica]], url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caller, replicas = three

    with redis.Redis.from_url(url) as client:
        receivers = client.publish(caller.service, json.dumps({"action": "work"}))

    assert receivers == 3
    eventually(lambda: [replica.handled for replica in replicas] == [1, 1, 1])
    eventually(lambda: caplog.text.count("each of 3 replicas handles") == 3)


def test_a_service_that_speaks_the_plain_wire_is_called_on_its_own_channel(
    url: str, service_name: str
) -> None:
    with (
        Subscriber(url, service_name) as plain,
        redis.Redis.from_url(url) as client,
        DaebusCaller(service_name, url) as caller,
    ):
        for number in range(5):
            future = caller.submit("echo", number, timeout=10)
            asked = plain.next()
            answer = {"status": "success", "payload": asked["payload"]}
            reply = {**answer, "request_id": asked["request_id"], "final": True}
            client.publish(asked["reply_to"], json.dumps(reply))
            assert future.result(10) == number


def test_who_calls_a_plain_service_that_dies_learns_it_at_once(url: str, service_name: str) -> None:
    with DaebusCaller(service_name, url) as caller:
        with Subscriber(url, service_name) as plain:
            futures = [caller.submit("echo", timeout=20) for _ in range(2)]
            for _ in futures:
                plain.next()

        assert [type(future.exception(5)) for future in futures] == [ReplicaLost] * 2


def test_a_foreign_value_among_the_keys_of_a_service_stops_no_call(start: Start, url: str) -> None:
    replica = Replica()
    caller = start(replica.app)
    with redis.Redis.from_url(url) as client:
        client.hset(mode_key(caller.service), "delivery", b"\xff")

    caller.call("work", timeout=5)

    assert replica.handled == 1


def test_a_replica_that_stops_still_answers_what_it_has_begun(
    start: Start, service_name: str
) -> None:
    first, second = Replica(), Replica()
    caller = start(first.app)
    held = caller.submit("hold", timeout=20)
    assert first.holds.wait(10)
    second.app.start(service_name)

    stopping = threading.Thread(target=first.app.stop)
    stopping.start()
    # Longer than after which a replica that is gone counts as dead.
    with pytest.raises(TimeoutError):
        held.result(1.6)
    caller.call("work")
    first.released.set()

    assert held.result(10) == "done"
    assert second.handled == 1
    stopping.join(10)
    second.app.stop()


def test_a_replica_whose_connection_is_cut_keeps_its_calls(
    own_server: EmbeddedServer, service_name: str
) -> None:
    with Proxy(own_server.socket_path) as proxy:
        replica = Replica(url=proxy.url)
        replica.app.start(service_name)
        with DaebusCaller(service_name, own_server.url) as caller:
            held = caller.submit("hold", timeout=20)
            assert replica.holds.wait(10)

            # It is away for several looks of the watch, and not yet dead.
            proxy.stall()
            proxy.cut()
            with pytest.raises(TimeoutError):
                held.result(0.4)
            proxy.resume()
            eventually(lambda: replica.app.stats().gaps == 1)
            with pytest.raises(TimeoutError):
                held.result(1.0)
            replica.released.set()

            assert held.result(10) == "done"
        replica.app.stop()


def test_what_others_have_waiting_counts_when_two_beats_say_so() -> None:
    first, second = (LiveReplica.of("svc", name) for name in "ab")
    second.calls["mine"] = None

    def beat(replica: LiveReplica, **figures: int) -> None:
        facts = {"service": "svc", "replica_id": "a", "host": "h", "pid": 1, "version": "0"}
        replica.learn(Described(**facts, started_at=0.0, max_workers=2, **figures))

    assert least_busy([first, second], 0) is first
    beat(first, in_progress=2, backlog=50)
    assert least_busy([first, second], 0) is first, "a burst that may be over"
    beat(first, in_progress=2, backlog=40, spilled=10)
    assert first.others == 50
    assert least_busy([first, second], 0) is second
    beat(first, in_progress=2)
    assert least_busy([first, second], 0) is first
    assert [least_busy([first, first, second], turn) for turn in range(2)] == [first, first]


def test_what_is_known_is_forgotten_when_no_calls_are_made(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LINGER_S", 0.2)
    replica = Replica()
    caller = start(replica.app)
    for number in range(2):
        caller.call("work")
        assert "daebus-watch" in names_of_threads()
        eventually(lambda: "daebus-watch" not in names_of_threads())
        assert replica.handled == number + 1


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}
