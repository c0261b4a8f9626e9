"""Replicas that die: no call runs twice, and who called a dead one learns it at once (F10)."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest

from daebus import DaebusCaller, ReplicaLost, ServiceUnavailable
from daebus.bus.embedded import EmbeddedServer
from fixtures import services, wire
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually

#: Writes down each run before it answers, in a file of its own.
RECORDING = """
import os, sys, time
from daebus import *
app = Daebus("recording")
runs = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.action("run")
def run(id: str):
    os.write(runs, (id + "\\n").encode())
    time.sleep(0.002)
    return id

app.run(sys.argv[1])
"""


def test_three_replicas_each_handle_what_is_published_to_the_services_channel(
    own_server: EmbeddedServer, service_name: str, processes: Processes
) -> None:
    replicas = [services.start(processes, service_name, own_server.url) for _ in range(3)]
    requests = [json.dumps({"action": "echo", "payload": n}).encode() for n in range(3000)]

    received = wire.publish(own_server.socket_path, service_name, *requests)

    assert sum(received) == 9000
    for replica in replicas:
        replica.wait_for("each of 3 replicas handles every one of them")
    with DaebusCaller(service_name, own_server.url) as caller:
        handled: dict[int, int] = {}

        def all_have_run() -> bool:
            handled[caller.call("pid")] = caller.call("stats")["handled"]
            return len(handled) == 3 and sum(handled.values()) >= 9000

        eventually(all_have_run)


def test_who_called_a_replica_that_is_killed_learns_it_at_once(
    url: str, service_name: str, processes: Processes
) -> None:
    killed = services.start(processes, service_name, url)
    with DaebusCaller(service_name, url, timeout=60) as caller, ThreadPoolExecutor(3) as pool:
        calls: list[Callable[[], object]] = [
            lambda: caller.call("stuck"),
            lambda: caller.submit("stuck").result(60),
            lambda: next(iter(caller.stream("stuck"))),
        ]
        waiting = [pool.submit(call) for call in calls]
        eventually(
            lambda: caller.call("stats")["handled"] >= 0 and caller._calling.replies is not None
        )
        eventually(lambda: caller._calling.replies.under_way == 3)
        services.start(processes, service_name, url)

        killed.kill()
        began = monotonic()

        assert [type(each.exception(20)) for each in waiting] == [ReplicaLost] * 3
        assert monotonic() - began < 3.0
        assert caller.call("echo", 1) == 1
        assert caller._calling.replies.under_way == 0


def start_recording(processes: Processes, service: str, url: str, runs: Path) -> Process:
    process = processes.run(
        [sys.executable, "-c", RECORDING, service, str(runs)], env={"DAEBUS_URL": url}
    )
    process.wait_for("is ready at")
    return process


@pytest.mark.timeout(120)
def test_no_call_runs_twice_and_none_waits_for_its_timeout_while_replicas_are_killed(
    url: str, service_name: str, processes: Processes, tmp_path: Path
) -> None:
    paths = [tmp_path / str(number) for number in range(7)]
    replicas = [start_recording(processes, service_name, url, path) for path in paths[:3]]
    outcomes: Counter[str] = Counter()
    longest_s = [0.0]
    goes_on = [True]

    def calls(thread: int) -> int:
        number = 0
        while goes_on[0]:
            number += 1
            began = monotonic()
            try:
                caller.call("run", {"id": f"{thread}-{number}"})
                outcomes["result"] += 1
            except ServiceUnavailable as error:
                outcomes[type(error).__name__] += 1
            longest_s.append(monotonic() - began)
        return number

    with DaebusCaller(service_name, url, timeout=60) as caller, ThreadPoolExecutor(6) as pool:
        calling = [pool.submit(calls, thread) for thread in range(6)]
        try:
            for path in paths[3:]:
                at_least = outcomes["result"] + 300
                eventually(lambda at_least=at_least: outcomes["result"] > at_least)
                replicas.pop(0).kill()
                replicas.append(start_recording(processes, service_name, url, path))
        finally:
            goes_on[0] = False
        made = sum(each.result(30) for each in calling)

    runs = Counter(line for path in paths for line in path.read_text().split())
    assert [name for name, count in runs.items() if count > 1] == []
    assert sum(outcomes.values()) == made
    # A kill meets the calls that the replica has in hand: without one, nothing was shown.
    assert 0 < outcomes["ReplicaLost"] <= 4 * 6, outcomes
    assert set(outcomes) == {"result", "ReplicaLost"}
    assert max(longest_s) < 5.0
