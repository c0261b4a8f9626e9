"""A real Apache Kafka broker on loopback, for tests, demo and benchmark.

`python tools/kafka_broker.py` runs one until Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
POM = Path(__file__).with_name("kafka") / "pom.xml"
JARS = ROOT / ".kafka" / "libs"

FETCH_TIMEOUT_S = 300
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
PR_SET_PDEATHSIG = 1

#: One node that is broker and controller; internal topics have one copy, groups start at once,
#: and members may be missed soon.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "500",
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "2000",  # After kill -9 it may come back so much later.
    "auto.create.topics.enable": "false",
}


class KafkaUnavailable(RuntimeError):
    """No broker can be run here; the text says what is missing, in one line."""


class KafkaBroker:
    """A broker that lives as long as its `with` block, and no longer than this process.

    Args:
        settings: Settings of the broker beside `SETTINGS`.

    Example:
        with KafkaBroker() as broker:
            print(broker.bootstrap)
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kafka-"))
        self._port, controller = _free_ports(2)
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._settings = {
            **SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": str(self._folder / "data"),
            **(settings or {}),
        }
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the broker has printed."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, on the same ports and data as before, and wait until it answers.

        Raises:
            KafkaUnavailable: Java, Maven or Maven Central is missing, or it does not start.
        """
        jars = fetched_jars()
        properties = self._folder / "server.properties"
        if not properties.exists():
            lines = [f"{name}={value}\n" for name, value in self._settings.items()]
            properties.write_text("".join(lines))
            self._format(jars, properties)
        with (self._folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                [
                    *(sys.executable, __file__, "--guard", str(os.getpid())),
                    *("java", "-Xmx512m", "-cp", f"{jars}/*", "kafka.Kafka", str(properties)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is the parent's to handle.
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same ports and data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Kill it, and remove its data."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _format(self, jars: Path, properties: Path) -> None:
        name = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = ["java", "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
        _run([*command, f"--cluster-id={name}", "-c", str(properties)], "its storage", 60)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._guard is None or self._guard.poll() is not None or time.monotonic() > end:
                text = self.log.strip() or "nothing was printed"
                self.kill()
                raise KafkaUnavailable(f"the Kafka broker did not start: {text.splitlines()[-1]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether it answers a request; its port is open a little earlier than that."""
        header = (18).to_bytes(2) + (0).to_bytes(2) + (1).to_bytes(4) + (0).to_bytes(2)
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                connection.sendall(len(header).to_bytes(4) + header)
                return len(connection.recv(4)) == len(b"size")
        except OSError:
            return False

    def _end(self, number: int) -> None:
        if self._guard is None:
            return
        try:
            os.killpg(self._guard.pid, number)
        except ProcessLookupError:
            pass
        self._guard.wait(STOP_TIMEOUT_S * 2)
        self._guard = None


def fetched_jars() -> Path:
    """The folder with the broker's jars; fetched with Maven if they are not there.

    Raises:
        KafkaUnavailable: Java, Maven or Maven Central is missing.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None and not (program == "mvn" and JARS.exists()):
            raise KafkaUnavailable(f"no Kafka broker can be run: there is no '{program}' here")
    JARS.parent.mkdir(exist_ok=True)
    with (JARS.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Another process may be fetching them.
        if not JARS.exists():
            with tempfile.TemporaryDirectory(dir=JARS.parent) as folder:
                _fetch(Path(folder) / "libs")
                (Path(folder) / "libs").rename(JARS)
    return JARS


def _fetch(folder: Path) -> None:
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    _run(["mvn", "-B", "-q", "-f", str(POM), *goal], "its jars from Maven Central", FETCH_TIMEOUT_S)


def _run(command: list[str], what: str, timeout_s: int) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        lines = (done.stdout + done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
        failure = next((line for line in lines if "ERROR" in line), lines[-1])
        is_done = done.returncode == 0
    except subprocess.TimeoutExpired:
        failure, is_done = f"not done within {timeout_s} s", False
    if not is_done:
        raise KafkaUnavailable(f"no Kafka broker can be run, for want of {what}: {failure}")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _guard(parent: int, command: list[str]) -> int:
    """Run the broker, and end it when `parent` has ended in any way. One thread, of its own.

    The kernel kills the broker when this process dies. This process looks for its parent itself,
    because the signal that the kernel could send follows the thread that has started it.
    """
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    broker = subprocess.Popen(command, preexec_fn=_die_with_parent)  # noqa: PLW1509 - one thread
    while broker.poll() is None and os.getppid() == parent and not stopping.wait(0.2):
        pass
    if stopping.is_set():
        broker.terminate()
        try:
            return broker.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
    broker.kill()
    return broker.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> int:
    """Run a broker until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Run an Apache Kafka broker on loopback.")
    parser.add_argument("--guard", type=int, help=argparse.SUPPRESS)
    arguments, command = parser.parse_known_args()
    if arguments.guard is not None:
        return _guard(arguments.guard, command)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        with KafkaBroker({"auto.create.topics.enable": "true"}) as broker:
            print(f"Kafka is ready at {broker.bootstrap}. In another terminal:", flush=True)
            print(f"export KAFKA_BOOTSTRAP={broker.bootstrap}", flush=True)
            stopping.wait()
            broker.stop()
    except KafkaUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
