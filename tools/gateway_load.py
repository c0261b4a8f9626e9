"""How many requests a second go through `daebus gateway`, beside the same calls without it.

    python tools/gateway_load.py [--connections 32] [--seconds 5]

Service, gateway, clients and Valkey share the machine. The clients of the gateway are raw sockets
in a process of their own, so that it is the gateway that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import threading
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from daebus import DaebusCaller
from daebus.bus.embedded import EmbeddedServer

SERVICE = """
import sys
from daebus import Daebus
app = Daebus("load")

@app.action("add")
def add(a: int, b: int) -> int:
    return a + b

app.run("load")
"""
REQUEST = (
    b"POST /services/load/actions/add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n"
    b'{"a": 1, "b":2}'
)


async def ask(port: int, latencies: list[float], end: float) -> None:
    """Send one request after the other over one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (start := perf_counter()) < end:
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head  # noqa: S101 - a measurement of errors is none
        await reader.readexactly(1)
        latencies.append(perf_counter() - start)
    writer.close()


def through_the_gateway(port: int, connections: int, seconds: float, result: Connection) -> None:
    """The clients of the gateway: a process of their own."""

    async def all_of_them() -> list[float]:
        latencies: list[float] = []
        end = perf_counter() + seconds
        await asyncio.gather(*(ask(port, latencies, end) for _ in range(connections)))
        return latencies

    result.send(asyncio.run(all_of_them()))


def directly(url: str, threads: int, seconds: float, result: Connection) -> None:
    """The same calls by threads that share a caller."""
    latencies: list[float] = []
    end = perf_counter() + seconds

    def call() -> None:
        while (start := perf_counter()) < end:
            caller.call("add", {"a": 1, "b": 2})
            latencies.append(perf_counter() - start)

    with DaebusCaller("load", url) as caller:
        callers = [threading.Thread(target=call) for _ in range(threads)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
    result.send(latencies)


def measure(what: str, function: object, *arguments: object) -> None:
    """Run clients for a while, and print how they fared."""
    mine, its = Pipe()
    process = Process(target=function, args=(*arguments, its))
    process.start()
    latencies = sorted(mine.recv())
    process.join()
    seconds = float(arguments[-1])
    rate = len(latencies) / seconds
    p50, p99 = (latencies[int(len(latencies) * part)] * 1000 for part in (0.5, 0.99))
    print(f"{what:40} {rate:8,.0f} requests/s   p50 {p50:.2f} ms   p99 {p99:.2f} ms")


def ready(process: subprocess.Popen[str]) -> str:
    """Wait for the line that says that a program is ready."""
    for line in process.stderr:
        if "is ready" in line:
            return line
    raise SystemExit("it did not start")


def main() -> None:
    """Measure both, with one client and with many."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder)) as server:
        gateway = [
            "-m",
            "daebus",
            "gateway",
            "--expose",
            "load",
            "--port",
            "0",
            "--url",
            server.url,
        ]
        env = {**os.environ, "DAEBUS_URL": server.url}
        programs = [
            subprocess.Popen([sys.executable, *each], stderr=subprocess.PIPE, text=True, env=env)
            for each in (["-c", SERVICE], gateway)
        ]
        ready(programs[0])
        address = ready(programs[1]).partition("http://")[2].partition(";")[0]
        port = urlsplit(f"http://{address}").port
        for count in (1, options.connections):
            measure(
                f"gateway, {count} connections", through_the_gateway, port, count, options.seconds
            )
            measure(f"directly, {count} threads", directly, server.url, count, options.seconds)
        for each in programs:
            each.terminate()
            each.wait()


if __name__ == "__main__":
    main()
