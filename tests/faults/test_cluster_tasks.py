"""A task that runs once among all replicas, while replicas are killed and stopped."""

from __future__ import annotations

import signal
from itertools import pairwise

import redis

from fixtures.processes import Process, Processes
from fixtures.waiting import eventually

LEASE_S = 1.0
EVERY_S = 0.2
KILLS = 4

#: What the others may need beyond a lease and an interval on a busy machine, in seconds.
SLACK_S = 0.8

#: Notes each run on the server: its due time, its number, who ran it and when.
PROGRAM = """
import itertools, os, redis, sys, threading
from daebus import Daebus, Lease
from daebus.channels import task_key

service, every, lease = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
app = Daebus("x", lease=lease)
server = redis.Redis.from_url(os.environ["DAEBUS_URL"])
lengths = itertools.cycle([0, 0, 0.15])

@app.background("tick", every, scope="cluster")
def tick(lease: Lease):
    seconds, micros = server.time()
    slot = server.hget(task_key(service, "tick"), "slot").decode()
    length, at = next(lengths), seconds + micros / 1e6
    server.rpush(service, f"{slot} {lease.token} {os.getpid()} {at} {length}")
    threading.Event().wait(length)

app.run(service)
"""

#: One run that goes on for as long as it may, and a while longer.
ENDLESS = """
import sys, threading
from daebus import Daebus, Lease

app = Daebus("x", lease=float(sys.argv[2]), grace=0.1)

@app.background("tick", 0.1, scope="cluster")
def tick(lease: Lease):
    print("begin", lease.token, flush=True)
    while lease.is_held():
        threading.Event().wait(0.01)
    threading.Event().wait(float(sys.argv[2]))
    print("end", lease.token, lease.is_held(), flush=True)

app.run(sys.argv[1])
"""


def test_no_due_time_is_run_twice_while_those_who_run_it_are_killed(
    url: str, service_name: str, processes: Processes
) -> None:
    def start() -> Process:
        arguments = service_name, str(EVERY_S), str(LEASE_S)
        return processes.python(PROGRAM, *arguments, env={"DAEBUS_URL": url})

    replicas = {each.pid: each for each in [start() for _ in range(3)]}
    for each in replicas.values():
        each.wait_for("is ready")
    with redis.Redis.from_url(url, decode_responses=True) as client:
        for _ in range(KILLS):
            begin = client.llen(service_name)
            eventually(lambda begin=begin: _is_in_a_long_run(client, service_name, begin + 3))
            runner = int(client.lindex(service_name, -1).split()[2])
            replicas.pop(runner).kill()
            new = start()
            replicas[new.pid] = new
        begin = client.llen(service_name)
        eventually(lambda: client.llen(service_name) >= begin + 5)
        runs = [run.split() for run in client.lrange(service_name, 0, -1)]

    slots = [int(slot) for slot, *_ in runs]
    tokens = [int(token) for _, token, *_ in runs]
    moments = [float(at) for *_, at, _ in runs]
    assert slots == sorted(set(slots)), "a due time was run twice"
    assert tokens == sorted(set(tokens))
    assert len({pid for _, _, pid, *_ in runs}) > KILLS / 2
    longest = max(later - earlier for earlier, later in pairwise(moments))
    assert LEASE_S / 2 < longest <= LEASE_S + EVERY_S + SLACK_S, "no run was cut off, or all waited"


def test_a_run_that_was_stopped_for_longer_than_its_lease_knows_that_another_began(
    url: str, service_name: str, processes: Processes
) -> None:
    replicas = [
        processes.python(ENDLESS, service_name, "0.5", env={"DAEBUS_URL": url}) for _ in range(2)
    ]
    eventually(lambda: any("begin" in each.output for each in replicas))
    first, second = sorted(replicas, key=lambda each: "begin" not in each.output)
    assert "begin" not in second.output

    first.signal(signal.SIGSTOP)
    second.wait_for("begin")
    first.signal(signal.SIGCONT)
    first.wait_for("end")

    assert "False" in _words(first, "end")
    assert int(_words(second, "begin")[1]) > int(_words(first, "begin")[1])
    assert "has lost its lease" in first.output
    assert "end" not in second.output, "the lease was taken back"


def _is_in_a_long_run(client: redis.Redis, key: str, runs: int) -> bool:
    last = client.lrange(key, runs - 1, -1)[-1:]
    return bool(last) and not last[0].endswith(" 0")


def _words(process: Process, word: str) -> list[str]:
    return next(line for line in process.lines if line.startswith(word)).split()
