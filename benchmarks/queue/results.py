"""What is aimed at for queues, and how the table of a run reads."""

from __future__ import annotations

from benchmarks.harness.report import Aim, Suite
from benchmarks.harness.run import Row
from benchmarks.queue.scenarios import (
    CODEC,
    FASTER,
    FILE,
    NOW,
    OLD,
    POINTS,
    QUEUES,
    REDIS,
    SCENARIOS,
    STANDARD,
)

LABELS = {f"{p}x{c}": f"{p} → {c} processes, events/s" for p, c in POINTS} | {
    "wake-up": "wake-up of an idle consumer, p50 in µs"
}


def aims(rows: list[Row]) -> list[Aim]:
    """What is aimed at: the text, the aim, the measured ratio, and whether it was reached."""
    value = {(row.scenario, row.party): row.value for row in rows}
    found = []

    def at_least(
        text: str, aim: float, ours: tuple[str, str], theirs: tuple[str, str], unit: float = 1
    ) -> None:
        if ours in value and theirs in value:
            ratio = value[ours] / value[theirs] * unit
            found.append(Aim(text, aim, ratio, ratio >= aim))

    def at_most(text: str, aim: float, ours: tuple[str, str], theirs: tuple[str, str]) -> None:
        if ours in value and theirs in value:
            ratio = value[ours] / value[theirs]
            found.append(Aim(text, aim, ratio, ratio <= aim))

    for producers, consumers in POINTS:
        point = f"{producers}x{consumers}"
        for party, aim in ((OLD, 6), (STANDARD, 6), (FASTER, 3), (REDIS, 1)):
            at_least(f"{point}: times {party}", aim, (point, NOW), (point, party))
    at_least("2x40 beside 2x4, in percent", 80, ("2x40", NOW), ("2x4", NOW), unit=100)
    at_most("CPU: times msgspec alone", 1.6, ("cpu json", NOW), ("cpu json", CODEC))
    at_most("CPU, bytes: times a plain file", 3, ("cpu bytes", NOW), ("cpu bytes", FILE))
    at_most(
        "a claim: 10,000 files beside 10",
        2,
        *(("claim", f"{n} files ready") for n in ("10,000", "10")),
    )
    for row in rows:
        if (row.scenario, row.party) == ("wake-up", NOW):
            idle = float(str(row.more["idle_percent_of_a_core"]))
            found.append(Aim("wake-up: p50 in ms, below", 1, row.value / 1000, row.value < 1000))
            found.append(Aim("idle: percent of a core, below", 1, idle, idle < 1))
    return found


SUITE = Suite("queue", SCENARIOS, QUEUES, LABELS, aims)
