"""What is aimed at for pipelines, and how the table of a run reads."""

from __future__ import annotations

from benchmarks.harness.report import Aim, Suite
from benchmarks.harness.run import Row
from benchmarks.pipeline.scenarios import ALONE, NOW, OLD, ONE, PIPELINES, QUIX, SCENARIOS, SINGLY

LABELS = {
    "rate": "Kafka → work in 2 processes → Kafka, events/s",
    "cpu": "CPU of its processes, µs an event",
    "share": "… of that not the work, percent",
    "broker": "CPU of the broker, µs an event",
    "duplicates": "results too many, in both rounds",
    "events": "events in a round",
}


def aims(rows: list[Row]) -> list[Aim]:
    """What is aimed at: the text, the aim, the measured ratio, and whether it was reached."""
    rates = {row.party: row for row in rows if row.scenario == "rate"}
    found = []
    for party in (ONE, SINGLY, OLD, QUIX):
        if NOW in rates and party in rates:
            ratio = rates[NOW].value / rates[party].value
            found.append(Aim(f"times {party}", 1, ratio, ratio > 1))
    if NOW in rates:
        for what in ("lost", "wrong"):
            number = float(str(rates[NOW].more[what]))
            found.append(Aim(f"{NOW}: results {what}", 0, number, number == 0))
    return found


SUITE = Suite("pipeline", SCENARIOS, [*PIPELINES, ALONE], LABELS, aims)
