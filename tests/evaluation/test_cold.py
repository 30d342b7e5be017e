from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from models.encoder.encoder import TextEncoder
from schemas.catalog import Product
from streams.evaluation.cold import FIRST_TOUCH, GROUPS, NEW_ITEMS, NEW_SHOPPERS, NO_TEXT, POPULARITY, TEXT, ColdResult, judge_cold
from streams.evaluation.shop import InProcessShop
from streams.replay.record import Catalogue, ReplayEvent, encode
from streams.settings import Settings

START = 1_760_000_000_000
#: Products come in pairs: "teapot-1" reads like "teapot-2" and like nothing else.
TITLES = {
    "teapot": ("Blue china teapot", "White china teapot"),
    "bauble": ("Christmas tree bauble with glitter", "Christmas tree bauble with snowflakes"),
    "spade": ("Garden spade", "Garden spade with wooden handle"),
    "doll": ("Rag doll for children", "Knitted rag doll"),
    "clock": ("Wall clock, railway style", "Wall clock, kitchen style"),
    "bag": ("Canvas shopping bag", "Cotton shopping bag"),
    "candle": ("Scented candle in a jar", "Scented candle in a tin"),
    "pencil": ("Set of coloured pencils", "Box of coloured pencils"),
}
KINDS = tuple(TITLES)
PRODUCTS = [Product(sku=f"{kind}-{number}", title=title) for kind, titles in TITLES.items() for number, title in enumerate(titles, 1)]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("minilm", device="cpu", threads=1)


class Log:
    """Clicks of (user, SKU), a second apart."""

    name = "clicks"

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = pairs

    def catalogue(self) -> Catalogue:
        return Catalogue(tuple(PRODUCTS), len(self.pairs), START, START + 1000 * len(self.pairs))

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        for number, (user, sku) in enumerate(self.pairs):
            at_ms = START + 1000 * number + shift_ms
            body = {
                "event_id": f"e{number}", "type": "click", "user_id": user, "channel": "web", "sku": sku,
                "occurred_at": f"{np.datetime64(at_ms, 'ms')}Z",
            }  # fmt: skip
            yield encode(body, at_ms)


def judged(
    encoder: TextEncoder, log: Log, share: float, types: tuple[str, ...] = ("click",), k: int = 3
) -> dict[tuple[str, str], ColdResult]:
    settings = Settings(index="flat", k=k, threads=1, diversity=0.0)
    shops = {NO_TEXT: InProcessShop(settings, PRODUCTS, None), TEXT: InProcessShop(settings, PRODUCTS, encoder)}
    results = judge_cold(shops, log, len(log.pairs), types, share=share)
    assert [(result.group, result.method) for result in results] == [
        (group, method) for group in GROUPS for method in (NO_TEXT, TEXT, POPULARITY)
    ]  # fmt: skip
    return {(result.group, result.method): result for result in results}


#: The older half knows first products of four kinds.
OLDER = tuple((f"old{number}", f"{KINDS[number % 4]}-1") for number in range(8))


def test_text_finds_an_item_that_nobody_has_touched(encoder: TextEncoder) -> None:
    newer = (
        ("u", "teapot-1"),
        ("u", "teapot-2"),
        ("v", "bauble-1"),
        ("v", "bauble-2"),
        ("w", "spade-1"),
        ("w", "spade-2"),
        ("x", "teapot-1"),
        ("x", "teapot-2"),
    )
    found = judged(encoder, Log(*OLDER, *newer), 0.5)
    # teapot-2, bauble-2, spade-2 are new; teapot-2 comes a second time, and by then teapot-1 has been followed by it.
    assert found[NEW_ITEMS, TEXT].tests == 4
    assert found[FIRST_TOUCH, TEXT].tests == 3
    assert found[FIRST_TOUCH, TEXT].hit_rate_at_20 == 1.0
    assert found[FIRST_TOUCH, NO_TEXT].hit_rate_at_20 == 0.0
    assert found[NEW_ITEMS, NO_TEXT].hit_rate_at_20 == 0.25
    assert found[FIRST_TOUCH, TEXT].gain == 1.0
    assert found[NEW_ITEMS, TEXT].gain == 0.75
    assert found[NEW_ITEMS, NO_TEXT].gain == 0.0


def test_new_shoppers_are_judged_by_the_events_that_their_list_rests_on(encoder: TextEncoder) -> None:
    newer = (
        ("new", "teapot-1"),
        ("old1", "bauble-1"),
        ("new", "bauble-1"),
        ("new", "spade-1"),
        ("new", "doll-1"),
        ("new", "teapot-1"),
        ("one", "teapot-1"),
    )
    found = judged(encoder, Log(*OLDER[:7], *newer), 0.5)
    # The first event of `new` met no list, its fifth is beyond the third; old1 is known, and `one` came once.
    assert [found[group, TEXT].tests for group in NEW_SHOPPERS] == [1, 1, 1]
    assert found[NEW_ITEMS, TEXT].tests == 0
    assert found[NEW_ITEMS, TEXT].hit_rate_at_20 == 0.0
    # Lists hold teapot-1 of the shopper's own and what is popular: all four first products, from the first event on.
    wide = judged(encoder, Log(*OLDER[:7], *newer), 0.5, k=20)
    assert [wide[group, NO_TEXT].hit_rate_at_20 for group in NEW_SHOPPERS] == [1.0, 1.0, 1.0]


def test_events_of_other_types_are_no_tests(encoder: TextEncoder) -> None:
    found = judged(encoder, Log(*OLDER, ("u", "teapot-1"), ("u", "teapot-2")), 0.2, types=("purchase",))
    assert {result.tests for result in found.values()} == {0}


def test_the_gain_has_an_interval_of_its_own(encoder: TextEncoder) -> None:
    rng = np.random.default_rng(1)
    pairs = []
    for number in range(200):
        kind = KINDS[rng.integers(len(KINDS))]
        pairs += [(f"n{number}", f"{kind}-1"), (f"n{number}", f"{kind if rng.random() < 0.8 else 'teapot'}-2")]
    old = tuple((f"old{number}", f"{KINDS[number % 8]}-1") for number in range(100))
    found = judged(encoder, Log(*old, *pairs), 0.8)
    first = found[NEW_SHOPPERS[0], TEXT]
    assert first.tests == 200
    assert first.low < first.hit_rate_at_20 < first.high
    assert first.gain_low < first.gain < first.gain_high
    assert first.gain == pytest.approx(first.hit_rate_at_20 - found[NEW_SHOPPERS[0], NO_TEXT].hit_rate_at_20, abs=1e-4)
    assert (found[FIRST_TOUCH, TEXT].gain_low, found[FIRST_TOUCH, TEXT].gain_high) == (-1.0, 1.0)  # eight tests tell nothing
