"""Values of visits beside what the lists served lose without them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from streams.evaluation.registers import Parts, Visit, next_items
from tests.benchmarks.faithfulness import Faithfulness, agreement, compare, served

MINUTE = 60_000
CHANNELS = ("knows", "half", "seldom", "never")


def visit(number: int, channel: str, skus: list[str]) -> Visit:
    start_ms = number * MINUTE
    at_ms = [start_ms + place for place in range(len(skus))]
    return Visit(f"v{number}", f"u{number}", channel, "GB", "new", skus, at_ms, Counter(click=len(skus)))


def shop() -> Parts:
    """After a comes b: one channel always says so, others in fewer of their visits, and one never."""
    goes_on = {"knows": 6, "half": 4, "seldom": 1, "never": 0}
    told = [(channel, ["a", "b" if turn < often else f"x{turn}"]) for channel, often in goes_on.items() for turn in range(6)]
    train = [visit(number, channel, skus) for number, (channel, skus) in enumerate(told)]
    test = [visit(1_000 + number, "web", ["a", "b"]) for number in range(4)]
    return Parts(train, test, 900 * MINUTE)


def test_lists_are_judged_with_what_was_learned_alone() -> None:
    parts = shop()
    judged, rows = list(next_items(parts.test, 10)), {sku: row for row, sku in enumerate(["a", "b", *(f"x{n}" for n in range(6))])}
    assert served(parts.train, judged, rows)[0] == 1.0
    silent = [one for one in parts.train if "b" not in one.skus]
    assert served(silent, judged, rows).tolist() == [0.0, 0.0]


def test_assets_stand_in_the_order_of_what_they_tell() -> None:
    found = compare(shop(), {}, tests=10, votes=(2, 20), dimensions=("channel", "country"))
    assert list(found) == ["channel"]  # one country has no order
    channel = found["channel"]
    assert channel.assets == list(CHANNELS)
    assert channel.points[20].argsort()[::-1].tolist() == [0, 1, 2, 3]
    assert channel.hits.tolist() == [0.0] * 4  # any of three channels alone lists b among twenty


def test_agreement_is_that_of_ranks_and_skips_what_is_all_alike() -> None:
    rising = np.array([1.0, 2.0, 3.0, 10.0])
    rows = agreement(Faithfulness(list("abcd"), {10: rising, 100: -rising}, {10: rising, 100: np.zeros(4)}, rising**2, np.zeros(4)))
    assert [(row["beside"], row["spearman"], row["kendall"]) for row in rows] == [
        ("points, K = 100", pytest.approx(-1), pytest.approx(-1)),
        ("points with hit rate lost by served lists", pytest.approx(1), pytest.approx(1)),
        ("leave one out with hit rate lost by served lists", pytest.approx(1), pytest.approx(1)),
    ]
