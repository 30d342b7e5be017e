"""A trained ranker in the worker: named in what it orders, taken up anew between batches, done without when it fails."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from models.factors.model import FactorModel
from models.ranking.candidates import NAMES
from models.ranking.learned import LearnedRanker
from models.ranking.trained import TrainedRanker
from models.ranking.weights import Weights
from models.rules import read_rules
from models.sequence import SequenceOptions, train
from models.sequence.source import NamedModel, save_names
from schemas.recommendation import Recommendations
from streams.agents.recommend import RecommendProcessor, tasks
from streams.runtime.errors import EXIT_CONFIG, RankingWrong
from streams.settings import Settings
from tests.agents.pipeline import Pipeline, event, parse


def trained(feature: str, sign: int, folder: Path) -> TrainedRanker:
    """One that knows a single thing: candidates with more (or less) of ``feature`` come first."""
    rng = np.random.default_rng(0)
    features = rng.random((400, 8, len(NAMES))).astype(np.float32)
    features[:, :, NAMES.index("popularity")] *= -14
    features[:, :, NAMES.index(feature)] = rng.choice([0.0, 0.5, 1.0], (400, 8))
    right = features[:, :, NAMES.index(feature)] * sign == (features[:, :, NAMES.index(feature)] * sign).max(axis=1, keepdims=True)
    ranker, card = TrainedRanker.fit(np.arange(401) * 8, features.reshape(-1, len(NAMES)), right.ravel(), bought=right.ravel())
    ranker.save(folder, dict(card))
    return ranker


def last_list(worker: Pipeline, number: int) -> Recommendations:
    (found,) = [parse(output) for output in worker.send(event("click", number, sku="a")).outputs if output.topic == "recommendations"]
    return found


def test_a_ranker_orders_lists_and_is_swapped_between_batches(tmp_path: Path) -> None:
    first = trained("recent_place", 1, tmp_path)
    worker = Pipeline(trained=first, diversity=0.0)
    found = last_list(worker, 0)
    assert found.versions.model == first.name
    assert found.items[0].sku == "a"
    for item in found.items:
        assert 0 <= item.score <= 1
        assert item.score == pytest.approx(sum(reason.score for reason in item.reasons), abs=1e-9)
        assert item.purchase_probability is not None
        assert 0 <= item.purchase_probability <= 1
    # In its log what came next was bought, and that was what had been looked at last.
    assert found.items[0].purchase_probability == max(item.purchase_probability or 0 for item in found.items)
    second = trained("recent_place", -1, tmp_path)
    worker.processor.ranker_changed(second)
    found = last_list(worker, 1)
    assert found.versions.model == second.name
    assert found.items[-1].sku == "a" or "a" not in {item.sku for item in found.items}


def test_a_ranker_that_fails_leaves_the_blend_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = trained("recent_place", 1, tmp_path)
    worker = Pipeline(trained=ranker)

    def fail(self: LearnedRanker, features: np.ndarray) -> np.ndarray:
        raise RuntimeError("no trees today")

    with monkeypatch.context() as patch:
        patch.setattr(LearnedRanker, "score", fail)
        found = last_list(worker, 0)
    assert (found.versions.model, found.degraded) == ("blend-4", ("ranker",))
    assert found.items
    assert {item.purchase_probability for item in found.items} == {None}
    assert last_list(worker, 1).versions.model == ranker.name


def test_a_worker_without_the_ranker_that_it_was_told_of_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(RankingWrong, match="assay train ranker") as refused:
        tasks(Settings(ranker=tmp_path / "nowhere", data_dir=tmp_path))
    assert refused.value.exit_code == EXIT_CONFIG


def test_a_running_worker_takes_up_what_is_trained_anew(tmp_path: Path) -> None:
    trained("recent_place", 1, tmp_path / "ranker")
    (task,) = tasks(Settings(ranker=tmp_path / "ranker", data_dir=tmp_path))
    second = trained("recent_place", -1, tmp_path / "ranker")
    assert task.background is not None
    task.background()
    assert isinstance(task.processor, RecommendProcessor)
    assert task.processor.trained is not None
    assert task.processor.trained.name == second.name
    assert task.close is not None
    task.close()


def test_a_pinned_item_has_no_probability_of_its_own_and_others_keep_theirs(tmp_path: Path) -> None:
    ranker = trained("recent_place", 1, tmp_path)
    free = {item.sku: item.purchase_probability for item in last_list(Pipeline(trained=ranker, diversity=0.0), 0).items}
    worker = Pipeline(trained=ranker, diversity=0.0, rules=read_rules(b"pin: [{sku: c, position: 1}]"))
    found = last_list(worker, 0)
    assert (found.items[0].sku, found.items[0].purchase_probability) == ("c", None)
    assert all(item.purchase_probability == free[item.sku] for item in found.items[1:] if item.sku in free)
    assert found.items[1].purchase_probability is not None


def test_lists_for_the_next_visit_do_without(tmp_path: Path) -> None:
    worker = Pipeline(trained=trained("recent_place", 1, tmp_path))
    worker.send(event("purchase", 0))
    worker.now_ms += 31 * 60_000
    step = worker.tick()
    assert step is not None
    assert parse(step.outputs[-1]).versions.model == "visits-1"


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    """A folder with a model in which b follows a, and one without."""
    rows = np.tile(np.array([0, 1], dtype=np.int32), 300)
    model, _ = train(np.arange(0, 601, 2), rows, 2, SequenceOptions(dimensions=8, layers=1, epochs=1))
    folder = tmp_path / "sequence"
    model.save(folder)
    save_names(folder, ["a", "b"])
    return folder


def test_a_sequence_model_is_a_source_and_is_swapped_between_batches(sequence: Path) -> None:
    worker = Pipeline()
    assert last_list(worker, 0).versions.model == "blend-4"
    named = NamedModel.load(sequence)
    worker.processor.sequence_changed(named)
    found = last_list(worker, 1)
    assert found.versions.model == f"blend-4+{named.name}"
    assert any(reason.source == "sequence" for item in found.items if item.sku == "b" for reason in item.reasons)


def test_weights_count_and_are_named_from_the_next_batch_on() -> None:
    worker = Pipeline(diversity=0.0)
    first = last_list(worker, 0)
    assert first.versions.weights is None
    assert "again" in {reason.source for item in first.items for reason in item.reasons}
    weights = Weights(again=0.0)
    worker.processor.weights_changed(weights)
    found = last_list(worker, 1)
    assert found.versions.weights == weights.digest != Weights(again=0.1).digest
    assert "again" not in {reason.source for item in found.items for reason in item.reasons}


def test_a_running_worker_takes_up_other_weights_and_keeps_its_own_where_there_are_none(tmp_path: Path) -> None:
    file = tmp_path / "weights.json"
    Weights(again=0.5).save(file)
    (task,) = tasks(Settings(weights=file, data_dir=tmp_path))
    assert isinstance(task.processor, RecommendProcessor)
    assert task.background is not None
    for written, counts in (("{", 0.5), (Weights(again=0.25).model_dump_json(), 0.25)):
        file.write_text(written)
        task.background()
        assert task.processor._ranker.parameters.again == counts
    assert task.close is not None
    task.close()


def test_a_list_names_the_sequence_model_beside_the_ranker_that_ordered_it(sequence: Path, tmp_path: Path) -> None:
    ranker, named = trained("recent_place", 1, tmp_path / "ranker"), NamedModel.load(sequence)
    worker = Pipeline(trained=ranker)
    worker.processor.sequence_changed(named)
    assert last_list(worker, 0).versions.model == f"{ranker.name}+{named.name}"


def test_a_worker_told_of_a_sequence_model_opens_and_watches_it(sequence: Path, tmp_path: Path) -> None:
    with pytest.raises(RankingWrong, match="assay train sequence"):
        tasks(Settings(sequence=tmp_path / "nowhere", data_dir=tmp_path))
    (task,) = tasks(Settings(sequence=sequence, data_dir=tmp_path))
    assert isinstance(task.processor, RecommendProcessor)
    before = task.processor.sequence
    save_names(sequence, ["b", "a"])
    assert task.background is not None
    deadline = time.monotonic() + 30
    while task.processor.sequence is before:
        assert time.monotonic() < deadline
        task.background()
    assert task.processor.sequence is not None
    assert task.processor.sequence.skus == ["b", "a"]
    assert task.close is not None
    task.close()


def test_weights_that_are_none_refuse_the_start(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text("{")
    with pytest.raises(RankingWrong, match="assay tune"):
        tasks(Settings(weights=tmp_path / "weights.json", data_dir=tmp_path))


def test_factors_are_a_source_and_are_taken_up_anew(tmp_path: Path) -> None:
    folder = tmp_path / "factors"
    with pytest.raises(RankingWrong, match="assay train factors"):
        tasks(Settings(factors=folder, data_dir=tmp_path))
    first = FactorModel(np.array([[1, 0], [1, 0.1]], dtype=np.float32), ["a", "b"], 0.05, 8.0)
    first.save(folder, {})
    (task,) = tasks(Settings(factors=folder, data_dir=tmp_path))
    assert isinstance(task.processor, RecommendProcessor)
    second = FactorModel(np.array([[1, 0], [1, 0.2]], dtype=np.float32), ["a", "b"], 0.05, 8.0)
    second.save(folder, {})
    assert task.background is not None
    deadline = time.monotonic() + 30
    while task.processor.factors is None or task.processor.factors.name != second.name:
        assert time.monotonic() < deadline
        task.background()
    assert task.close is not None
    task.close()
    worker = Pipeline()
    worker.processor.factors_changed(second)
    found = last_list(worker, 0)
    assert found.versions.model == f"blend-4+{second.name}"
    assert any(reason.source == "factors" for item in found.items if item.sku == "b" for reason in item.reasons)
