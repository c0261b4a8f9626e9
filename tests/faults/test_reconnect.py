"""A lost connection comes back by itself, and is never silent (F2, F3)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
import redis

from daebus import Broadcast, ConnectionLost, Daebus, DaebusCaller, ServiceUnavailable
from daebus.bus.embedded import EmbeddedServer
from fixtures import services
from fixtures.processes import Processes
from fixtures.waiting import eventually

AWAY_S = [0.2, 3, 12, 30]


def survive(folder: Path, away_s: float) -> tuple[float, int, float]:
    """Kill the server, bring it back, and measure how long service and old caller take."""
    server = EmbeddedServer(folder)
    server.start()
    app = Daebus("app", url=server.url)
    app.action("echo")(lambda: app.request.payload)
    gaps = []
    app.on_gap(gaps.append)
    caller = DaebusCaller("survivor", server.url, timeout=5)
    try:
        app.start("survivor")
        assert caller.call("echo", 1) == 1

        server.kill()
        assert not threading.Event().wait(away_s)
        server.start()
        back_at = monotonic()
        while True:
            try:
                assert caller.call("echo", 2, timeout=1) == 2
                break
            except (ServiceUnavailable, TimeoutError):
                assert monotonic() - back_at < 20
        took = monotonic() - back_at
        eventually(lambda: len(gaps) == 1)
        return took, app.stats().gaps, gaps[0].seconds
    finally:
        caller.close()
        app.stop()
        server.stop()


@pytest.mark.timeout(120)
def test_service_and_caller_are_back_within_a_second_of_the_server(tmp_path: Path) -> None:
    with ThreadPoolExecutor(len(AWAY_S)) as pool:
        folders = [tmp_path / str(away_s) for away_s in AWAY_S]
        results = list(pool.map(survive, folders, AWAY_S))

    for away_s, (took, gaps, gap_s) in zip(AWAY_S, results, strict=True):
        assert took <= 1.0, results
        assert gaps == 1
        assert away_s <= gap_s <= away_s + 2


def test_every_killed_connection_is_a_gap_that_is_told(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    app = Daebus("app", url=own_server.url, max_workers=1, max_backlog=50_000)
    heard, gaps = [], []
    app.listen("gap.events")(lambda data: heard.append(data))
    app.on_gap(gaps.append)
    app.start(service_name)
    publisher, sent = Broadcast(own_server.url), []
    done = threading.Event()

    def publish() -> None:
        sent.extend(publisher.send("gap.events", number) for number in range(20_000))
        done.set()

    thread = threading.Thread(target=publish)
    with redis.Redis.from_url(own_server.url) as client:
        thread.start()
        for kill in range(50):
            eventually(lambda kill=kill: len(sent) > kill * 350)
            eventually(lambda: client.pubsub_numsub("gap.events")[0][1] == 1)
            assert client.client_kill_filter(_type="pubsub") == 1
            eventually(lambda kill=kill: app.stats().gaps == kill + 1)
        assert done.wait(60)
        thread.join()
    eventually(lambda: len(gaps) == 50)
    app.stop()
    publisher.close()

    # A message that had a receiver was delivered, or lost in a connection that was killed.
    received = [number for number, receivers in enumerate(sent) if receivers]
    lost = set(received) - set(heard)
    assert set(heard) <= set(received)
    assert len(heard) + len(lost) == len(received)
    assert len(lost) < 50 * 50
    assert heard == sorted(set(heard))


def test_a_call_under_way_fails_at_once_and_says_that_its_outcome_is_unknown(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    service = services.start(processes, service_name, own_server.url)
    with DaebusCaller(service_name, own_server.url) as caller:
        future = caller.submit("sleep", {"seconds": 20}, timeout=30)
        eventually(lambda: caller.call("stats")["threads"] > 0)
        began = monotonic()

        own_server.kill()
        error = future.exception(10)

        assert isinstance(error, ConnectionLost)
        assert "the outcome is unknown" in str(error)
        assert monotonic() - began < 1
        with pytest.raises(ServiceUnavailable):
            caller.call("echo", 1, timeout=1)
        own_server.start()
        eventually(lambda: caller.send_message("echo") == 1 if _is_up(caller) else False)
    assert service.is_running


def test_a_reply_that_was_cut_off_on_its_way_is_sent_again(
    own_server: EmbeddedServer, service_name: str
) -> None:
    app, release = Daebus("app", url=own_server.url, max_workers=50), threading.Event()

    @app.action("wait")
    def wait(number: int) -> int:
        release.wait(20)
        return number

    app.start(service_name)
    with (
        DaebusCaller(service_name, own_server.url, timeout=10) as caller,
        redis.Redis.from_url(own_server.url) as client,
    ):
        for _ in range(30):
            release.clear()
            futures = [caller.submit("wait", {"number": number}) for number in range(500)]
            eventually(lambda: app.stats().in_progress + app.stats().backlog == 500)
            [link] = [each for each in client.client_list() if service_name in each["name"]]

            release.set()
            eventually(lambda futures=futures: any(future.done() for future in futures))
            client.client_kill_filter(_id=link["id"])

            assert [future.result(20) for future in futures] == list(range(500))
            eventually(lambda: client.pubsub_numsub(service_name)[0][1] == 1)
    app.stop()


def _is_up(caller: DaebusCaller) -> bool:
    try:
        caller.send_message("echo")
    except ServiceUnavailable:
        return False
    return True
