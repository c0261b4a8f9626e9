"""Replicas that share an inbox and are killed, stopped, slow or unlucky (F10, F23-F28)."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from daebus.bus.embedded import EmbeddedServer
from fixtures import inboxes
from fixtures.inboxes import Inbox, Runs
from fixtures.listening import Subscriber
from fixtures.processes import Processes
from fixtures.waiting import eventually


@pytest.fixture
def inbox(url: str, service_name: str) -> Iterator[Inbox]:
    with Inbox(url, service_name) as inbox:
        yield inbox


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def test_each_message_goes_to_one_of_three_replicas(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes
) -> None:
    for _ in range(3):
        inboxes.replica(processes, url, service_name, runs)

    inbox.send_all({"number": number, "seconds": 0.001} for number in range(3000))

    eventually(lambda: inbox.waiting == 0, 20)
    assert len(runs.all()) == 3000
    assert runs.duplicates() == 0
    assert min(Counter(run.pid for run in runs.all()).values()) > 500


@pytest.mark.timeout(90)
def test_killed_replicas_lose_nothing_and_repeat_at_most_what_they_held(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes, seed: int
) -> None:
    print("seed", seed)
    chance, messages, kills = random.Random(seed), 8_000, 8
    settings = {"lease": 1.0, "prefetch": 32}
    replicas = [inboxes.replica(processes, url, service_name, runs, **settings) for _ in range(4)]
    sender = threading.Thread(
        target=inbox.send_all,
        # It notes first: what a killed replica was at counts as handled, and shows as repeated.
        args=([{"number": number, "seconds": 0.005} for number in range(messages)], "begin"),
        daemon=True,
    )
    sender.start()

    for kill in range(kills):
        # Killed while it works: an idle one would show nothing.
        eventually(lambda kill=kill: len(runs.all()) > (kill + 1) * messages // (kills + 2), 30)
        victim = replicas.pop(chance.randrange(len(replicas)))
        victim.kill()
        replicas.append(inboxes.start(processes, url, service_name, runs, **settings))
    sender.join()

    eventually(lambda: inbox.waiting == 0, 30, lambda: f"{inbox.waiting} wait: {inbox.pending}")
    assert sorted(runs.numbers()) == list(range(messages))
    assert 0 < runs.duplicates() <= kills * 32
    first = {run.number for run in runs.all() if run.delivery_count == 1}
    again = [run for run in runs.all() if run.delivery_count > 1]
    assert len(runs.all()) - len(first) <= len(again)
    assert inbox.dead == []


@pytest.mark.parametrize("action", ["begin", "spin"])
def test_a_slow_handler_is_not_run_twice(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes, action: str
) -> None:
    for _ in range(2):
        inboxes.replica(processes, url, service_name, runs, lease=0.6, prefetch=2)

    inbox.send_all([{"number": number, "seconds": 2.5} for number in range(4)], action)

    eventually(lambda: inbox.waiting == 0, 30)
    assert runs.numbers() == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_lone_replica_that_was_stopped_runs_nothing_twice(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes
) -> None:
    stopped = inboxes.replica(processes, url, service_name, runs, lease=0.5)
    inbox.send_all([{"number": number, "seconds": 0.05} for number in range(100)])
    eventually(lambda: len(runs.all()) > 5)

    stopped.signal(signal.SIGSTOP)
    eventually(lambda: inbox.oldest_idle_s > 1)
    stopped.signal(signal.SIGCONT)

    eventually(lambda: inbox.waiting == 0)
    assert runs.numbers() == dict.fromkeys(range(100), 1)
    assert {run.delivery_count for run in runs.all()} == {1}


def test_a_replica_that_was_stopped_takes_nothing_back(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes
) -> None:
    stopped = inboxes.replica(processes, url, service_name, runs, lease=0.5, prefetch=32)
    inbox.send_all([{"number": number, "seconds": 0.05} for number in range(60)])
    eventually(lambda: len(runs.all()) > 5)

    stopped.signal(signal.SIGSTOP)
    [(name, held)] = inbox.pending.items()
    other = inboxes.replica(processes, url, service_name, runs, lease=0.5, prefetch=64)
    eventually(lambda: name not in inbox.pending)
    stopped.signal(signal.SIGCONT)

    stopped.wait_for("were taken over by another replica")
    eventually(lambda: inbox.waiting == 0)
    assert other.is_running
    assert sorted(runs.numbers()) == list(range(60))
    assert runs.duplicates() <= held <= 32
    assert max(run.delivery_count for run in runs.all()) == 2


def test_a_message_that_kills_its_replica_costs_no_other_message(
    url: str, service_name: str, inbox: Inbox, runs: Runs, processes: Processes
) -> None:
    settings = {"lease": 0.4, "prefetch": 32}
    with Subscriber(url, "caller_killer") as replies:
        # First, so that its neighbours are in hand each time that it kills, and none is done.
        inbox.send({"number": -1}, "die", reply_to="caller_killer", request_id="x")
        inbox.send_all([{"number": number, "seconds": 0.005} for number in range(1000)])
        for _ in range(5):
            assert inboxes.start(processes, url, service_name, runs, **settings).wait() == 9
        inboxes.start(processes, url, service_name, runs, **settings)

        answer = replies.next(30)
    eventually(lambda: inbox.waiting == 0, 30)

    assert answer["code"] == "worker_died"
    [letter] = inbox.dead
    assert letter["reason"] == "the replica that handled it died, 5 times"
    assert letter["deliveries"] == "5"
    assert runs.numbers()[-1] == 5
    assert set(range(1000)) <= set(runs.numbers())


def test_replicas_that_come_and_go_leave_no_names_and_lose_nothing(
    own_server: EmbeddedServer, service_name: str, processes: Processes, runs: Runs
) -> None:
    with Inbox(own_server.url, service_name) as inbox:
        key = f"daebus:{{{service_name}}}:inbox"
        inbox.send_all([{"number": number, "seconds": 0.1} for number in range(200)])
        inbox.server.xgroup_create(key, service_name, "0")
        for number in range(200):  # Each dies with one message in hand.
            inbox.server.xreadgroup(service_name, f"dead-{number}", {key: ">"}, count=1)
        assert len(inbox.consumers) == 200

        inboxes.replica(processes, own_server.url, service_name, runs, lease=0.3)

        # Names are looked through while most of the messages still belong to dead ones.
        eventually(lambda: inbox.waiting == 0, 20, lambda: f"{inbox.waiting} wait")
        assert sorted(runs.numbers()) == list(range(200))
        eventually(lambda: len(inbox.consumers) <= 2, 20, lambda: str(inbox.consumers))
