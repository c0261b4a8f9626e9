"""The predecessor: PyPI's daebus 0.0.31."""

from __future__ import annotations

import itertools
import os
import threading
from time import monotonic, perf_counter

from common import PAYLOAD, give, main, ready, time_calls

from daebus import Daebus, DaebusCaller, request, response


def serve(port: int, workers: int = 10) -> None:
    app = Daebus("bench", max_workers=workers)

    @app.action("echo")
    def echo() -> object:
        return response.send(request.payload)

    # It has no way to tell that it is ready: its own caller asks until it answers.
    threading.Thread(target=_tell_when_ready, args=(port,), daemon=True).start()
    app.run(service="bench_old", redis_host="127.0.0.1", redis_port=port)


def _caller(port: int) -> DaebusCaller:
    return DaebusCaller("bench_old", redis_host="127.0.0.1", redis_port=port)


def _tell_when_ready(port: int) -> None:
    caller = _caller(port)
    while True:
        try:
            caller.send_request("echo", {}, timeout=0.5)
        except Exception:  # noqa: BLE001 - it raises plain exceptions until it is up
            continue
        ready()
        return


def latency(port: int, count: int) -> None:
    caller = _caller(port)
    give(**time_calls(lambda: caller.send_request("echo", PAYLOAD), count))
    os._exit(0)


def many_threads(port: int, threads: int, count: int) -> None:
    caller = _caller(port)

    def work() -> None:
        for _ in range(count // threads):
            caller.send_request("echo", PAYLOAD)

    caller.send_request("echo", PAYLOAD)
    began = perf_counter()
    started = [threading.Thread(target=work) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    give(rate=count // threads * threads / (perf_counter() - began))
    os._exit(0)


def listen(port: int, count: int) -> None:
    app, heard, done = Daebus("listen"), itertools.count(1), threading.Event()
    ended_at = 0.0

    @app.listen("bench.events")
    def on_event(data: object) -> None:  # noqa: ARG001
        nonlocal ended_at
        if next(heard) == count:
            ended_at = monotonic()
            done.set()

    def tell() -> None:
        threading.Event().wait(2.0)  # It has no way to tell that it is ready.
        ready()
        done.wait(60)
        give(received=next(heard) - 1, ended_at=ended_at)
        os._exit(0)

    threading.Thread(target=tell, daemon=True).start()
    app.run(service=f"listen_{os.getpid()}", redis_host="127.0.0.1", redis_port=port)


main(serve=serve, latency=latency, threads=many_threads, listen=listen)
