"""The report of a run: aims on the terminal, JSON, a Markdown table, and a plot."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.harness.environments import PACKAGES, ROOT, Unavailable, python_of
from benchmarks.harness.run import Row, Run

RESULTS = ROOT / "benchmarks" / "results"
ASSETS = ROOT / "docs" / "assets"


@dataclass(frozen=True)
class Aim:
    """What is aimed at, what was measured, and whether that is enough."""

    text: str
    aim: float
    measured: float
    is_reached: bool


@dataclass(frozen=True)
class Suite:
    """The benchmarks of one half of the project.

    Args:
        name: Of its files.
        scenarios: By name; each measures something and adds rows to the run.
        parties: Who takes part, in the order of the table's columns.
        labels: The scenarios that the table shows, and how it calls them.
        aims: What is aimed at, from the rows of a run.
    """

    name: str
    scenarios: dict[str, Callable[[Run], None]]
    parties: list[str]
    labels: dict[str, str]
    aims: Callable[[list[Row]], list[Aim]]

    def show(self, rows: list[Row]) -> None:
        """Print the aims and what was reached."""
        print(f"\n{'aim':62}{'aimed':>10}{'measured':>12}")
        for aim in self.aims(rows):
            verdict = "reached" if aim.is_reached else "MISSED"
            print(f"{aim.text:62}{aim.aim:10g}{aim.measured:12.2f}  {verdict}")

    def write(self, rows: list[Row], *, is_quick: bool) -> None:
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
        results = RESULTS / f"{self.name}.json"
        results.write_text(json.dumps(whole, indent=1) + "\n")
        results.with_suffix(".md").write_text(self._markdown(rows, machine))
        self._plot(results)

    def _markdown(self, rows: list[Row], machine: dict[str, object]) -> str:
        parties = [party for party in self.parties if any(row.party == party for row in rows)]
        lines = [
            f"| {machine['cores']} cores, Python {machine['python']} | {' | '.join(parties)} |",
            f"|---|{'---:|' * len(parties)}",
        ]
        for scenario, label in self.labels.items():
            found = {row.party: _cell(row) for row in rows if row.scenario == scenario}
            if any(party in found for party in parties):
                cells = " | ".join(found.get(party, "") for party in parties)
                lines.append(f"| {label} | {cells} |")
        return "\n".join(lines) + "\n"

    def _plot(self, results: Path) -> None:
        try:
            python = python_of("plot")
        except Unavailable as error:
            print(f"no plot: {error}", file=sys.stderr)
            return
        ASSETS.mkdir(parents=True, exist_ok=True)
        plot = ROOT / "benchmarks" / self.name / "plot.py"
        subprocess.run([python, plot, results, ASSETS / f"{self.name}-benchmark.svg"], check=True)


def _cell(row: Row) -> str:
    lost = row.more.get("lost")
    if row.value != row.value:  # NaN: what was lost never came
        return f"{lost:,} lost"
    is_whole = row.value >= 10 or isinstance(row.value, int)
    value = f"{row.value:,.0f}" if is_whole else f"{row.value:.2f}"
    return value + (f" ({lost:,} lost)" if lost else "")
