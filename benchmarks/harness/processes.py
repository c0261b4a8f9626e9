"""Processes of parties: started with a role, read line by line, ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from benchmarks.harness.environments import FOLDER, PACKAGES, ROOT, python_of

PARTIES = ROOT / "benchmarks" / "parties"

#: Which program plays which party.
PROGRAMS = {
    "daebus": "daebus_now.py",
    "daebus, observed": "daebus_observed.py",
    "daebus 0.0.31": "daebus_old.py",
    "FastStream": "faststream_redis.py",
    "nats-py": "nats_py.py",
    "redis-py": "redis_py.py",
    "redis-py + hiredis": "redis_py.py",
    "bare sockets": "bare.py",
    "turbo_queue": "queues/turbo_now.py",
    "turbo_queue, put one by one": "queues/turbo_now.py",
    "turbo-queue 0.8.0": "queues/turbo_old.py",
    "multiprocessing.Queue": "queues/mp_queue.py",
    "faster-fifo": "queues/faster.py",
    "ZeroMQ": "queues/zero.py",
    "Redis list": "queues/redis_list.py",
    "msgspec alone": "queues/codec_alone.py",
    "a plain file": "queues/plain_file.py",
    "turbo_queue pipeline": "pipelines/turbo_now.py",
    "confluent-kafka, one process": "pipelines/confluent.py",
    "confluent-kafka, two consumers": "pipelines/confluent.py",
    "multiprocessing.Queue, one by one": "pipelines/mp_queue.py",
    "multiprocessing.Queue, 100 together": "pipelines/mp_queue.py",
    "turbo-queue 0.8.0, Kafka": "pipelines/turbo_old.py",
    "Quix Streams": "pipelines/quix.py",
    "the work alone": "pipelines/alone.py",
}

#: What a program prints when it is ready to serve.
READY = "READY"


class Party:
    """A running program of a party in one role.

    Args:
        party: which one.
        role: what it does, a function of its program.
        options: passed to that function.
    """

    def __init__(self, party: str, role: str, **options: Any) -> None:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if party in PACKAGES:
            env.pop("PYTHONPATH", None)  # This checkout is not what a peer shall import.
        FOLDER.mkdir(exist_ok=True)
        self.name = f"{party} ({role})"
        self.process = subprocess.Popen(
            [python_of(party), str(PARTIES / PROGRAMS[party]), role, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
            cwd=FOLDER,  # Some peers write logs to where they are.
            start_new_session=True,
        )

    def ready(self) -> Party:
        """Wait until it serves."""
        assert self.process.stdout is not None
        for line in self.process.stdout:  # Some peers print on their own.
            if line.strip() == READY:
                return self
        raise RuntimeError(f"{self.name} ended before it was ready")

    def go(self) -> None:
        """Let it begin, if it waits for that."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def cpu_s(self) -> dict[str, float]:
        """The CPU time so far of each of its processes that live, by their names."""
        return cpu_s_of(self.process.pid)

    def result(self, timeout_s: float = 600) -> dict[str, Any]:
        """Wait for its result, a line of JSON."""
        out, _ = self.process.communicate(timeout=timeout_s)
        try:
            found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            raise RuntimeError(f"{self.name} gave no result: {out[-300:]!r}") from None
        return found

    def peak_mib(self) -> float:
        """The most memory that it has had resident so far."""
        return self._status("VmHWM:") / 1024

    def resident_mib(self) -> float:
        """The memory that it has resident now."""
        return self._status("VmRSS:") / 1024

    def _status(self, field: str) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
        raise RuntimeError(f"no {field} of {self.name}")

    def end(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def cpu_s_of(session: int) -> dict[str, float]:
    """The CPU time so far of each process of a session that lives, by their names."""
    found: dict[str, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It may end meanwhile.
            before, _, after = stat.read_text().rpartition(")")
            name, fields = before.partition("(")[2], after.split()
            if int(fields[3]) == session:
                ticks = int(fields[11]) + int(fields[12])
                found[name] = found.get(name, 0) + ticks / os.sysconf("SC_CLK_TCK")
    return found
