"""Draws the plot of a run; run by the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

POINTS = ["1x1", "1x4", "2x4", "1x16", "2x40"]
COLORS = {"turbo_queue": "#2563eb", "turbo_queue, put one by one": "#7aa2f7"}
OTHERS = ["#d97706", "#6b7280", "#059669", "#9333ea", "#dc2626"]


def draw(rows: list[dict], target: str) -> None:
    """Draw a line for each party: events a second at each number of processes."""
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "daebus"})
    figure, axis = plt.subplots(figsize=(8, 4.5))
    parties = list(dict.fromkeys(row["party"] for row in rows if row["scenario"] in POINTS))
    others = iter(OTHERS)
    for party in parties:
        found = {row["scenario"]: row["value"] for row in rows if row["party"] == party}
        points = [point for point in POINTS if point in found]
        color = COLORS.get(party) or next(others)
        axis.plot(points, [found[point] for point in points], marker="o", label=party, color=color)
    axis.set_yscale("log")
    axis.set_ylabel("events/s (logarithmic)")
    axis.set_xlabel("producers x consumers, processes")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", which="major", color="#e5e7eb")
    axis.legend(frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


draw(json.loads(Path(sys.argv[1]).read_text())["rows"], sys.argv[2])
