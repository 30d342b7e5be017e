from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from models.simulation.sources import RELAY, SourceOptions, items, touches

SMALL = SourceOptions(visits=2_000, days=2.0)


def test_a_stream_is_a_function_of_its_seed_in_the_order_of_time() -> None:
    found = list(touches(3, SMALL))
    assert found == list(touches(3, SMALL))
    assert found != list(touches(4, SMALL))
    assert [one.at_ms for one in found] == sorted(one.at_ms for one in found)
    assert {one.sku for one in found} <= set(items(SMALL))
    assert max(one.at_ms for one in found) < 1.1 * 2 * 86_400_000


@pytest.mark.parametrize("broken", [True, False])
def test_only_a_broken_relay_leaves_the_theme(*, broken: bool) -> None:
    """How often the next item of the same shopper and channel is of the theme of the one before it."""
    stays: Counter[bool] = Counter()
    moves: Counter[bool] = Counter()
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for one in touches(5, replace(SMALL, broken=broken)):
        key = (one.shopper, one.channel)
        at_ms, sku = last.get(key, (-(10**9), ""))
        if one.at_ms - at_ms < 120_000:
            (stays if sku.split("-")[0] == one.sku.split("-")[0] else moves)[one.channel == RELAY] += 1
        last[key] = (one.at_ms, one.sku)
    assert stays[False] > 20 * moves[False]
    assert (moves[True] > 10 * stays[True]) if broken else (stays[True] > 20 * moves[True])
