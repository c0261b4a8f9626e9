"""Pipelines from Kafka to Kafka: nothing is lost, whatever is killed, restarted or shared."""

from __future__ import annotations

import random
import signal
import threading
from itertools import islice
from pathlib import Path
from time import time

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import KafkaError, KafkaException

from fixtures.kafka import Cluster, mock_cluster
from fixtures.pids import children, command_of, kill
from fixtures.processes import Process, Processes
from fixtures.waiting import eventually
from kafka_broker import KafkaBroker
from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
from turbo_queue.pipeline import Pipeline

pytestmark = pytest.mark.timeout(180)

ROLES = ("pipeline-reader", "pipeline-worker", "pipeline-writer")

#: Works about 100 us on each number; leaves out each seventh, and fails at each 999th.
PROGRAM = """
    import os, sys
    from time import perf_counter
    from turbo_queue.connectors.kafka import KafkaSink, KafkaSource
    from turbo_queue.pipeline import Pipeline

    topic_in, topic_out, folder, bootstrap, session_ms = sys.argv[1:]

    class Work:
        def __init__(self):
            self.log = open(f"{folder}-worked-{os.getpid()}", "wb", buffering=0)

        def __call__(self, value):
            self.log.write(b".")
            end = perf_counter() + 100e-6
            while perf_counter() < end:
                pass
            number = int(value)
            if number % 999 == 500:
                raise ValueError("a poison event")
            return value if number % 7 else None

    pipeline = Pipeline(
        KafkaSource(topic_in, group="pipeline", bootstrap_servers=bootstrap,
                    settings={"session.timeout.ms": session_ms, "heartbeat.interval.ms": 300}),
        Work, KafkaSink(topic_out, bootstrap_servers=bootstrap),
        folder=folder, processes=2, batch_events=200, max_batch_age=0.2, retry_pause=0.1,
        max_ready_files=8, grace=10,
    )
    sys.exit(pipeline.run().exit_code)
"""

NUMBERS = 20_000
EXPECTED = {number for number in range(NUMBERS) if number % 7 and number % 999 != 500}


def written(cluster: Cluster, topic: str) -> list[int]:
    return [int(message.value() or b"") for message in cluster.messages(topic)]


class Machine:
    """A pipeline with a folder of its own, started again whenever it was killed."""

    def __init__(
        self, processes: Processes, cluster: Cluster, source: str, sink: str, folder: Path
    ) -> None:
        # The group misses a killed member so late. The cluster inside librdkafka lets members wait
        # for 3 s before they may join.
        session_ms = 1500 if cluster.is_real else 5000
        self._processes = processes
        self._arguments = [source, sink, str(folder), cluster.bootstrap, str(session_ms)]
        self.program = self._start()

    def revive(self) -> None:
        """Start it again if a kill has hit it before all its processes could work."""
        if not self.program.is_running:
            assert "was killed by SIGKILL before it was ready" in self.program.output
            self.program = self._start()

    def kill_one(self, rng: random.Random) -> str | None:
        """Kill the supervisor or one of its processes; gives what it was."""
        self.revive()
        running = {command_of(pid): pid for pid in children(self.program.pid)}
        if not running.keys() >= set(ROLES):
            return None
        role = rng.choice(["supervisor", *ROLES])
        if role == "supervisor":
            self.program.kill()
            self.program.wait()
            self.program = self._start()
        else:
            kill(running[role])
        return role

    def stop(self, within_s: float = 30) -> None:
        self.program.signal(signal.SIGTERM)
        assert self.program.wait(within_s) == 0, self.program.output

    def start(self) -> None:
        self.program = self._start()

    def _start(self) -> Process:
        return self._processes.python(PROGRAM, *self._arguments)


def kill_at_work(machine: Machine, folder: Path, rng: random.Random, times: int) -> list[str]:
    """Kill something each time that some events more were worked on."""
    killed: list[str] = []
    while len(killed) < times:
        least = worked_in(folder) + rng.randrange(50, 500)
        is_at_work = lambda least=least: machine.revive() or worked_in(folder) > least  # noqa: E731
        eventually(is_at_work, 30, lambda: f"{killed} {machine.program.output[-3000:]}")
        eventually(lambda: (role := machine.kill_one(rng)) and not killed.append(role), 60)
    return killed


def worked_in(folder: Path, name: str = "*") -> int:
    """How many events were worked on, those twice that were so."""
    return sum(path.stat().st_size for path in folder.glob(f"{name}-worked-*"))


