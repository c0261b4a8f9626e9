"""The peers' released packages, each in a virtual environment of its own under .benchmarks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".benchmarks"

KAFKA = "confluent-kafka==2.16.1"

#: What each party needs. Daebus itself runs in the project's environment.
PACKAGES = {
    "daebus 0.0.31": ["daebus==0.0.31"],
    "FastStream": ["faststream[redis]==0.7.4"],
    "nats-py": ["nats-py==2.15.0"],
    "redis-py": ["redis==8.1.0"],
    "redis-py + hiredis": ["redis[hiredis]==8.1.0"],
    "turbo-queue 0.8.0": ["turbo-queue==0.8.0", "confluent-kafka==2.16.0"],
    "faster-fifo": ["faster-fifo==1.5.2"],
    "ZeroMQ": ["pyzmq==27.1.0", "msgspec==0.20.0"],
    "Redis list": ["redis[hiredis]==8.1.0", "msgspec==0.20.0"],
    "confluent-kafka, one process": [KAFKA],
    "confluent-kafka, two consumers": [KAFKA],
    "multiprocessing.Queue, one by one": [KAFKA],
    "multiprocessing.Queue, 100 together": [KAFKA],
    "turbo-queue 0.8.0, Kafka": ["turbo-queue==0.8.0", KAFKA],
    "Quix Streams": ["quixstreams==3.28.1"],
    "plot": ["matplotlib==3.10.8"],
}
NATS_SERVER = "github.com/nats-io/nats-server/v2@v2.12.2"


class Unavailable(Exception):
    """A party cannot be set up here; the text says why."""


def python_of(party: str) -> str:
    """The interpreter of a party's environment, made on demand.

    Raises:
        Unavailable: its packages cannot be installed.
    """
    if party not in PACKAGES:
        return sys.executable
    folder = FOLDER / party.replace(" ", "-")
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join(PACKAGES[party])
    if not ready.exists() or ready.read_text() != wanted:
        print(f"setting up {party}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *PACKAGES[party]], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{party}: {done.stderr.strip().splitlines()[-1]}")
        ready.write_text(wanted)
    return str(python)


def nats_server() -> str:
    """The nats-server program: the system's, or one that Go builds.

    Raises:
        Unavailable: there is neither.
    """
    found = shutil.which("nats-server") or FOLDER / "bin" / "nats-server"
    if Path(found).exists():
        return str(found)
    if shutil.which("go") is None:
        raise Unavailable("nats-py: needs nats-server, or Go to build it")
    print("building nats-server", file=sys.stderr)
    env = {**os.environ, "GOBIN": str(FOLDER / "bin")}
    done = subprocess.run(
        ["go", "install", NATS_SERVER], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"nats-py: nats-server cannot be built: {done.stderr.strip()[-200:]}")
    return str(found)
