"""Money and its interval: exact, the same in any cut of the stream, and drawn by shopper."""

from __future__ import annotations

import doctest
import importlib
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.valuation.intervals import LEAST_BUYERS, REPLICATES, ReplicateSums, poisson_bootstrap, poisson_weights, weighted_sums

PURCHASES = st.lists(st.tuples(st.sampled_from(["ann", "bob", "cid"]), st.decimals(-(10**15), 10**15, places=6)), max_size=20)


def bootstrap(purchases: list[tuple[str, Decimal]]) -> ReplicateSums:
    return poisson_bootstrap([user for user, _ in purchases], [amount for _, amount in purchases])


def written(held: bytes) -> list[int]:
    """The total and the replicates, as the docstring says."""
    width = len(held) // (REPLICATES + 1)
    assert width in {0, 4, 8, 24}
    return [int.from_bytes(held[place * width : (place + 1) * width], "little", signed=True) for place in range(REPLICATES + 1)]


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(importlib.import_module("models.valuation.intervals.bootstrap")).failed == 0


def test_weights_are_those_of_poisson_by_user_and_by_replicate() -> None:
    replicates = 200
    weights = poisson_weights([f"user-{number}" for number in range(5_000)], replicates).astype(float)
    expected = np.exp(-1) / np.array([1, 1, 2, 6, 24])
    for weight, share in enumerate(expected):
        assert (weights == weight).mean() == pytest.approx(share, abs=0.001)
    assert weights.mean() == pytest.approx(1, abs=0.003)
    assert weights.var() == pytest.approx(1, abs=0.01)
    assert np.abs(weights.mean(axis=0) - 1).max() < 4.5 / np.sqrt(5_000)
    assert np.abs(weights.mean(axis=1) - 1).max() < 5.5 / np.sqrt(replicates)
    correlations = np.corrcoef(weights.T)[np.triu_indices(replicates, 1)]
    assert correlations.std() == pytest.approx(1 / np.sqrt(5_000), rel=0.05)


def test_weights_never_change() -> None:
    assert poisson_weights(["ann", "bob"], 12).tolist() == PINNED
    assert poisson_weights(["bob"], 200)[0, :12].tolist() == PINNED[1]


PINNED = [[1, 1, 1, 1, 0, 4, 1, 1, 0, 1, 0, 1], [0, 2, 0, 1, 0, 1, 1, 2, 0, 1, 0, 2]]


@given(purchases=PURCHASES, cut=st.integers(0, 20))
def test_sums_are_exact_and_the_same_to_the_byte_in_any_cut_and_order(purchases: list[tuple[str, Decimal]], cut: int) -> None:
    whole = bootstrap(purchases)
    assert ReplicateSums.merged([bootstrap(purchases[:cut]), bootstrap(purchases[cut:][::-1])]) == whole
    assert ReplicateSums.merged([bootstrap([purchase]) for purchase in purchases]) == whole
    whole.check()
    units = [(user, int(amount * 10**6)) for user, amount in purchases]
    assert whole.total == sum(unit for _, unit in units)
    for replicate in (0, REPLICATES - 1):
        weights = {user: int(poisson_weights([user])[0, replicate]) for user, _ in purchases}
        assert written(whole.gains)[1 + replicate] == sum(weights[user] * unit for user, unit in units if unit > 0)
        assert written(whole.losses)[1 + replicate] == -sum(weights[user] * unit for user, unit in units if unit < 0)
    for encode, decode in ((msgspec.msgpack.encode, msgspec.msgpack.decode), (msgspec.json.encode, msgspec.json.decode)):
        assert decode(encode(whole), type=ReplicateSums) == whole


@given(parts=st.lists(st.lists(st.sampled_from([2**31 - 1, -(2**31), 2**62, -(2**63), 2**90, 0, 1]), min_size=1, max_size=3), max_size=6))
def test_sums_of_any_width_add_up(parts: list[list[int]]) -> None:
    held = [weighted_sums(["ann"] * len(part), [[unit] for unit in part], 1)[0] for part in parts]
    whole = ReplicateSums.merged([ReplicateSums(gains) for gains in held])
    weights = [1, *poisson_weights(["ann"])[0].tolist()]
    total = sum(map(sum, parts))
    assert written(whole.gains) == [weight * total for weight in weights]
    assert bool(whole.gains) == (total != 0)


def test_many_purchases_at_once_are_those_one_by_one() -> None:
    generator = np.random.default_rng(1)
    purchases = [
        (f"user-{number % 700}", Decimal(int(cents)).scaleb(-2)) for number, cents in enumerate(generator.integers(1, 10**15, 9_000))
    ]
    parts = [bootstrap(purchases[first : first + 1_234]) for first in range(0, len(purchases), 1_234)]
    assert ReplicateSums.merged(parts) == bootstrap(purchases)


