"""A failover by Sentinel: clients find the new master (F31)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daebus import (
    Daebus,
    DaebusCaller,
    InboxFull,
    ServerUnavailable,
    ServiceUnavailable,
    SettingsError,
)
from daebus.bus.connection import check_url
from fixtures.failover import Failover
from fixtures.waiting import eventually


@pytest.fixture
def failover(tmp_path: Path) -> Iterator[Failover]:
    with Failover(tmp_path / "failover") as running:
        yield running


def test_services_and_callers_find_the_new_master(failover: Failover, service_name: str) -> None:
    app = Daebus("app", url=failover.url)
    app.action("echo")(lambda: app.response.send(app.request.payload))
    app.start(service_name)
    try:
        with DaebusCaller(service_name, failover.url, timeout=2.0) as caller:
            assert caller.call("echo", 1) == 1

            failover.kill_master()

            def answers() -> bool:
                try:
                    return caller.call("echo", 2) == 2
                except (ServiceUnavailable, TimeoutError):
                    return False

            eventually(answers, 20, "nobody answers after the failover")
    finally:
        app.stop()


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://host",
        "sentinel://host:port/master",
        "sentinel://:26379/master",
        "sentinel://host/master/first",
    ],
)
def test_an_address_that_names_no_master_is_told(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sentinel://host1:26379,host2:26379/MASTER"):
        check_url(url)


def test_no_sentinel_is_a_server_that_cannot_be_reached(service_name: str) -> None:
    url = "sentinel://user:secret@127.0.0.1:1/master"

    with (
        DaebusCaller(service_name, url, timeout=2.0) as caller,
        pytest.raises(ServerUnavailable, match="no Sentinel") as caught,
    ):
        caller.call("echo")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("durability", ["replicas=1", "memory"])
def test_what_a_replica_of_the_server_has_survives_a_failover(
    failover: Failover, service_name: str, durability: str
) -> None:
    handled: set[int] = set()
    app = Daebus("app", url=failover.url, delivery="stream", durability=durability)
    app.action("count")(lambda number: handled.add(number))
    app.start(service_name)
    accepted: set[int] = set()
    is_over = threading.Event()
    with DaebusCaller(service_name, failover.url) as caller:

        def send_all() -> None:
            for number in itertools.count():
                try:
                    caller.send_message("count", {"number": number}, timeout=1.0)
                except (ServiceUnavailable, TimeoutError, InboxFull):
                    is_over.wait(0.01)
                else:
                    accepted.add(number)
                if is_over.is_set():
                    return

        def wait_for_more(count: int) -> None:
            goal = len(accepted) + count
            eventually(lambda: len(accepted) >= goal, 30, lambda: f"{len(accepted)} of {goal}")

        sender = threading.Thread(target=send_all)
        sender.start()
        try:
            wait_for_more(200)
            failover.kill_master()
            failover.restart_as_replica()
            wait_for_more(200)
        finally:
            is_over.set()
            sender.join()
    last = max(accepted)
    eventually(lambda: last in handled, 20, "what was accepted last is not handled")
    app.stop()

    lost = accepted - handled
    print(f"{durability}: accepted {len(accepted)}, lost {len(lost)}")
    if durability == "replicas=1":
        assert not lost
