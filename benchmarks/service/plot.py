"""Draws the plot of a report; run by the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

PANELS = [
    ("latency", "one caller, p50 (µs, lower is better)"),
    ("64 threads", "64 threads on one caller (requests/s)"),
    ("submit", "submit, 500 under way; others: 64 tasks or threads (requests/s)"),
    ("broadcast x4", "broadcast to 4 processes (messages/s)"),
]


def draw(rows: list[dict], target: str) -> None:
    """Draw a bar for each party in each panel."""
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "daebus"})
    figure, axes = plt.subplots(2, 2, figsize=(10, 5.2))
    for axis, (scenario, title) in zip(axes.flat, PANELS, strict=True):
        found = [row for row in rows if row["scenario"] == scenario]
        if scenario == "submit":
            found += [row for row in rows if row["scenario"] == "64 tasks"]
            found += [
                row
                for row in rows
                if (row["scenario"], row["party"]) == ("64 threads", "daebus 0.0.31")
            ]
        names = [row["party"] for row in found][::-1]
        values = [row["value"] for row in found][::-1]
        colors = ["#2563eb" if name == "daebus" else "#b6bcc8" for name in names]
        bars = axis.barh(names, values, color=colors)
        axis.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=3)
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.set_xticks([])
        axis.margins(x=0.18)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


draw(json.loads(Path(sys.argv[1]).read_text())["rows"], sys.argv[2])