def test_a_shopper_who_buys_ten_times_is_one_shopper() -> None:
    """The same money from as many purchases: of a tenth of the shoppers it is the less sure."""
    amounts = [Decimal(10)] * 5_000
    many = poisson_bootstrap([f"user-{number}" for number in range(5_000)], amounts).interval()
    few = poisson_bootstrap([f"user-{number % 500}" for number in range(5_000)], amounts).interval()
    assert many.buyers == pytest.approx(5_000, rel=0.25)
    assert few.buyers == pytest.approx(500, rel=0.25)
    assert few.high is not None
    assert few.low is not None
    assert many.high is not None
    assert many.low is not None
    assert float((few.high - few.low) / (many.high - many.low)) == pytest.approx(10**0.5, rel=0.3)


def test_the_interval_of_refunds_is_that_of_purchases_mirrored() -> None:
    users = [f"user-{number}" for number in range(800)]
    amounts = [Decimal(number % 37 + 1) for number in range(800)]
    spent, refunded = poisson_bootstrap(users, amounts).interval(), poisson_bootstrap(users, [-amount for amount in amounts]).interval()
    assert (refunded.estimate, refunded.low, refunded.high) == (-spent.estimate, -(spent.high or 0), -(spent.low or 0))


def test_where_purchases_and_refunds_balance_there_is_an_interval_about_nothing() -> None:
    interval = poisson_bootstrap([f"user-{number}" for number in range(800)], [Decimal((-1) ** number) for number in range(800)]).interval()
    assert interval.estimate == 0
    assert interval.low is not None
    assert interval.high is not None
    assert float(-interval.low) == pytest.approx(1.96 * 800**0.5, rel=0.2)
    assert float(interval.high) == pytest.approx(1.96 * 800**0.5, rel=0.2)
    assert not interval.insufficient
    assert poisson_bootstrap(["ann", "bob"], [Decimal(1), Decimal(-1)]).interval().insufficient


def test_little_money_is_insufficient_and_none_says_nothing() -> None:
    nothing = ReplicateSums().interval()
    assert (nothing.estimate, nothing.low, nothing.high, nothing.buyers, nothing.insufficient) == (0, None, None, 0.0, True)
    few = poisson_bootstrap([f"user-{number}" for number in range(8)], [Decimal("12.5")] * 8).interval()
    assert few.insufficient
    assert few.estimate == Decimal(100)
    assert few.low is not None
    assert few.low < 100
    assert not poisson_bootstrap([f"user-{number}" for number in range(2_000)], [Decimal("12.5")] * 2_000).interval().insufficient


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "1e16", "0.0000001"])
def test_amounts_that_are_no_money_are_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="is no amount"):
        poisson_bootstrap(["ann"], [Decimal(amount)])


@pytest.mark.parametrize(
    "held", [b"\0", b"\1" * (4 * REPLICATES), b"\1" * (16 * (REPLICATES + 1)), (2**160).to_bytes(24, "little") * (REPLICATES + 1)]
)
def test_what_no_sums_are_written_as_is_refused(held: bytes) -> None:
    for sums in (ReplicateSums(gains=held), ReplicateSums(losses=held)):
        with pytest.raises(ValueError, match=r"hold no sums|larger than any total"):
            sums.check()


def test_gains_and_losses_of_the_same_shoppers_are_the_surer_for_it_and_of_others_the_less() -> None:
    """Who gains ten and loses nine is good for one whoever comes; gains of some and losses of others vary as both do."""
    users, others = ([f"{kind}-{number}" for number in range(400)] for kind in ("user", "other"))
    amounts = [*[Decimal(10)] * 400, *[Decimal(-9)] * 400]
    same = poisson_bootstrap(users * 2, amounts).interval()
    apart = poisson_bootstrap(users + others, amounts).interval()
    assert same.estimate == apart.estimate == 400
    assert min(same.buyers, apart.buyers) > LEAST_BUYERS
    for interval, half in ((same, 1.96 * 400**0.5), (apart, 1.96 * (181 * 400) ** 0.5)):
        assert interval.low is not None
        assert interval.high is not None
        assert float(interval.high - interval.low) == pytest.approx(2 * half, rel=0.3)


def test_what_was_given_back_by_others_leaves_no_interval_of_no_width() -> None:
    sums = ReplicateSums(weighted_sums(["ann", "bob"], [[5_000_000], [-5_000_000]], 1)[0])
    interval = sums.interval()
    assert (interval.estimate, interval.insufficient) == (0, True)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0 < interval.high
