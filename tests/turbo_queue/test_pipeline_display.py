"""How a running pipeline is shown: a live line on a terminal, log lines elsewhere."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from turbo_queue.pipeline.counts import Counts
from turbo_queue.pipeline.display import Display


class Clock:
    """A clock that stands still between two steps."""

    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    """Keeps what a terminal was sent."""

    def lines(self) -> list[str]:
        """What was visible, one after the other."""
        return [part for part in self.getvalue().replace("\x1b[2K", "").split("\r") if part]


def shown_on_a_terminal(looks: list[Counts], width: int = 200) -> Terminal:
    terminal, clock = Terminal(), Clock()
    console = Console(file=terminal, force_terminal=True, color_system=None, width=width)
    with Display(is_terminal=True, name="orders", console=console, clock=clock) as display:
        for counts in looks:
            clock.now_s += 1
            display.show(counts)
    return terminal


def test_a_terminal_shows_one_line_that_changes_and_the_totals_at_the_end() -> None:
    looks = [Counts(read=second * 2_000, written=second * 1_500) for second in range(1, 9)]

    terminal = shown_on_a_terminal(looks)

    assert terminal.lines() == [
        *(
            f"orders: in {look.read:,} (2,000/s), out {look.written:,} (1,500/s), "
            f"waiting 0, failed 0"
            for look in looks
        ),
        "orders: ended after 8.0 s: in 16,000, out 12,000 (1,500/s), waiting 0, failed 0\n",
    ]
    assert terminal.getvalue().count("\n") == 1


def test_the_rate_is_that_of_the_last_seconds() -> None:
    looks = [Counts(read=1_000_000)] + [Counts(read=1_000_000 + 10 * n) for n in range(10)]

    assert "(10/s)" in shown_on_a_terminal(looks).lines()[-2]


def test_a_line_is_cut_to_the_width_of_the_terminal() -> None:
    terminal = shown_on_a_terminal([Counts(read=10**9, dead=5)], width=30)

    assert terminal.lines()[0] == "orders: in 1,000,000,000 (1,0…"[:28] + "…"


def test_what_went_wrong_is_shown_once_there_is_something() -> None:
    terminal = shown_on_a_terminal(
        [Counts(), Counts(dead=2, retried=3, restarts=1, waiting=4, damaged=5)]
    )

    first, second, last = terminal.lines()
    assert first.endswith("waiting 0, failed 0")
    assert second.endswith("waiting 4, failed 2, retried 3, restarts 1, damaged files 5")
    assert last.endswith("waiting 4, failed 2, retried 3, restarts 1, damaged files 5\n")


def test_elsewhere_a_line_is_logged_every_ten_seconds_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "turbo_queue.pipeline")
    clock = Clock()
    with Display(is_terminal=False, name="orders", clock=clock) as display:
        for second in range(1, 26):
            clock.now_s += 1
            display.show(Counts(read=second * 100, written=second * 100))

    assert [(record.event, record.getMessage()) for record in caplog.records] == [
        (
            "pipeline.progress",
            "orders: in 1,000 (100/s), out 1,000 (100/s), waiting 0, failed 0",
        ),
        (
            "pipeline.progress",
            "orders: in 2,000 (100/s), out 2,000 (100/s), waiting 0, failed 0",
        ),
        (
            "pipeline.ended",
            "orders: ended after 25.0 s: in 2,500, out 2,500 (100/s), waiting 0, failed 0",
        ),
    ]


def test_an_end_before_the_first_look_shows_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown_on_a_terminal([]).lines()[0].startswith("orders: ended after 0.0 s: in 0, out 0")
