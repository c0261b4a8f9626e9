"""The report of a run: a table on the terminal, JSON, a Markdown fragment, and a plot."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime

from benchmarks.harness.environments import PACKAGES, ROOT, Unavailable, python_of
from benchmarks.service.scenarios import NOW, OLD, Row

RESULTS = ROOT / "benchmarks" / "results"
ASSETS = ROOT / "docs" / "assets"


def targets(rows: list[Row]) -> list[tuple[str, float, float, bool]]:
    """What is aimed at: the text, the aim, the measured ratio, and whether it was reached."""
    value = {(row.scenario, row.party): row.value for row in rows}
    more = {(row.scenario, row.party): row.more for row in rows}
    found = []

    def at_least(text: str, aim: float, ours: tuple[str, str], theirs: tuple[str, str]) -> None:
        if ours in value and theirs in value:
            ratio = value[ours] / value[theirs]
            found.append((text, aim, ratio, ratio >= aim))

    if ("latency", NOW) in more and "times_bare" in more["latency", NOW]:
        ratio = float(str(more["latency", NOW]["times_bare"]))
        found.append(("one caller, p50: times the bare two hops, at most", 3.0, ratio, ratio <= 3))
    at_least("64 threads: times daebus 0.0.31", 10, ("64 threads", NOW), ("64 threads", OLD))
    at_least("64 threads: times nats-py", 2, ("64 threads", NOW), ("64 threads", "nats-py"))
    at_least("submit: times 64 threads of 0.0.31", 25, ("submit", NOW), ("64 threads", OLD))
    for listeners in (1, 4, 16):
        scenario = f"broadcast x{listeners}"
        ours = (scenario, NOW)
        at_least(f"{scenario}: times redis-py's listen()", 3, ours, (scenario, "redis-py"))
        at_least(f"{scenario}: times nats-py", 2, ours, (scenario, "nats-py"))
        if ours in more:
            lost = float(str(more[ours]["lost"]))
            found.append((f"{scenario}: messages lost", 0, lost, lost == 0))
    for row in rows:
        if row.scenario == "20 ms handler":
            linear = float(str(row.more["of_linear"]))
            found.append((f"20 ms handler, {row.party}: of linear", 0.9, linear, linear >= 0.9))
        if "unanswered" in row.more:
            unanswered = float(str(row.more["unanswered"]))
            found.append(("burst: unanswered", 0, unanswered, unanswered == 0))
    return found


def show(rows: list[Row]) -> None:
    """Print the aims and what was reached."""
    print(f"\n{'aim':58}{'aimed':>10}{'measured':>12}")
    for text, aim, measured, is_reached in targets(rows):
        print(f"{text:58}{aim:10g}{measured:12.2f}  {'reached' if is_reached else 'MISSED'}")


def write(rows: list[Row], *, is_quick: bool) -> None:
    """Write all files of the report."""
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "peers": PACKAGES,
        "quick": is_quick,
    }
    whole = {"machine": machine, "rows": [asdict(row) for row in rows]}
    (RESULTS / "service.json").write_text(json.dumps(whole, indent=1) + "\n")
    (RESULTS / "service.md").write_text(_markdown(rows, machine))
    _plot()


def _markdown(rows: list[Row], machine: dict[str, object]) -> str:
    parties = [party for party in _ORDER if any(row.party == party for row in rows)]
    lines = [
        f"| {machine['cores']} cores, Python {machine['python']} | {' | '.join(parties)} |",
        f"|---|{'---:|' * len(parties)}",
    ]
    for scenario, label in _LABELS.items():
        cells = []
        for party in parties:
            row = next((r for r in rows if (r.scenario, r.party) == (scenario, party)), None)
            cells.append("" if row is None else _cell(row))
        if any(cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_ORDER = [NOW, OLD, "FastStream", "nats-py", "redis-py", "redis-py + hiredis", "bare sockets"]
_LABELS = {
    "latency": "one caller, p50 in µs",
    "64 threads": "64 threads on one caller, requests/s",
    "64 tasks": "64 tasks of an event loop, requests/s",
    "submit": "`submit`, 500 under way, requests/s",
    "broadcast x1": "broadcast to 1 process, messages/s",
    "broadcast x4": "broadcast to 4 processes",
    "broadcast x16": "broadcast to 16 processes",
}


def _cell(row: Row) -> str:
    lost = row.more.get("lost")
    if row.value != row.value:  # NaN: what was lost never came
        return f"{lost:,} lost"
    return f"{row.value:,.0f}" + (f" ({lost:,} lost)" if lost else "")


def _plot() -> None:
    try:
        python = python_of("plot")
    except Unavailable as error:
        print(f"no plot: {error}", file=sys.stderr)
        return
    ASSETS.mkdir(parents=True, exist_ok=True)
    plot = ROOT / "benchmarks" / "harness" / "plot.py"
    files = [RESULTS / "service.json", ASSETS / "service-benchmark.svg"]
    subprocess.run([python, plot, *files], check=True)