def is_all_there(cluster: Cluster, topic: str) -> bool:
    try:
        return set(written(cluster, topic)) == EXPECTED
    except KafkaException as error:
        if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
            raise
        return False  # The broker has just come back.


def check(machine: Machine, cluster: Cluster, topic: str, folder: Path, killed: object) -> None:
    is_done = lambda: machine.revive() or is_all_there(cluster, topic)  # noqa: E731
    eventually(is_done, 90, lambda: machine.program.output[-3000:])
    machine.stop()
    worked = worked_in(folder)
    results = written(cluster, topic)
    print("killed", killed, "worked", worked, "twice", len(results) - len(EXPECTED))
    tries = NUMBERS + 2 * (NUMBERS // 999)
    assert worked > tries, "no kill hit a worker at work"


def test_kills_and_a_restart_of_the_broker_lose_nothing(
    own_kafka: KafkaBroker, tmp_path: Path, processes: Processes, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    cluster = Cluster(own_kafka.bootstrap, is_real=True)
    source, sink = cluster.topic(), cluster.topic()
    cluster.put(source, range(NUMBERS))
    machine = Machine(processes, cluster, source, sink, tmp_path / "folder")

    killed = kill_at_work(machine, tmp_path, rng, 10)
    own_kafka.restart()
    killed += kill_at_work(machine, tmp_path, rng, 10)

    check(machine, cluster, sink, tmp_path, killed)


def test_kills_lose_nothing_on_the_mock_cluster(
    tmp_path: Path, processes: Processes, seed: int
) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    with mock_cluster() as cluster:
        source, sink = cluster.topic(), cluster.topic()
        cluster.put(source, range(NUMBERS))
        machine = Machine(processes, cluster, source, sink, tmp_path / "folder")

        killed = kill_at_work(machine, tmp_path, rng, 5)

        check(machine, cluster, sink, tmp_path, killed)


def test_a_broker_that_is_away_keeps_no_pipeline_from_stopping(
    own_kafka: KafkaBroker, tmp_path: Path, processes: Processes
) -> None:
    cluster = Cluster(own_kafka.bootstrap, is_real=True)
    source, sink = cluster.topic(), cluster.topic()
    cluster.put(source, range(NUMBERS))
    machine = Machine(processes, cluster, source, sink, tmp_path / "folder")
    eventually(lambda: worked_in(tmp_path) > NUMBERS // 10)

    own_kafka.kill()
    machine.stop(within_s=11)
    own_kafka.start()
    machine.start()

    eventually(lambda: is_all_there(cluster, sink), 60, lambda: machine.program.output)
    machine.stop()


def test_two_machines_share_a_topic_and_one_may_leave(
    kafka: Cluster, tmp_path: Path, processes: Processes
) -> None:
    cluster = kafka
    source, sink = cluster.topic(), cluster.topic()
    one, two = (
        Machine(processes, cluster, source, sink, tmp_path / name) for name in ("one", "two")
    )
    numbers = iter(range(NUMBERS))

    def shares() -> list[int]:
        cluster.put(source, islice(numbers, 200))
        return [worked_in(tmp_path, name) for name in ("one", "two")]

    eventually(lambda: min(shares()) > 0, 30)  # Both have joined the group.
    two.stop()
    cluster.put(source, numbers)

    eventually(lambda: is_all_there(cluster, sink), 60, lambda: one.program.output)
    one.stop()
    assert sum(shares()) < NUMBERS * 1.1, "hardly anything is done twice when a machine leaves"


def test_no_event_of_a_slow_topic_waits_until_its_batch_is_full(
    kafka: Cluster, tmp_path: Path
) -> None:
    source, sink = kafka.topic(), kafka.topic()
    pipeline = Pipeline(
        KafkaSource(source, group="slow", bootstrap_servers=kafka.bootstrap),
        lambda record: str(time() * 1000 - record.timestamp_ms),
        KafkaSink(sink, bootstrap_servers=kafka.bootstrap),
        records=True,
        folder=tmp_path / "folder",
        processes=1,
        batch_events=1_000_000,
        max_batch_age=0.5,
    )
    thread = threading.Thread(target=pipeline.run)
    thread.start()

    for number in range(1, 11):
        kafka.put(source, ["event"])
        eventually(lambda number=number: len(kafka.messages(sink)) == number, 30)  # type: ignore[misc]
    pipeline.stop()
    thread.join()

    waited_ms = [float(message.value() or b"") for message in kafka.messages(sink)]
    assert max(waited_ms[1:]) < 500 + 300  # The first one has waited for the group.
