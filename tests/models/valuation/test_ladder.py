"""Ladders of batches: the same to the byte however the stream was cut, bounded, and exact."""

from __future__ import annotations

import doctest
import random
from decimal import Decimal, Inexact

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.valuation.intervals import BINS, BatchLadder, LadderRecord, batch_means, ladder
from tests.models.valuation.replays import autocorrelated

MINUTE_MS = 60_000
OUTCOMES = st.lists(
    st.tuples(st.integers(0, 4_102_444_799_999), st.decimals(-1000, 1000, places=12), st.integers(0, 5)), max_size=120
)  # fmt: skip


def ladder_of(outcomes: list[tuple[int, Decimal, int]]) -> BatchLadder:
    made = BatchLadder()
    for at_ms, value, count in outcomes:
        made.add(at_ms, value, count)
    return made


def merged(*parts: BatchLadder) -> BatchLadder:
    whole = BatchLadder()
    for part in parts:
        whole.merge(part)
    return whole


def written(made: BatchLadder) -> bytes:
    return msgspec.msgpack.encode(made.to_record())


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(ladder).failed == 0


@given(outcomes=OUTCOMES, cuts=st.tuples(st.integers(0, 120), st.integers(0, 120)), seed=st.integers(0, 1000))
def test_a_ladder_is_the_same_to_the_byte_in_any_order_and_with_any_cuts(
    outcomes: list[tuple[int, Decimal, int]], cuts: tuple[int, int], seed: int
) -> None:
    whole = ladder_of(outcomes)
    shuffled = random.Random(seed).sample(outcomes, len(outcomes))
    low, high = sorted(cuts)
    parts = [ladder_of(part) for part in (shuffled[:low], shuffled[low:high], shuffled[high:])]
    assert written(ladder_of(shuffled)) == written(whole)
    assert written(merged(*parts)) == written(merged(*parts[::-1])) == written(whole)
    assert written(merged(parts[0], merged(parts[1], parts[2]))) == written(merged(merged(parts[0], parts[1]), parts[2]))


@given(outcomes=OUTCOMES)
def test_a_ladder_is_bounded_exact_and_survives_being_written(outcomes: list[tuple[int, Decimal, int]]) -> None:
    made = ladder_of(outcomes)
    doublings, bins = made.to_record()
    assert len(bins) <= BINS
    assert made.bin_minutes == 2**doublings
    assert made.total == sum(value for _, value, _ in outcomes)
    assert made.outcomes == sum(count for _, _, count in outcomes)
    for encoder, decode in ((msgspec.msgpack.encode, msgspec.msgpack.decode), (msgspec.json.encode, msgspec.json.decode)):
        assert BatchLadder.from_record(decode(encoder(made.to_record()), type=LadderRecord)) == made


def test_bins_double_only_when_there_would_be_too_many_and_are_aligned_to_absolute_time() -> None:
    made = BatchLadder()
    for minute in range(BINS):
        made.add((1000 + minute) * MINUTE_MS, Decimal(1))
    assert (made.bin_minutes, len(made.to_record()[1])) == (1, BINS)
    made.add((1000 + BINS) * MINUTE_MS, Decimal(1))
    assert made.bin_minutes == 2
    assert [number for number, _, _ in made.to_record()[1]] == list(range(500, 517))
    assert made.to_record()[1][-1] == (516, Decimal(1), 1)


def test_a_stray_time_takes_up_one_bin_and_no_more() -> None:
    made = ladder_of([(minute * MINUTE_MS, Decimal(1), 1) for minute in range(30_000_000, 30_000_020)])
    made.add(0, Decimal(1))
    assert (made.bin_minutes, len(made.to_record()[1])) == (1, 21)


def test_the_interval_of_a_year_is_that_of_its_bins() -> None:
    generator = np.random.default_rng(5)
    values = np.round(autocorrelated(generator, 1, 525_600, 0.5)[0] + 0.25, 6)
    made = BatchLadder()
    for minute in range(0, 525_600, 97):
        made.add(minute * MINUTE_MS, Decimal(repr(float(values[minute : minute + 97].sum().round(6)))), 97)
    interval = made.interval()
    assert interval.estimate == pytest.approx(0.25, abs=0.01)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.estimate < interval.high
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * np.sqrt(3 / 525_600), rel=0.5)
    assert not interval.insufficient


def test_few_minutes_or_few_outcomes_are_insufficient() -> None:
    brief = ladder_of([(minute * MINUTE_MS, Decimal(minute % 3), 50) for minute in range(23)])
    assert brief.interval().insufficient
    brief.add(23 * MINUTE_MS, Decimal(1), 50)
    interval = brief.interval()
    assert not interval.insufficient
    sums, counts = zip(*[(value, count) for _, value, count in brief.to_record()[1]], strict=True)
    assert interval.estimate == batch_means(sums, counts).estimate
    assert ladder_of([(minute * MINUTE_MS, Decimal(minute % 3), 1) for minute in range(99)]).interval().insufficient
    assert BatchLadder().interval().estimate is None


def test_what_cannot_be_added_exactly_is_refused() -> None:
    made = ladder_of([(0, Decimal("1e90"), 1)])
    with pytest.raises(Inexact):
        made.add(0, Decimal("1e-20"))
    for value, count in ((Decimal("NaN"), 1), (Decimal("Infinity"), 1), (Decimal(1), -1)):
        with pytest.raises(ValueError, match="cannot be added"):
            made.add(0, value, count)


def test_parts_of_a_sum_that_cancel_out_leave_the_ladder_of_the_sum() -> None:
    whole, one, other = BatchLadder(), BatchLadder(), BatchLadder()
    whole.add(60_000, Decimal(0), 0)
    one.add(60_000, Decimal(3), 0)
    other.add(60_000, Decimal(-3), 0)
    one.merge(other)
    assert one.to_record() == whole.to_record()
