"""Draws the plot of a run; run by the environment that has matplotlib."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

NOW, ALONE = "turbo_queue pipeline", "the work alone"
OURS, OTHERS, WORK, OWN, BROKER = "#2563eb", "#b6bcc8", "#d1d5db", "#2563eb", "#d97706"


def draw(rows: list[dict], target: str) -> None:
    """Draw a bar for each party: events a second, and what used the CPU."""
    plt.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "daebus"})
    value = {(row["scenario"], row["party"]): row["value"] for row in rows}
    names = [row["party"] for row in rows if row["scenario"] == "rate"]
    names = sorted(names, key=lambda name: value["rate", name])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), sharey=True)

    work_us = value.get(("cpu", ALONE), 0)
    rates = [value["rate", name] for name in names]
    bars = left.barh(names, rates, color=[OURS if name == NOW else OTHERS for name in names])
    left.bar_label(bars, labels=[f"{rate:,.0f}" for rate in rates], padding=3)
    left.set_title(f"Kafka to Kafka, {work_us:.0f} µs of work (events/s)", loc="left", fontsize=10)

    work = [min(work_us, value["cpu", name]) for name in names]
    own = [value["cpu", name] - least for name, least in zip(names, work, strict=True)]
    broker = [value.get(("broker", name), 0) for name in names]
    right.barh(names, work, color=WORK, label="the work")
    right.barh(names, own, left=work, color=OWN, label="all else of the party")
    both = [sum(pair) for pair in zip(work, own, strict=True)]
    right.barh(names, broker, left=both, color=BROKER, label="the broker")
    right.set_title("CPU (µs an event, lower is better)", loc="left", fontsize=10)
    right.legend(frameon=False, bbox_to_anchor=(1.0, 1.0), loc="upper left")

    left.set_xticks([])
    left.margins(x=0.18)
    for axis in (left, right):
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


draw(json.loads(Path(sys.argv[1]).read_text())["rows"], sys.argv[2])
