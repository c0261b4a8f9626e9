"""What is aimed at for a service that is looked at, and how the table of a run reads."""

from __future__ import annotations

from benchmarks.harness.report import Aim, Suite
from benchmarks.harness.run import Row
from benchmarks.observing.scenarios import METRICS, SCENARIOS, WAYS

LABELS = {
    "rate": "500 under way, requests/s",
    "ratio": "… of the rate with nothing, median of the rounds",
    "p50": "one caller, p50 in µs",
    "service cpu": "CPU of the service, µs a request",
    "caller cpu": "CPU of the caller, µs a request",
}


def aims(rows: list[Row]) -> list[Aim]:
    """What is aimed at: the text, the aim, the measured ratio, and whether it was reached."""
    ratios = {row.party: row.value for row in rows if row.scenario == "ratio"}
    found = []
    if METRICS.name in ratios:
        ratio = ratios[METRICS.name]
        found.append(Aim("metrics: of the rate with nothing", 0.97, ratio, ratio >= 0.97))
        cpu = next(
            float(str(row.more["of_nothing"]))
            for row in rows
            if row.scenario == "service cpu" and row.party == METRICS.name
        )
        found.append(
            Aim("metrics: CPU of the service, times that with nothing", 1.05, cpu, cpu <= 1.05)
        )
        scrapes = sum(
            int(str(row.more["scrapes"]))
            for row in rows
            if row.scenario == "rate" and row.party == METRICS.name
        )
        found.append(Aim("scrapes while it was measured, at least", 5, scrapes, scrapes >= 5))
    return found


SUITE = Suite("observing", SCENARIOS, [way.name for way in WAYS], LABELS, aims)
