"""Processes of parties: started with a role, read line by line, ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from benchmarks.harness.environments import FOLDER, ROOT, python_of

PARTIES = ROOT / "benchmarks" / "parties"

#: Which program plays which party.
PROGRAMS = {
    "daebus": "daebus_now.py",
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
        FOLDER.mkdir(exist_ok=True)
        self.name = f"{party} ({role})"
        self.process = subprocess.Popen(
            [python_of(party), str(PARTIES / PROGRAMS[party]), role, json.dumps(options)],
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
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
