"""Draws the plot of a run; run by the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PANELS = [
    ("rate", "requests/s, 500 under way"),
    ("service cpu", "CPU of the service (µs a request)"),
]


def draw(rows: list[dict], target: str) -> None:
    """Draw a bar for each way to look at a service in each panel."""
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "daebus"})
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.4), sharey=True)
    for axis, (scenario, title) in zip(axes, PANELS, strict=True):
        found = [row for row in rows if row["scenario"] == scenario][::-1]
        values = [row["value"] for row in found]
        colors = ["#b6bcc8" if row["party"] == "nothing" else "#2563eb" for row in found]
        bars = axis.barh([row["party"] for row in found], values, color=colors)
        axis.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3)
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.set_xticks([])
        axis.margins(x=0.18)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


draw(json.loads(Path(sys.argv[1]).read_text())["rows"], sys.argv[2])
