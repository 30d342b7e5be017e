"""A trained sequence model as a source of the worker's lists."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path

import numpy as np
import pytest

from models.catalog.items import ItemTable
from models.profiles import Profile, apply
from models.sequence import SequenceModelError, SequenceOptions, train
from models.sequence.model import CARD, WEIGHTS
from models.sequence.source import NAMES, NamedModel, SequenceSource, save_names, watch_sequence
from schemas.catalog import Product
from tests.models.profiles.events import event
from tests.models.ranking.shop import Shop, shopper
from tests.models.retrieval.trained_sources import found, table

pytestmark = pytest.mark.usefixtures("one_thread")

GAP_MS = 1_800_000
#: Items that follow each other in a circle, of two kinds in turns.
SKUS = [f"i{number}" for number in range(20)]
TEXT = np.stack([np.arange(20) % 2, 1 - np.arange(20) % 2], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def named(one_thread: None) -> NamedModel:
    """Whoever touched item n touches n + 1 next."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([(first + np.arange(4)) % 20 for first in rng.integers(0, 20, 600)]).astype(np.int32)
    options = SequenceOptions(dimensions=16, layers=1, epochs=4, half_life=0.0, text_only=0.3)
    model, _ = train(np.arange(0, len(rows) + 1, 4), rows, 20, options, text=TEXT)
    return NamedModel(model, SKUS, "words@1")


def test_what_follows_in_this_visit_is_found_among_what_is_on_sale(named: NamedModel) -> None:
    items = table(SKUS[::-1])  # rows are not the model's
    source = SequenceSource(named, items, GAP_MS)
    first, second, nobody, stranger = found(
        source, items, shopper(("click", "i4"), ("click", "i5")), shopper(("click", "i19")), Profile(), shopper(("click", "unheard-of"))
    )
    assert (first[0], second[0], nobody, stranger) == ("i6", "i0", [], [])
    source.note([items.upsert(Product(sku="i6", title="gone", stock=0))])
    assert "i6" not in found(source, items, shopper(("click", "i4"), ("click", "i5")))[0]
    source.note([items.upsert(Product(sku="i6", title="back"))])
    assert found(source, items, shopper(("click", "i5")))[0][0] == "i6"


def test_the_visit_before_has_no_say(named: NamedModel) -> None:
    items = table(SKUS)
    source = SequenceSource(named, items, GAP_MS)
    profile = shopper(("click", "i11"), minute=0.0)
    apply(profile, event("click", 9, minute=31.0, sku="i2"))
    assert found(source, items, profile) == found(source, items, shopper(("click", "i2")))


@pytest.mark.parametrize(("encoder", "placed"), [("words@1", True), ("words@2", False), (None, False)])
def test_a_new_product_takes_part_once_its_text_has_a_vector(named: NamedModel, encoder: str | None, placed: bool) -> None:
    items = table([*SKUS, "new"])
    source = SequenceSource(named, items, GAP_MS, lambda: encoder)
    even = shopper(("click", "i2"), ("click", "i4"), ("click", "i6"))
    assert "new" not in found(source, items, even, limit=21)[0]
    source.note([items.set_vector("new", TEXT[2])])
    assert ("new" in found(source, items, even, limit=21)[0]) is placed
    # And what was done with it counts.
    assert bool(found(source, items, shopper(("click", "new")))[0]) is placed


def test_a_new_product_stands_where_its_newest_text_places_it_whoever_asks(named: NamedModel) -> None:
    """Its text is corrected, taken away and given again, and others come meanwhile: a source that begins now says the same."""
    items = table([*SKUS, "new"])
    source = SequenceSource(named, items, GAP_MS, lambda: "words@1")
    asking = [shopper(("click", "i2"), ("click", "i4")), shopper(("click", "new")), shopper(("click", "i3"), ("click", "new"))]
    texts = [TEXT[0], TEXT[1], None, np.array([0.6, 0.8], np.float32)]
    lists = []
    for number, text in enumerate(texts):
        if text is None:
            items.drop_vector("new")
        else:
            items.set_vector("new", text)
        source.note([items.row("new")])
        source.note([items.upsert(Product(sku=f"other{number}", title="other")), items.set_vector(f"other{number}", TEXT[number])])
        lists.append(found(source, items, *asking, limit=30))
        assert lists[-1] == found(SequenceSource(named, items, GAP_MS, lambda: "words@1"), items, *asking, limit=30)
    assert lists[0] != lists[1]
    assert "new" not in lists[2][0]
    assert lists[2][1] == []


def test_an_empty_shop_finds_nothing(named: NamedModel) -> None:
    items = ItemTable(2)
    assert found(SequenceSource(named, items, GAP_MS), items, shopper(("click", "i1"))) == [[]]


def test_a_folder_gives_back_model_and_names(named: NamedModel, tmp_path: Path) -> None:
    named.model.save(tmp_path)
    save_names(tmp_path, SKUS, "words@1")
    again = NamedModel.load(tmp_path)
    assert (again.skus, again.encoder, again.name) == (SKUS, "words@1", named.name)
    items = table(SKUS)
    assert found(SequenceSource(again, items, GAP_MS), items, shopper(("click", "i7")))[0][0] == "i8"


@pytest.mark.parametrize("names", [None, "{", "[]", '{"skus": [1]}', '{"skus": ["a"]}'])
def test_names_that_do_not_fit_are_refused_in_words(named: NamedModel, tmp_path: Path, names: str | None) -> None:
    named.model.save(tmp_path)
    if names is not None:
        (tmp_path / NAMES).write_text(names)
    with pytest.raises(SequenceModelError, match=r"train anew|not of one training"):
        NamedModel.load(tmp_path)


def test_files_of_two_trainings_are_refused(named: NamedModel, tmp_path: Path) -> None:
    other = copy(named.model)
    other.sessions = "another"
    for folder, model in ((tmp_path / "one", named.model), (tmp_path / "two", other)):
        model.save(folder)
        save_names(folder, SKUS)
    assert NamedModel.load(tmp_path / "two").name == "sequence-another"
    for name in (WEIGHTS, CARD):
        (tmp_path / "two" / name).replace(tmp_path / "one" / name)
        with pytest.raises(SequenceModelError, match="not of one training"):
            NamedModel.load(tmp_path / "one")
    (tmp_path / "two" / NAMES).replace(tmp_path / "one" / NAMES)
    assert NamedModel.load(tmp_path / "one").name == "sequence-another"


def test_a_folder_is_watched_until_the_names_say_that_all_is_there(named: NamedModel, tmp_path: Path) -> None:
    named.model.save(tmp_path)
    save_names(tmp_path, SKUS)
    watched = watch_sequence(tmp_path)
    assert watched.poll() is None
    (tmp_path / NAMES).write_text(json.dumps({"skus": SKUS, "encoder": "another"}))
    taken = watched.poll()
    assert taken is not None
    assert taken.encoder == "another"


def test_lists_name_the_source_and_its_share(named: NamedModel) -> None:
    shop = Shop()
    for sku in SKUS:
        shop.product(sku)
    shop.ranker.sequence = SequenceSource(named, shop.table, GAP_MS)
    lists = shop.rank(shopper(("click", "i5")))
    items = {item.sku: item for item in shop.items(lists)}
    assert lists.model == f"blend-4+{named.name}"
    assert items["i6"].position <= 2
    assert "sequence" in {reason.source for reason in items["i6"].reasons}
    assert items["i6"].explanation == "Matches your recent interests"
    shop.ranker.sequence = None
    assert all(reason.source != "sequence" for item in shop.items(shop.rank(shopper(("click", "i5")))) for reason in item.reasons)
