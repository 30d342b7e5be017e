"""A shopper's last search as a source of the worker's lists."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import orjson
import pytest

from models.profiles import Profile, apply
from models.ranking import PERSONAL, ListWriter, Ranker
from models.retrieval import LiveSessions, TextNeighbours
from models.search import source as module
from models.search.source import HALF_LIFE_MS, STALE_MS, QuerySource
from schemas.recommendation import RecommendedItem
from tests.models.profiles.events import event
from tests.models.ranking.shop import shopper
from tests.models.search.shop import Shop

GAP_MS = 1_800_000


class Encoder:
    """Says of every query that it means (1, 0), and counts."""

    version = "tiny"
    dimensions = 2

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(list(texts))
        return np.tile(np.array([1, 0], dtype=np.float32), (len(texts), 1))


class Searching(Shop):
    """``Shop``, with a source in the place of a search that nobody asks for."""

    def __init__(self, encoder: Encoder | None = None, **limits: int) -> None:
        super().__init__()
        self.catalogue = type(self.catalogue)("flat", "cpu")
        self.source = QuerySource(self.catalogue, GAP_MS, encoder, **limits)

    def found(self, *profiles: Profile, now_ms: int = 0, limit: int = 10) -> list[dict[str, float]]:
        votes = self.source.find(profiles, now_ms, limit)
        return [
            {self.catalogue.table.skus[row]: score for row, score in zip(rows[:size], scores[:size], strict=True)}
            for rows, scores, size in zip(votes.rows.tolist(), votes.scores.tolist(), votes.sizes.tolist(), strict=True)
        ]


def searched(query: str = "Red  MUG", minute: float = 0.0) -> Profile:
    profile = Profile()
    apply(profile, event("search", 1, minute=minute, query=query))
    return profile


def mugs(encoder: Encoder | None = None, **limits: int) -> Searching:
    shop = Searching(encoder, **limits)
    shop.put("a", "red mug", (1, 0))
    shop.put("b", "mug", (0, 1))
    shop.put("c", "crimson cup", (0.9, 0.1))
    shop.put("d", "sofa", (0, 1))
    return shop


def test_what_fits_the_last_search_is_found_best_first() -> None:
    found, nothing = mugs().found(searched(), shopper(("click", "a")))
    assert list(found) == ["a", "b"]
    assert found["a"] == 1.0
    assert 0 < found["b"] < 1
    assert nothing == {}


def test_meaning_finds_what_words_do_not() -> None:
    encoder = Encoder()
    shop = mugs(encoder)
    assert list(shop.found(searched())[0]) == ["a", "b", "c"]
    shop.found(searched("red mug"), searched("RED MUG"))
    assert encoder.calls == [["red mug"]]  # one text, encoded once


def test_a_search_fades_with_time_and_with_each_item_touched_and_ends_with_the_visit() -> None:
    shop, profile = mugs(), searched()
    apply(profile, event("browse", 2, minute=HALF_LIFE_MS / 60_000, category="Mugs"))
    assert shop.found(profile)[0]["a"] == pytest.approx(0.5)
    apply(profile, event("click", 3, minute=HALF_LIFE_MS / 60_000, sku="d"))
    assert shop.found(profile)[0]["a"] == pytest.approx(0.25)
    apply(profile, event("search", 4, minute=HALF_LIFE_MS / 60_000, query="red mug"))
    assert shop.found(profile)[0]["a"] == pytest.approx(1.0)
    apply(profile, event("click", 5, minute=41, sku="d"))
    assert shop.found(profile) == [{}]


def test_the_newest_search_is_the_one_that_counts() -> None:
    shop, profile = mugs(), searched()
    apply(profile, event("search", 2, minute=1, query="sofa"))
    apply(profile, event("search", 3, minute=2, query="?!"))  # holds no word
    apply(profile, event("search", 4, minute=0.5, query="red mug"))  # came late
    assert list(shop.found(profile)[0]) == ["d"]


def test_many_new_queries_are_spread_over_batches() -> None:
    encoder = Encoder()
    shop = mugs(encoder, encode_limit=2, search_limit=3)
    profiles = [searched(f"mug {number}") for number in range(4)]
    found = shop.found(*profiles)
    assert [len(calls) for calls in encoder.calls] == [2]
    # Two by meaning, one by its words alone, one not at all yet.
    assert ["c" in one for one in found] == [True, True, False, False]
    assert [bool(one) for one in found] == [True, True, True, False]
    shop.found(*profiles)
    assert all("c" in one for one in shop.found(*profiles))
    assert sum(map(len, encoder.calls)) == 4


def test_what_was_found_is_found_anew_after_a_while_if_products_changed() -> None:
    shop = mugs()
    assert list(shop.found(searched())[0]) == ["a", "b"]
    shop.put("n", "red mug, red")
    assert "n" not in shop.found(searched(), now_ms=STALE_MS)[0]  # nobody told it
    shop.source.note()
    assert "n" not in shop.found(searched(), now_ms=STALE_MS - 1)[0]
    assert "n" in shop.found(searched(), now_ms=STALE_MS)[0]


def test_vectors_of_another_encoder_leave_words_alone(caplog: pytest.LogCaptureFixture) -> None:
    encoder = Encoder()
    encoder.version = "other"
    shop = mugs(encoder)
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        assert list(shop.found(searched())[0]) == ["a", "b"]
        shop.found(searched("sofa"))
    assert encoder.calls == []
    assert len(caplog.records) == 1


def test_no_more_is_remembered_than_may_be() -> None:
    encoder = Encoder()
    shop = mugs(encoder, remembered=2)
    for query in ("mug", "cup", "sofa", "mug"):
        shop.found(searched(query))
    assert encoder.calls == [["mug"], ["cup"], ["sofa"], ["mug"]]


def ranked(shop: Searching, *profiles: Profile) -> list[list[RecommendedItem]]:
    catalogue = shop.catalogue
    ranker = Ranker(catalogue.table, LiveSessions(catalogue.table.intern, 1e12), TextNeighbours(catalogue.index), queries=shop.source)
    lists = ranker.rank(profiles, 0)
    assert lists.policy.tolist() == [PERSONAL] * len(profiles)
    written = ListWriter(catalogue.table).write(lists)
    return [[RecommendedItem.model_validate_json(orjson.dumps(item)) for item in orjson.loads(one)] for one in written]


def test_the_list_after_a_search_reflects_it_and_says_so() -> None:
    shop = mugs()
    ((first, second, *others),) = ranked(shop, searched())
    assert (first.sku, first.explanation) == ("a", "Matches what you searched for")
    assert second.sku == "b"
    assert "query" in {reason.source for reason in second.reasons}
    for item in (first, second, *others):
        assert item.score == pytest.approx(sum(reason.score for reason in item.reasons), abs=1e-9)


def test_who_searched_for_nothing_has_the_scores_of_a_shop_without_searches() -> None:
    shop = mugs()
    profile = shopper(("click", "a"), ("purchase", "b"))
    (with_searches,) = ranked(shop, profile)
    shop.source.find = lambda profiles, now_ms, limit: module.no_votes(len(profiles), limit)  # type: ignore[method-assign]
    (without,) = ranked(shop, profile)
    assert with_searches == without
    assert sum(item.score for item in without) > 0


def test_a_catalogue_that_holds_products_cannot_be_followed_any_more() -> None:
    shop = mugs()
    with pytest.raises(ValueError, match="followed before"):
        QuerySource(shop.catalogue, GAP_MS)


def test_a_large_catalogue_is_searched_less_often_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = mugs()  # of four products
    monkeypatch.setattr(module, "PRODUCT_LIMIT", 8)
    assert [bool(one) for one in shop.found(*[searched(f"mug {number}") for number in range(4)])] == [True, True, False, False]
