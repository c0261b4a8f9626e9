"""Wishes for the end, by a signal or by another thread."""

from __future__ import annotations

import os
from select import select

from turbo_queue.signals import StopSignals


def test_a_request_ends_the_pause() -> None:
    with StopSignals() as signals:
        signals.request()
        signals.pause(60)

        assert signals.count == 1


def test_a_request_that_comes_too_late_writes_to_nobody_elses_files() -> None:
    with StopSignals() as signals:
        pass
    ends = [*os.pipe(), *os.pipe()]  # They get the numbers that have become free.

    signals.request()

    readable, _, _ = select(ends[::2], [], [], 0)
    for end in ends:
        os.close(end)
    assert readable == []


def test_requests_without_number_do_no_harm() -> None:
    with StopSignals() as signals:
        for _ in range(70_000):  # More than a pipe holds.
            signals.request()

        assert signals.is_wanted
