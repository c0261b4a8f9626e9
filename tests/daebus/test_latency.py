"""Quantiles of counted latencies."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from daebus.bus.presence import Figures, Replica, decode_replica, encode_replica
from daebus.latency import BOUNDS_S, BUCKETS, bucket_of, quantile_s

LATENCIES = st.lists(st.floats(0, 99, exclude_min=True), min_size=1, max_size=200)


def counted(latencies: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for latency in latencies:
        counts[bucket_of(latency)] += 1
    return counts


@given(LATENCIES, st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(
    latencies: list[float], quantile: float
) -> None:
    true = sorted(latencies)[math.ceil(quantile * len(latencies)) - 1]

    found = quantile_s(counted(latencies), quantile)

    number = bucket_of(true)
    lower = BOUNDS_S[number - 1] if number else 0.0
    assert found is not None
    assert lower <= found * (1 + 1e-9)
    assert found <= BOUNDS_S[number] * (1 + 1e-9)


def test_what_takes_longer_than_all_bounds_is_told_as_the_last() -> None:
    assert quantile_s(counted([1e6]), 0.5) == BOUNDS_S[-1]


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile_s([0] * BUCKETS, 0.5) is None


@given(st.lists(st.integers(0, 10**9), min_size=BUCKETS, max_size=BUCKETS))
def test_latencies_come_out_of_a_presence_key_as_they_went_in(counts: list[int]) -> None:
    figures = {"add": Figures(handled=sum(counts), total_s=1.5, latency=counts)}
    replica = Replica(
        service="s", replica_id="r", host="h", pid=1, version="1", started_at=1.0, figures=figures
    )

    assert decode_replica(encode_replica(replica)) == replica


def test_a_hundred_actions_make_no_large_presence_key() -> None:
    counts = [0, 0, 120, 45_000, 1_200, *[0] * (BUCKETS - 5)]
    figures = {
        f"action_{number}": Figures(handled=46_320, total_s=93.123456789, latency=counts)
        for number in range(100)
    }
    replica = Replica(
        service="s", replica_id="r", host="h", pid=1, version="1", started_at=1.0, figures=figures
    )

    assert len(encode_replica(replica)) < 10_000
