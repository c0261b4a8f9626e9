"""msgspec alone: one process encodes each event, another decodes as many, both at once."""

from __future__ import annotations

from itertools import repeat
from time import monotonic
from typing import Any

import crew
import msgspec
from crew import EVENT

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode


def hand_over(events: int, **_: Any) -> dict[str, float]:
    data = encode(EVENT)

    def produce(_: int, events: int) -> None:
        for _ in repeat(None, events):
            encode(EVENT)

    def consume(_: int) -> tuple[int, float]:
        for _ in repeat(None, events):
            decode(data)
        return events, monotonic()

    return crew.hand_over(1, 1, events, produce, consume)


crew.main(hand_over=hand_over)
