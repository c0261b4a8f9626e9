"""The processes of one party, which begin together at the harness's word.

The harness reads the CPU time of each from /proc, and ends them. Imports nothing but the standard
library.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The producers of all parties that let one choose have the settings of ours.
PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    "linger.ms": 20,
    "compression.type": "lz4",
}

fork = multiprocessing.get_context("fork")


def main(**roles: Callable[..., Any]) -> None:
    """Run the role that the harness asks for."""
    roles[sys.argv[1]](**json.loads(sys.argv[2]))


def name_process(name: str) -> None:
    """What the harness calls this process when it tells what used the CPU."""
    Path("/proc/self/comm").write_text(name)


def await_go() -> None:
    """Tell the harness that this party is ready, and wait for its word."""
    print("READY", flush=True)
    sys.stdin.readline()


def run(*processes: tuple[str, Callable[[], None]]) -> None:
    """Begin with these, each a name and what to do, in processes of their own."""
    gate = fork.Event()

    def begin(name: str, do: Callable[[], None]) -> None:
        name_process(name)
        gate.wait()
        do()

    for name, do in processes:
        fork.Process(target=begin, args=(name, do), daemon=True).start()
    await_go()
    gate.set()
    time.sleep(3600)  # The harness ends it.
