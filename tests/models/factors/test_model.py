"""Factors: trained by the library, folded in by us, kept in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from models.factors.interactions import Interactions, confidence
from models.factors.model import FactorModel, FactorsError
from models.factors.training import FactorOptions, judge_factors, train_factors

OPTIONS = FactorOptions(factors=8, iterations=10)


def interactions(users: int = 200, seed: int = 0) -> Interactions:
    """Even users take even items, odd ones odd, ten of forty each, in an order of chance."""
    rng = np.random.default_rng(seed)
    pairs = [(user, 2 * item + user % 2) for user in range(users) for item in rng.permutation(20)[:10]]
    taken = np.array(pairs, dtype=np.int32)[rng.permutation(len(pairs))]
    weights = rng.choice([0.6, 1.0, 1.5], len(taken)).astype(np.float32)
    return Interactions(taken[:, 0], taken[:, 1], weights, np.arange(len(taken)), [f"i{item}" for item in range(40)])


@pytest.fixture(scope="module")
def model() -> FactorModel:
    return train_factors(interactions(), OPTIONS)


def folded(model: FactorModel, *items: int) -> np.ndarray:
    places = np.array(items, dtype=np.int32)
    return model.fold_in(np.array([0, len(items)]), places, confidence(np.ones(len(items), np.float32), model.alpha))[0]


def test_what_others_of_the_kind_took_comes_first(model: FactorModel) -> None:
    for kind in (0, 1):
        scores = model.vectors @ folded(model, kind, kind + 2, kind + 4)
        assert scores[kind::2].mean() > 5 * abs(scores[1 - kind :: 2].mean())


@pytest.mark.parametrize("size", [1, 3, 10, 40])
def test_folding_in_solves_the_equation_of_the_training(model: FactorModel, size: int) -> None:
    rng = np.random.default_rng(size)
    items = rng.permutation(40)[:size].astype(np.int32)
    weights = confidence(rng.random(size).astype(np.float32) * 5, model.alpha)
    y = model.vectors.astype(np.float64)
    system = y.T @ y + model.regularization * np.eye(y.shape[1]) + (y[items].T * (weights - 1)) @ y[items]
    exact = np.linalg.solve(system, weights @ y[items])
    np.testing.assert_allclose(model.fold_in(np.array([0, size]), items, weights)[0], exact, atol=2e-3 * np.abs(exact).max())


def test_the_library_folds_in_the_same(model: FactorModel) -> None:
    history = interactions(users=30, seed=4)
    matrix = history.confidences(history.user_count, model.alpha)
    with threadpool_limits(1, "blas"):
        theirs = AlternatingLeastSquares(factors=8, regularization=model.regularization, alpha=1.0, num_threads=1)
        theirs.item_factors = model.vectors
        expected = theirs.recalculate_user(np.arange(30), matrix)
    ours = model.fold_in(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)
    np.testing.assert_allclose(ours, expected, atol=5e-3 * np.abs(expected).max())


def test_nobodys_items_give_a_vector_of_zeros(model: FactorModel) -> None:
    found = model.fold_in(np.array([0, 0, 1, 1]), np.array([3], np.int32), np.array([2.0], np.float32))
    assert np.flatnonzero(found.any(axis=1)).tolist() == [1]


def test_equal_touches_give_equal_factors(model: FactorModel) -> None:
    again = train_factors(interactions(), OPTIONS)
    np.testing.assert_array_equal(again.vectors, model.vectors)
    assert again.name == model.name
    assert train_factors(interactions(seed=1), OPTIONS).name != model.name


def test_they_are_judged_by_what_comes_next_beside_popularity() -> None:
    card = judge_factors(interactions(), OPTIONS)
    assert 50 < card["shoppers"] <= 200
    # Of the 40 items popularity lists any 20, the factors those of the kind.
    assert card["mrr_at_20"] > card["mrr_at_20_popular"]
    assert card["hit_rate_at_20"] > 0.8 > card["hit_rate_at_20_popular"] > 0.2


def test_too_little_to_learn_from_is_said() -> None:
    nobody = interactions().part(slice(0, 0))
    with pytest.raises(FactorsError, match="nothing to learn from"):
        train_factors(nobody, OPTIONS)
    strangers = Interactions(
        np.arange(40, dtype=np.int32), np.arange(40, dtype=np.int32) % 7, np.ones(40, np.float32), np.arange(40), list("abcdefg")
    )
    with pytest.raises(FactorsError, match="nobody to judge by"):
        judge_factors(strangers, OPTIONS)


@pytest.mark.parametrize("wrong", [{"factors": 0}, {"iterations": 0}, {"alpha": 0.0}, {"regularization": -1.0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FactorOptions(**wrong)  # type: ignore[arg-type]


def test_a_folder_gives_back_what_was_saved(model: FactorModel, tmp_path: Path) -> None:
    model.save(tmp_path / "new", {"log": "x"})
    again = FactorModel.load(tmp_path / "new")
    np.testing.assert_array_equal(again.vectors, model.vectors)
    assert (again.skus, again.name, again.alpha, again.regularization) == (
        list(model.skus), model.name, model.alpha, model.regularization,
    )  # fmt: skip


@pytest.mark.parametrize("damage", ["missing", "vectors", "card", "version", "skus", "other"])
def test_what_holds_no_factors_is_refused_with_what_to_do(model: FactorModel, tmp_path: Path, damage: str) -> None:
    model.save(tmp_path, {})
    card = json.loads((tmp_path / "factors.json").read_text())
    match damage:
        case "missing":
            (tmp_path / "factors.safetensors").unlink()
        case "vectors":
            (tmp_path / "factors.safetensors").write_bytes(b"vectors")
        case "card":
            (tmp_path / "factors.json").write_text("[]")
        case "version":
            (tmp_path / "factors.json").write_text(json.dumps(card | {"format": 9}))
        case "skus":
            (tmp_path / "factors.json").write_text(json.dumps(card | {"skus": ["a"]}))
        case "other":
            (tmp_path / "factors.json").write_text(json.dumps(card | {"name": "factors-00000000"}))
    with pytest.raises(FactorsError, match=r"train|do not fit"):
        FactorModel.load(tmp_path)
