"""The scenario: who takes part, and what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.harness.environments import Unavailable
from benchmarks.harness.kafka import Kafka
from benchmarks.harness.run import Run
from benchmarks.pipeline.topics import Results, Topics

NOW, ALONE = "turbo_queue pipeline", "the work alone"
ONE, TWO = "confluent-kafka, one process", "confluent-kafka, two consumers"
SINGLY, TOGETHER = "multiprocessing.Queue, one by one", "multiprocessing.Queue, 100 together"
OLD, QUIX = "turbo-queue 0.8.0, Kafka", "Quix Streams"

PIPELINES = [NOW, ONE, TWO, SINGLY, TOGETHER, OLD, QUIX]
OPTIONS = {SINGLY: {"together": 1}, TOGETHER: {"together": 100}}

#: Processes that work.
PROCESSES = 2

#: What uses less CPU time for each event only waits.
LEAST_US = 0.05

#: The slow parties get fewer events; a rate is a rate.
EVENTS = dict.fromkeys(PIPELINES, 1_000_000) | {
    ONE: 500_000,
    SINGLY: 500_000,
    OLD: 200_000,
    QUIX: 500_000,
}


@dataclass(frozen=True)
class Outcome:
    """What one party did in one round.

    Args:
        events: How many it was given.
        rate: Events a second, from the word "go" to the last result that the broker had.
        start_s: From the word "go" to the first result.
        cpu_us: The CPU time of its processes for each event, by name.
        broker_us: … and that of the broker, if it was started here.
        results: What the topic held in the end.
    """

    events: int
    rate: float
    start_s: float
    cpu_us: dict[str, float]
    broker_us: float | None
    results: Results


def kafka_to_kafka(run: Run) -> None:
    """Events from a topic through the work to another; the parties take turns."""
    run.note("from Kafka through the work to Kafka")
    try:
        with Kafka() as kafka:
            measured, alone = _rounds(run, kafka)
    except Unavailable as error:
        run.note(f"left out: {error}")
        return
    work_us = 0.0
    if alone:
        work_us = median(each["cpu_us"] for each in alone)
        run.add("rate", ALONE, median(each["rate"] for each in alone), "events/s")
        run.add("cpu", ALONE, work_us, "us an event")
    for party, outcomes in measured.items():
        _add(run, party, outcomes, work_us)


def _rounds(run: Run, kafka: Kafka) -> tuple[dict[str, list[Outcome]], list[dict[str, float]]]:
    topics = Topics(kafka.bootstrap)
    parties = run.of(PIPELINES)
    events = {party: EVENTS[party] // (5 if run.is_quick else 1) for party in parties}
    measured: dict[str, list[Outcome]] = {party: [] for party in parties}
    alone: list[dict[str, float]] = []
    try:
        sources = {number: topics.make() for number in sorted(set(events.values()))}
        for number, source in sources.items():
            run.note(f"  {number:,} events into a topic")
            topics.fill(source, number)
        _warm_up(run, kafka, topics, parties, sources)
        for _ in range(2):
            for party in parties:
                source = sources[events[party]]
                measured[party].append(_outcome(run, kafka, topics, party, source, events[party]))
            for party in run.of([ALONE]):
                with run.start(party, "alone", processes=PROCESSES, events=200_000) as program:
                    alone.append(program.result())
    finally:
        topics.drop_all()
    return measured, alone


def _warm_up(
    run: Run, kafka: Kafka, topics: Topics, parties: list[str], sources: dict[int, str]
) -> None:
    """Let the broker's compiler see what is to come, so that the first party pays nothing."""
    events = min(sources, default=0)
    for party in parties[:1]:
        run.note("  a warm-up, which does not count")
        _outcome(run, kafka, topics, party, sources[events], events)


def _outcome(
    run: Run, kafka: Kafka, topics: Topics, party: str, source: str, events: int
) -> Outcome:
    sink = topics.make()
    options = {"processes": 1 if party == ONE else PROCESSES, **OPTIONS.get(party, {})}
    with (
        TemporaryDirectory(prefix="daebus-bench-") as folder,
        run.start(
            *(party, "pipeline"),
            bootstrap=kafka.bootstrap,
            source=source,
            sink=sink,
            group=f"group of {sink}",
            folder=folder,
            **options,
        ) as program,
    ):
        program.ready()
        before, broker_before = program.cpu_s(), kafka.cpu_s()
        began_at = time.time()
        program.go()
        topics.await_results(sink, events)
        after, broker_s = program.cpu_s(), kafka.cpu_s() - broker_before
        results = topics.results(sink, events)
    topics.drop(sink)
    rate = float("nan") if results.lost else events / (results.last_at - began_at)
    run.note(f"  {party:36} {rate:9,.0f} events/s")
    return Outcome(
        events,
        rate,
        results.first_at - began_at,
        {
            name.removeprefix("pipeline-"): (spent_s - before.get(name, 0)) / events * 1e6
            for name, spent_s in after.items()
        },
        broker_s / events * 1e6 if kafka.is_ours else None,
        results,
    )


def _add(run: Run, party: str, outcomes: list[Outcome], work_us: float) -> None:
    rates = [outcome.rate for outcome in outcomes]
    run.add(
        "rate",
        party,
        median(rates),
        "events/s",
        spread=[round(min(rates)), round(max(rates))],
        start_s=round(median(outcome.start_s for outcome in outcomes), 2),
        lost=sum(outcome.results.lost for outcome in outcomes),
        wrong=sum(outcome.results.wrong for outcome in outcomes),
    )
    by_name = {
        name: round(median(outcome.cpu_us.get(name, 0) for outcome in outcomes), 2)
        for name, spent_us in outcomes[0].cpu_us.items()
        if spent_us >= LEAST_US
    }
    cpu_us = median(sum(outcome.cpu_us.values()) for outcome in outcomes)
    run.add("cpu", party, cpu_us, "us an event", **by_name)
    if work_us:
        run.add("share", party, 100 * (1 - work_us / cpu_us), "% of that not the work")
    if broker_us := [each.broker_us for each in outcomes if each.broker_us is not None]:
        run.add("broker", party, median(broker_us), "us an event")
    duplicates = sum(outcome.results.duplicates for outcome in outcomes)
    run.add("duplicates", party, duplicates, "results", rounds=len(outcomes))
    run.add("events", party, outcomes[0].events, "events")


SCENARIOS: dict[str, Callable[[Run], None]] = {"kafka": kafka_to_kafka}
