"""Daebus, as it is in this checkout."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from concurrent.futures import wait
from time import monotonic, perf_counter, sleep

from common import PAYLOAD, cpu_s, give, main, ready, time_calls

from daebus import Broadcast, Daebus, DaebusCaller, Overloaded, request, response


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}"


def serve(port: int, service: str = "bench", workers: int = 10) -> None:
    app = Daebus("bench", max_workers=workers, url=url(port))

    @app.action("echo")
    def echo() -> object:
        return response.send(request.payload)

    @app.action("sleep")
    def sleep_a_while(seconds: float) -> None:
        sleep(seconds)

    app.start(service)
    ready()
    threading.Event().wait()


def serve_burn(port: int, processes: int) -> None:
    """Pure Python that keeps a core busy, in threads and in processes."""
    app = Daebus("burn", processes=processes, url=url(port))
    app.action("threads")(burn)
    app.action("processes", workers="process")(burn)
    app.start("burn")
    ready()
    threading.Event().wait()


def burn(loops: int) -> int:
    total = 0
    for number in range(loops):
        total += number * number
    return total


def burning(port: int, action: str, loops: int, count: int) -> None:
    """The rate of many calls at once, and the latency of one after the other that does nothing."""
    with DaebusCaller("burn", url(port), timeout=120) as caller:
        wait([caller.submit(action, {"loops": 0}) for _ in range(100)])
        began = perf_counter()
        futures = [caller.submit(action, {"loops": loops}) for _ in range(count)]
        for future in futures:
            future.result()
        rate = count / (perf_counter() - began)
        give(rate=rate, **time_calls(lambda: caller.call(action, {"loops": 0}), 300))


def latency(port: int, count: int) -> None:
    with DaebusCaller("bench", url(port)) as caller:
        give(**time_calls(lambda: caller.call("echo", PAYLOAD), count))


def many_threads(port: int, threads: int, count: int) -> None:
    with DaebusCaller("bench", url(port)) as caller:

        def work() -> None:
            for _ in range(count // threads):
                caller.call("echo", PAYLOAD)

        caller.call("echo", PAYLOAD)
        began, cpu = perf_counter(), cpu_s()
        started = [threading.Thread(target=work) for _ in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        done = count // threads * threads
        give(rate=done / (perf_counter() - began), cpu_us=(cpu_s() - cpu) / done * 1e6)


def submit(port: int, outstanding: int, count: int) -> None:
    with DaebusCaller("bench", url(port)) as caller:
        caller.call("echo", PAYLOAD)
        under_way: deque = deque()
        began, cpu = perf_counter(), cpu_s()
        for _ in range(count):
            if len(under_way) >= outstanding:
                under_way.popleft().result()
            under_way.append(caller.submit("echo", PAYLOAD))
        for future in under_way:
            future.result()
        give(rate=count / (perf_counter() - began), cpu_us=(cpu_s() - cpu) / count * 1e6)


def listen(port: int, count: int) -> None:
    """Count what is published, and tell when the last one has come or nothing comes any more."""
    app, heard, done = Daebus("listen", url=url(port)), itertools.count(1), threading.Event()
    ended_at = 0.0

    @app.listen("bench.events")
    def on_event(data: object) -> None:  # noqa: ARG001
        nonlocal ended_at
        if next(heard) == count:
            ended_at = monotonic()
            done.set()

    app.start(f"listen_{threading.get_native_id()}")
    ready()
    cpu = cpu_s()
    done.wait(120)
    give(received=next(heard) - 1, ended_at=ended_at, cpu_us=(cpu_s() - cpu) / count * 1e6)


def publish(port: int, count: int) -> None:
    publisher = Broadcast(url(port))
    publisher.send("bench.events.warm_up", PAYLOAD)
    began_at = monotonic()
    publisher.send_many("bench.events", itertools.repeat(PAYLOAD, count))
    give(sent=count, began_at=began_at)


def io_bound(port: int, service: str, workers: int) -> None:
    with DaebusCaller(service, url(port), timeout=120) as caller:
        caller.call("sleep", {"seconds": 0})
        count = workers * 100
        began = perf_counter()
        wait([caller.submit("sleep", {"seconds": 0.02}) for _ in range(count)])
        give(rate=count / (perf_counter() - began))


def burst(port: int, count: int) -> None:
    """So many requests at once to a handler of 1 ms: what became of each."""
    with DaebusCaller("bench", url(port), timeout=120) as caller:
        caller.call("sleep", {"seconds": 0})
        futures = [caller.submit("sleep", {"seconds": 0.001}) for _ in range(count)]
        wait(futures)
        errors = [future.exception() for future in futures]
        answered = sum(error is None for error in errors)
        rejected = sum(isinstance(error, Overloaded) for error in errors)
        give(answered=answered, rejected=rejected, unanswered=count - answered - rejected)


main(
    serve=serve,
    serve_burn=serve_burn,
    burning=burning,
    latency=latency,
    threads=many_threads,
    submit=submit,
    listen=listen,
    publish=publish,
    io_bound=io_bound,
    burst=burst,
)
