"""The scenarios: who takes part, and what is measured."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from benchmarks.harness.run import Run

NOW, SINGLY = "turbo_queue", "turbo_queue, put one by one"
OLD, STANDARD, FASTER = "turbo-queue 0.8.0", "multiprocessing.Queue", "faster-fifo"
ZERO, REDIS = "ZeroMQ", "Redis list"
CODEC, FILE = "msgspec alone", "a plain file"

QUEUES = [NOW, SINGLY, OLD, STANDARD, FASTER, ZERO, REDIS]

#: Producers x consumers.
POINTS = [(1, 1), (1, 4), (2, 4), (1, 16), (2, 40)]

#: So that a run takes some seconds for each of them; a rate is a rate.
EVENTS = {
    NOW: 3_000_000,
    SINGLY: 1_500_000,
    OLD: 150_000,
    STANDARD: 100_000,
    FASTER: 300_000,
    ZERO: 200_000,
    REDIS: 300_000,
}


def throughput(run: Run) -> None:
    """Events from so many producers to so many consumers; the parties take turns."""
    rounds = 1 if run.is_quick else 3
    parties = run.of(QUEUES)
    for producers, consumers in POINTS:
        run.note(f"{producers} producers, {consumers} consumers")
        measured: dict[str, list[dict[str, float]]] = {party: [] for party in parties}
        for _ in range(rounds):
            for party in parties:
                events = EVENTS[party] // (5 if run.is_quick else 1)
                with run.start(
                    party,
                    "hand_over",
                    producers=producers,
                    consumers=consumers,
                    events=events,
                    is_single=party == SINGLY,
                ) as crew:
                    measured[party].append(crew.result())
        for party, results in measured.items():
            rates = [result["rate"] for result in results]
            run.add(
                f"{producers}x{consumers}",
                party,
                median(rates),
                "events/s",
                cpu_us=round(median(result["cpu_us"] for result in results), 2),
                spread=[round(min(rates)), round(max(rates))],
            )


def cost(run: Run) -> None:
    """CPU time an event, all processes together, beside what cannot be avoided."""
    run.note("CPU time an event: JSON beside msgspec alone, bytes beside a plain file")
    events = 1_000_000 if run.is_quick else 4_000_000
    for scenario, ours, alone in (("cpu json", "json", CODEC), ("cpu bytes", "raw", FILE)):
        measured: dict[str, list[float]] = {}
        parties = run.of([NOW, alone])
        for _ in range(3 if run.is_quick else 7):
            for party in parties:
                options = {"producers": 1, "consumers": 1, "codec": ours} if party == NOW else {}
                with run.start(party, "hand_over", events=events, **options) as crew:
                    measured.setdefault(party, []).append(crew.result()["cpu_us"])
        for party, times in measured.items():
            spread = [round(min(times), 3), round(max(times), 3)]
            run.add(scenario, party, median(times), "us an event", spread=spread)


def wake_up(run: Run) -> None:
    """How soon an idle consumer has an event, and what waiting costs."""
    run.note("wake-up of an idle consumer, and its CPU while it waits")
    for party in run.of([NOW, OLD, STANDARD, FASTER, ZERO, REDIS]):
        with run.start(party, "wake_up", count=100 if run.is_quick else 400) as crew:
            result = crew.result()
        run.add(
            "wake-up",
            party,
            result["p50_us"],
            "us p50",
            p99_us=round(result["p99_us"]),
            idle_percent_of_a_core=round(result["idle_percent"], 2),
        )


def claims(run: Run) -> None:
    """What a claim costs with ten and with ten thousand ready files."""
    run.note("a claim with 10 and with 10,000 files ready")
    for ready in (10, 10_000):
        for party in run.of([NOW]):
            with run.start(party, "claims", ready=ready) as crew:
                run.add("claim", f"{ready:,} files ready", crew.result()["us"], "us a claim")


SCENARIOS: dict[str, Callable[[Run], None]] = {
    "throughput": throughput,
    "cost": cost,
    "wake-up": wake_up,
    "claims": claims,
}
