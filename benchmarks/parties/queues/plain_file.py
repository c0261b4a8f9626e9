"""A plain file: one process appends a line for each event, another reads as many, both at once."""

from __future__ import annotations

import tempfile
from itertools import repeat
from pathlib import Path
from time import monotonic
from typing import Any

import crew

LINE = b'{"data":"add_to_queue","id":12345,"user":"abcdef","ts":1678299438.25,"tags":["a"]}\n'


def hand_over(events: int, **_: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="daebus-bench-") as folder:
        there = Path(folder) / "there"
        there.write_bytes(LINE * events)

        def produce(_: int, events: int) -> None:
            with (Path(folder) / "new").open("ab") as file:
                write = file.write
                for _ in repeat(None, events):
                    write(LINE)

        def consume(_: int) -> tuple[int, float]:
            got = 0
            with there.open("rb") as file:
                for _ in file:
                    got += 1
            return got, monotonic()

        return crew.hand_over(1, 1, events, produce, consume)


crew.main(hand_over=hand_over)
