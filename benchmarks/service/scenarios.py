"""The scenarios: who takes part, what is measured, and which ratio is aimed at."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from time import perf_counter

from benchmarks.harness.run import Run

NOW, OLD, BARE = "daebus", "daebus 0.0.31", "bare sockets"


def latency(run: Run) -> None:
    """One caller, one request after the other; the parties take turns."""
    run.note("latency of one caller")
    parties = run.of([BARE, NOW, "nats-py", "FastStream", OLD])
    rounds, measured = (3 if run.is_quick else 7), {party: [] for party in parties}
    with ExitStack() as stack:
        for party in parties:
            stack.enter_context(run.start(party, "serve")).ready()
        for _ in range(rounds):
            for party in parties:
                count = 60 if party == OLD else 1500
                with run.start(party, "latency", count=count) as caller:
                    measured[party].append(caller.result())
    for party in parties:
        p50 = [each["p50_us"] for each in measured[party]]
        ratios = [ours / bare["p50_us"] for ours, bare in zip(p50, measured[BARE], strict=True)]
        run.add(
            "latency",
            party,
            median(p50),
            "us p50",
            p99_us=round(median(each["p99_us"] for each in measured[party])),
            times_bare=round(median(ratios), 2),
            spread=[round(min(ratios), 2), round(max(ratios), 2)],
        )


def throughput(run: Run) -> None:
    """Sixty-four threads, or tasks, on one caller; then `submit` with 500 under way."""
    run.note("64 threads or tasks on one caller, and submit with 500 under way")
    rounds = 2 if run.is_quick else 5
    roles = [
        ("64 threads", NOW, "threads", {"threads": 64, "count": 64_000}),
        ("submit", NOW, "submit", {"outstanding": 500, "count": 200_000}),
        ("64 threads", OLD, "threads", {"threads": 64, "count": 6_400}),
        ("64 threads", "nats-py", "threads", {"threads": 64, "count": 32_000}),
        ("64 tasks", "nats-py", "tasks", {"threads": 64, "count": 64_000}),
        ("64 tasks", "FastStream", "tasks", {"threads": 64, "count": 6_400}),
    ]
    takes_part = run.of([NOW, OLD, "nats-py", "FastStream"])
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for scenario, party, role, options in roles:
            if party in takes_part:
                with run.start(party, "serve") as service:
                    service.ready()
                    with run.start(party, role, **options) as caller:
                        measured.setdefault((scenario, party), []).append(caller.result())
    for (scenario, party), results in measured.items():
        rates = [each["rate"] for each in results]
        more: dict[str, object] = {"spread": [round(min(rates)), round(max(rates))]}
        if "cpu_us" in results[0]:
            more["cpu_us"] = round(median(each["cpu_us"] for each in results), 1)
        run.add(scenario, party, median(rates), "requests/s", **more)


def broadcast(run: Run) -> None:
    """Messages to 1, 4 and 16 listening processes, until the last of them has all."""
    publishers = {BARE: NOW, OLD: "redis-py + hiredis"}
    parties = run.of([NOW, "redis-py", "redis-py + hiredis", "nats-py", BARE, OLD])
    for listeners in (1, 4, 16):
        run.note(f"broadcast to {listeners} listening processes")
        for party in parties:
            count = _messages(party, listeners, is_quick=run.is_quick)
            with ExitStack() as stack:
                programs = [
                    stack.enter_context(run.start(party, "listen", count=count))
                    for _ in range(listeners)
                ]
                for program in programs:
                    program.ready()
                with run.start(publishers.get(party, party), "publish", count=count) as sender:
                    began_at = sender.result()["began_at"]
                results = [program.result() for program in programs]
            lost = sum(count - result["received"] for result in results)
            # CLOCK_MONOTONIC is one clock for all processes of a machine.
            ended_at = max(result["ended_at"] for result in results)
            rate = count / (ended_at - began_at) if not lost else float("nan")
            more: dict[str, object] = {"lost": lost, "messages": count}
            if "cpu_us" in results[0]:
                more["cpu_us"] = round(median(result["cpu_us"] for result in results), 1)
            run.add(f"broadcast x{listeners}", party, rate, "messages/s", **more)


def _messages(party: str, listeners: int, *, is_quick: bool) -> int:
    """The slow parties get fewer messages; a rate is a rate."""
    if party == OLD:
        return 20_000 // (4 if listeners == 16 else 1)
    whole = 100_000 if is_quick else 1_000_000
    if party in {NOW, BARE}:
        return whole
    return max(40_000, whole // {1: 2, 4: 5, 16: 20}[listeners])


def io_bound(run: Run) -> None:
    """A handler that waits for 20 ms: throughput grows with the number of threads."""
    run.note("a handler that waits for 20 ms, with 1 to 64 threads")
    for workers in (1, 2, 4, 8, 16, 32, 64) if NOW in run.parties else ():
        service = f"io_{workers}"
        with run.start(NOW, "serve", service=service, workers=workers) as serving:
            serving.ready()
            with run.start(NOW, "io_bound", service=service, workers=workers) as caller:
                rate = caller.result()["rate"]
        linear = round(rate / (workers / 0.02), 3)
        run.add("20 ms handler", f"{workers} threads", rate, "requests/s", of_linear=linear)


def cpu_bound(run: Run) -> None:
    """A handler of 10 ms of pure Python, in threads, in one process, and in two."""
    run.note("a handler of 10 ms of pure Python, in threads and in processes")
    loops = _loops_in(0.010)
    measured: dict[str, list[dict[str, float]]] = {}
    for _ in range(1 if run.is_quick else 5) if NOW in run.parties else ():
        for name, action, processes in (
            ("threads", "threads", 1),
            ("1 process", "processes", 1),
            ("2 processes", "processes", 2),
        ):
            with run.start(NOW, "serve_burn", processes=processes) as service:
                service.ready()
                with run.start(NOW, "burning", action=action, loops=loops, count=300) as caller:
                    measured.setdefault(name, []).append(caller.result())
    for name, results in measured.items():
        rate = median(each["rate"] for each in results)
        p50 = round(median(each["p50_us"] for each in results))
        run.add("10 ms of Python", name, rate, "requests/s", empty_call_p50_us=p50)


def _loops_in(seconds: float) -> int:
    """How many turns of the loop that the parties run take so long here, at its fastest."""
    tried = 100_000
    fastest = min(_time_of(tried) for _ in range(50))
    return int(tried * seconds / fastest)


def _time_of(loops: int) -> float:
    total, began = 0, perf_counter()
    for number in range(loops):
        total += number * number
    return perf_counter() - began


def memory(run: Run) -> None:
    """An idle service, and 100,000 requests at once to a handler that takes 1 ms."""
    run.note("memory: idle, and after 100,000 requests at once")
    if NOW not in run.parties:
        return
    with run.start(NOW, "serve") as service:
        service.ready()
        run.add("memory", "idle service", service.resident_mib(), "MiB")
        with run.start(NOW, "burst", count=100_000) as caller:
            outcome = caller.result()
        run.add("memory", "after the burst", service.peak_mib(), "MiB peak", **outcome)


SCENARIOS: dict[str, Callable[[Run], None]] = {
    "latency": latency,
    "throughput": throughput,
    "broadcast": broadcast,
    "io": io_bound,
    "cpu": cpu_bound,
    "memory": memory,
}
