"""The value role over items shown: valued by their vectors, the same however it is run, and made again from the log."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest

import models.index.segmented
from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.valuation.appraisal import EVENT_DIMENSIONS, WORTH_DIMENSIONS, Rules
from models.valuation.feedback import FeedbackRule
from models.valuation.margins import MarginShares
from models.valuation.messages import ResolutionMessage, decode_source, shown_items
from models.valuation.money import Margin
from models.valuation.shown_appraisal import Placement
from schemas.catalog import Embedding
from schemas.internal import Forgotten, ItemSale, Outcome, PanePartial, Resolution, ShownItem
from streams.agents.appraisers import PlacementOf, appraiser_of, placements, shown_item_of
from streams.agents.recomputation import books_of, register_again
from streams.agents.rolling import RollingProcessor
from streams.agents.sources import read_sources
from streams.agents.value import ValueProcessor, tasks
from streams.runtime.errors import ValuationWrong
from streams.runtime.metrics import REGISTRY
from streams.runtime.processor import Batch, DictState, SourceRecord
from streams.runtime.task import CatchUpNeeded
from streams.settings import Settings
from tests.agents.test_register import registers
from tests.agents.valuation_harness import ORIGIN, PARTITIONS, START, WALL_MS, Pipeline, outcome
from tests.agents.valuation_oracle import Logged

RULES = Rules(k=5, head=64, rows=120, neighbours="embeddings")
SKUS = [f"i{number}" for number in range(30)]
#: Every third item has none.
CATEGORIES = {sku: f"c{number % 3}" for number, sku in enumerate(SKUS) if number % 3}


def embeddings(seed: int = 5, dimensions: int = 16, distinct: int = len(SKUS)) -> list[tuple[bytes, bytes]]:
    """Records of the topic, by their keys."""
    chance = np.random.default_rng(seed)
    vectors = [pack(vector / np.linalg.norm(vector)) for vector in chance.standard_normal((distinct, dimensions)).astype(np.float32)]
    vectors = [vectors[number % distinct] for number in range(len(SKUS))]
    return [
        (sku.encode(), Embedding(sku=sku, encoder="e1", dimensions=dimensions, vector=text, text_hash="h").to_json())
        for sku, text in zip(SKUS, vectors, strict=True)
    ]


def catalogue(seed: int = 5, dimensions: int = 16, distinct: int = len(SKUS)) -> Catalogue:
    made = Catalogue("flat", "cpu")
    made.apply_embeddings(embeddings(seed, dimensions, distinct))
    return made


PLACES = placements(catalogue())


def resolution(shopper: str, items: list[ShownItem], at_s: int = 0, number: int = 0, **more: object) -> Resolution:
    fields: dict[str, object] = {"resolution_id": f"shown-0-{number}", "reason": "window", "recommendation_id": f"r{number}"} | more
    return Resolution(origin=ORIGIN, shopper=shopper, watermark=START + timedelta(seconds=at_s), items=tuple(items), **fields)


def shown(sku: str, result: str = "ignored", place: int = 1, *sales: ItemSale, category: str | None = None) -> ShownItem:
    return ShownItem(sku=sku, place=place, result=result, sales=sales, category=category)


def shopping(lists: int = 160, seed: int = 4) -> list[Outcome | Resolution | Forgotten]:
    """Lists of four resolve one after another, a few are corrected, and shoppers go on acting meanwhile."""
    chance, at_s, told = random.Random(seed), 0, []
    past: list[Resolution] = []
    for number in range(lists):
        at_s += chance.choice([1, 20, 400])
        shopper = f"u{chance.randrange(24)}"
        told.append(outcome(START + timedelta(seconds=at_s), sku=chance.choice(SKUS), shopper=shopper))
        items = []
        for place, sku in enumerate(chance.sample(SKUS, 4), 1):
            result = chance.choices(["ignored", "clicked", "added", "bought"], [6, 2, 1, 1])[0]
            margin = chance.choice([None, Decimal(3)])
            sales = [ItemSale(quantity=1, revenue=Decimal(9), currency="GBP", margin=margin)] if result == "bought" else []
            items.append(shown(sku, result, place, *sales, category=CATEGORIES.get(sku)))
        arm = chance.choice([None, "treated", "holdout"])
        source = {"channel": ["web", "app"][number % 2], "country": ["GB", "FR", None][number % 3]}
        told.append(resolution(shopper, items, at_s, number, arm=arm, segment="loyal", **source))
        past.append(told[-1])
        if number % 9 == 5:
            of = past[-chance.randrange(1, 6)]
            item = of.items[chance.randrange(4)]
            back = [ItemSale(quantity=-1, revenue=-sale.revenue, currency="GBP") for sale in item.sales]
            changed = shown(item.sku, "bought" if back else "clicked", item.place, *back)
            reason = "refund" if back else "late"
            told.append(
                resolution(of.shopper, [changed], at_s, 1_000 + number, reason=reason, corrects=of.resolution_id, recommendation_id="r")
            )
        if number == 100:
            told.append(outcome(START + timedelta(seconds=at_s), sku=None, type="search", shopper="u3", consent=False))
    return told


def played(batch: int, restarts: int, rules: Rules = RULES, places: PlacementOf = PLACES) -> tuple[Pipeline, dict[int, list[SourceRecord]]]:
    pipeline = Pipeline(rules, placement_of=places)
    log: dict[int, list[SourceRecord]] = defaultdict(list)
    waiting: dict[int, list[Logged]] = defaultdict(list)
    for number, message in enumerate(shopping()):
        partition = int(message.shopper[1:]) % PARTITIONS
        waiting[partition].append(Logged(partition, len(log[partition]), message))
        log[partition].append(SourceRecord("outcomes", partition, len(log[partition]), WALL_MS, b"s", message.to_json()))
        if number % batch == 0:
            for entries in waiting.values():
                pipeline.feed(entries)
            waiting.clear()
        if number % restarts == restarts - 1:
            pipeline.restart()
    for entries in waiting.values():
        pipeline.feed(entries)
    pipeline.settle()
    return pipeline, log


def test_records_are_the_same_however_batches_were_cut_and_workers_died_and_are_made_again_from_the_log() -> None:
    pipeline, log = played(7, 40)
    found = registers(pipeline)
    other = registers(played(31, 1_000)[0])
    for name in WORTH_DIMENSIONS:
        for window in ("total", "7d", "1h"):
            key = f"{name}|{window}"
            record = found[key]
            assert record.to_json() == other[key].to_json(), key
            assert record.game.name == "embedding_neighbours"
            assert abs(record.checks.efficiency_residual) <= 1e-9
            parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
            assert register_again(window, record, books_of(parts, RULES, PLACES), RULES).to_json() == record.to_json(), key
    named = {name: set(found[f"{name}|total"].assets) for name in EVENT_DIMENSIONS if name != "event_type"}
    assert named == {
        "channel": {"web", "app"}, "category": {"c1", "c2", "uncategorised"}, "country": {"GB", "FR", "unknown"}, "segment": {"loyal"},
    }  # fmt: skip
    assert pipeline.newest()["channel|web|total"].value == found["channel|total"].assets["web"]
    kinds = found["event_type|total"].assets
    assert set(kinds) >= {"ignored", "clicked", "added", "bought"}
    assert found["overall|total"].game.tests > 350
    money = {(one.currency, one.basis): one.attributable for one in found["overall|total"].assets["all"].money}
    assert set(money) == {("GBP", "margin"), ("GBP", "revenue")}


def test_rows_of_equal_vectors_are_in_one_order_before_a_restart_and_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that a window that went on has its rows in other parts of its index than one that was read back.
    monkeypatch.setattr(models.index.segmented, "FRESH_MINIMUM", 8)
    alike = placements(catalogue(distinct=3))
    whole, restarted = (registers(played(1, restarts, places=alike)[0]) for restarts in (1_000, 23))
    assert whole["overall|total"].game.tests > 350
    assert {key: record.to_json() for key, record in whole.items()} == {key: record.to_json() for key, record in restarted.items()}


def test_a_record_is_another_where_a_vector_changed_since() -> None:
    pipeline, log = played(7, 1_000)
    record = registers(pipeline)["overall|total"]
    parts = {line.partition: log[line.partition][: line.offset_high + 1] for line in record.lineage}
    books = books_of(parts, RULES, placements(catalogue(seed=6)))
    assert register_again("total", record, books, RULES).game.utility != record.game.utility


def test_an_item_without_a_vector_is_asked_for_once_then_left_out_and_counted() -> None:
    state, processor = DictState(), ValueProcessor(PARTITIONS, RULES, PLACES)
    processor.opened(state, 0)
    value = resolution("u1", [shown("i1"), shown("gone")]).to_json()
    records = [SourceRecord("outcomes", 0, 0, WALL_MS, b"u1", value)]
    with pytest.raises(CatchUpNeeded) as needed:
        processor.process(state, Batch(0, records, WALL_MS))
    assert needed.value.topic == "catalog.embeddings"
    before = REGISTRY.get_sample_value("assay_value_unplaced_total")
    state.apply(processor.process(state, Batch(0, records, WALL_MS, caught_up=True)).writes)
    assert REGISTRY.get_sample_value("assay_value_unplaced_total") == before + 1
    assert len([key for key, _ in state.scan(b"line")]) == 1


def test_what_lists_came_to_is_sent_though_nothing_else_happens() -> None:
    state, processor = DictState(), ValueProcessor(PARTITIONS, RULES, PLACES)
    processor.opened(state, 0)
    for offset, shopper in enumerate(("u1", "u2")):
        value = resolution(shopper, [shown("i1")], number=offset).to_json()
        step = processor.process(state, Batch(0, [SourceRecord("outcomes", 0, offset, WALL_MS, b"u", value)], WALL_MS + offset))
        state.apply(step.writes)
    sent = processor.tick(state, 0, WALL_MS + 5_000)
    assert sent is not None
    assert {output.key for output in sent.outputs} >= {b"overall", b"event_type"}
    state.apply(sent.writes)
    assert processor.tick(state, 0, WALL_MS + 10_000) is None


@pytest.mark.parametrize(
    ("rules", "places", "other", "elsewhere"),
    [(RULES, PLACES, Rules(), None), (Rules(), None, RULES, PLACES)],
    ids=["sessions", "embeddings"],
)
def test_a_worker_set_to_other_neighbours_adds_nothing_to_what_was_valued(
    rules: Rules, places: PlacementOf | None, other: Rules, elsewhere: PlacementOf | None
) -> None:
    # The second one is no row of either kind.
    for message in (outcome(sku="i1", shopper="u1"), outcome(type="search", sku=None, shopper="u1"), resolution("u1", [shown("i1")])):
        state, processor = DictState(), ValueProcessor(PARTITIONS, rules, places)
        processor.opened(state, 0)
        sent = processor.process(state, Batch(0, [SourceRecord("outcomes", 0, 0, WALL_MS, b"u1", message.to_json())], WALL_MS))
        state.apply(sent.writes)
        ValueProcessor(PARTITIONS, rules, places).opened(state, 0)
        with pytest.raises(ValuationWrong, match=rf"has {other.neighbours}.*assay reset --roles value --yes"):
            ValueProcessor(PARTITIONS, other, elsewhere).opened(state, 0)
    # What it sends is refused whole, by a worker of the other kind, before anything is added.
    pipeline = Pipeline(rules, placement_of=places)
    pipeline.feed([Logged(0, 0, outcome(sku="i1", shopper="u1"))])
    assert {PanePartial.model_validate_json(one.value or b"").neighbours for one in pipeline.partials} == {rules.neighbours}
    records = [SourceRecord("valuation.partials", 0, offset, 0, one.key, one.value) for offset, one in enumerate(pipeline.partials)]
    rolling, kept = RollingProcessor(rules=other), DictState()
    rolling.opened(kept, 0)
    with pytest.raises(ValuationWrong, match=rf"valuation\.partials/0 offset 0, of partition 0 of outcomes, .*{rules.neighbours}"):
        rolling.process(kept, Batch(0, records, WALL_MS))
    # Nor does it take over what others added up.
    taken = next(state for state in pipeline.rolling_states.values() if state.data)
    RollingProcessor(rules=rules).opened(taken, 0)
    with pytest.raises(ValuationWrong, match="all value workers"):
        RollingProcessor(rules=other).opened(taken, 0)


def test_items_shown_need_somebody_who_finds_their_vectors() -> None:
    with pytest.raises(ValueError, match="placement_of"):
        appraiser_of(RULES)


def test_a_resolution_whose_money_cannot_be_counted_cannot_be_read() -> None:
    value = resolution("u1", [shown("i1", "bought", 1, ItemSale(quantity=1, revenue=Decimal(9), currency="GBP"))]).to_json()
    good, bad = (SourceRecord("outcomes", 2, 7, WALL_MS, b"u1", one) for one in (value, value.replace(b'"GBP"', b'"ZZZ"')))
    assert len(list(read_sources([good], shown=True))) == 1
    assert list(read_sources([good, bad])) == []
    with pytest.raises(ValueError, match=r"outcomes/2 offset 7 .* currency 'ZZZ' is none"):
        list(read_sources([bad], shown=True))


def test_the_worker_reads_vectors_where_it_needs_them_and_serves_one_encoders() -> None:
    value, _ = tasks(Settings(value_neighbours="embeddings"))
    assert [one.topic for one in value.broadcasts] == ["catalog.embeddings"]
    find = placements(catalogue(dimensions=4))
    placement = find("i3")
    assert isinstance(placement, Placement)
    assert (placement.encoder, placement.vector.shape) == ("e1", (4,))
    assert find("none") is None


def test_only_values_of_past_sessions_weigh_sources() -> None:
    record = registers(played(50, 1_000)[0])["event_type|total"]
    assets = {name: value.model_copy(update={"low": -0.9, "high": -0.5, "points": -0.7, "insufficient": False, "tests": 900, "rows": 50.0})
              for name, value in record.assets.items()}  # fmt: skip
    assets["bought"] = record.assets["bought"].model_copy(update={"points": 0.5})
    harmful = record.model_copy(update={"assets": assets})
    rule = FeedbackRule(["event_type"])
    assert rule.take(harmful) == []
    assert rule.take(harmful.model_copy(update={"game": record.game.model_copy(update={"name": "session_neighbours"})}))


@pytest.mark.parametrize(
    ("said", "category", "names", "earns"),
    [
        ({"channel": "web", "country": "GB", "segment": "new"}, "Kitchen > Mugs", ("web", "bought", "Kitchen > Mugs", "GB", "new"), "4.5"),
        ({"channel": "web"}, None, ("web", "bought", "uncategorised", None, None), "0.9"),
        ({}, None, (None, "bought", None, None, None), "0.9"),  # of before resolutions named them
    ],
)
def test_an_item_shown_is_of_the_assets_that_its_resolution_names_and_earns_by_its_category(
    said: dict[str, str], category: str | None, names: tuple[str | None, ...], earns: str
) -> None:
    sale = ItemSale(quantity=1, revenue=Decimal(9), currency="GBP")
    message = decode_source(resolution("u1", [shown("i1", "bought", 1, sale, category=category)], **said).to_json())
    assert isinstance(message, ResolutionMessage)
    (item,) = shown_items(message)
    found = shown_item_of(7, message, item, MarginShares(default="0.1", categories={"Kitchen": "0.5"}))
    assert found.names == names
    assert [receipt.margin for receipt in found.receipts] == [Margin(Decimal(earns), modelled=True)]
