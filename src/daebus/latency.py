"""Latencies as counts in buckets, as Prometheus has them, and quantiles of such counts. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial

#: Upper bounds of the buckets, in seconds; one more bucket has all that took longer.
BOUNDS_S = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
)

BUCKETS = len(BOUNDS_S) + 1


#: The number of the bucket that counts a latency, given in seconds. It runs for each message, so no
#: function of Python stands around it.
bucket_of: Callable[[float], int] = partial(bisect_left, BOUNDS_S)


def quantile_s(counts: Sequence[int], quantile: float) -> float | None:
    """The latency below which a share of all lies, in seconds; None where nothing was counted.

    Within a bucket it is interpolated, as Prometheus' `histogram_quantile` does it; what took
    longer than the last bound is told as that bound.

    Args:
        counts: how many were counted in each bucket; buckets that are missing at the end are empty.
        quantile: the share, from 0 to 1: 0.5 for the median.

    Example:
        >>> quantile_s([0, 0, 0, 0, 100], 0.5)
        0.0015
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below = quantile * total, 0
    for number, count in enumerate(counts):
        if below + count >= wanted and count:
            if number >= len(BOUNDS_S):
                break
            lower = BOUNDS_S[number - 1] if number else 0.0
            return lower + (BOUNDS_S[number] - lower) * (wanted - below) / count
        below += count
    return BOUNDS_S[-1]
