from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.sequence import Epoch, SequenceModel, SequenceModelError, SequenceOptions, train
from models.sequence.model import CARD, CHECKPOINT, WEIGHTS
from models.sequence.network import SequenceNetwork

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = 60
SMALL = SequenceOptions(dimensions=16, layers=1, epochs=4, half_life=0.0)


def circles(sessions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whoever clicked n clicks n + 7 next."""
    rng = np.random.default_rng(seed)
    made = [[int((first + 7 * step) % ITEMS) for step in range(length)] for first, length in zip(
        rng.integers(0, ITEMS, sessions), rng.integers(2, 7, sessions), strict=True)]  # fmt: skip
    return np.cumsum([0, *map(len, made)]), np.array([row for session in made for row in session], np.int32)


def best(model: SequenceModel, *newest: int) -> int:
    vectors = model.session_vectors(np.array([newest], np.int32))
    return int(np.argmax(model.item_vectors @ vectors[0]))


@pytest.fixture(scope="module")
def learned(one_thread: None) -> tuple[SequenceModel, list[Epoch]]:
    return train(*circles(1000), ITEMS, SMALL, held_out=circles(100, seed=1))


def test_what_follows_is_learned_and_judged_on_sessions_held_out(learned: tuple[SequenceModel, list[Epoch]]) -> None:
    model, history = learned
    assert history[-1].loss < history[0].loss
    assert history[-1].mrr > 0.95
    assert [best(model, newest) for newest in (0, 20, 55)] == [7, 27, 2]
    assert best(model, 30, 23, 16) == 37


def test_vectors_are_of_unit_length_and_unknown_items_are_passed_over(learned: tuple[SequenceModel, list[Epoch]]) -> None:
    model, _ = learned
    assert np.allclose(np.linalg.norm(model.item_vectors, axis=1), 1, atol=1e-5)
    newest = np.array([[9, -1, -1], [ITEMS + 5, 9, -1], [-1, -1, 9], [-1, -1, -1]], np.int32)
    vectors = model.session_vectors(newest)
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert np.allclose(vectors[0], vectors[2], atol=1e-6)
    assert not vectors[3].any()


def test_a_session_longer_than_the_model_reads_counts_by_its_newest_clicks(learned: tuple[SequenceModel, list[Epoch]]) -> None:
    model, _ = learned
    clicks = np.arange(50, dtype=np.int32)[None, ::-1] % ITEMS
    assert np.allclose(model.session_vectors(clicks), model.session_vectors(clicks[:, : SMALL.length]))


def test_the_answer_does_not_depend_on_who_else_is_asked_about(learned: tuple[SequenceModel, list[Epoch]]) -> None:
    model, _ = learned
    newest = np.array([[3, -1, -1, -1], [8, 1, 54, 47]], np.int32)
    together = model.session_vectors(newest)
    assert np.allclose(together[0], model.session_vectors(newest[:1])[0], atol=1e-5)


def test_a_model_is_kept_and_read_with_its_card(learned: tuple[SequenceModel, list[Epoch]], tmp_path: Path) -> None:
    model, _ = learned
    model.save(tmp_path, {"note": "of circles"})
    again = SequenceModel.load(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    assert card["note"] == "of circles"
    assert card["sessions"] == again.sessions == model.sessions
    assert again.options == model.options
    assert np.allclose(again.item_vectors, model.item_vectors, atol=2e-3)  # kept in half precision


@pytest.mark.parametrize("spoil", ["absent", "card", "weights", "format", "infinite", "no number"])
def test_what_is_no_model_is_refused_in_words(learned: tuple[SequenceModel, list[Epoch]], tmp_path: Path, spoil: str) -> None:
    if spoil != "absent":
        learned[0].save(tmp_path)
    if spoil == "card":
        (tmp_path / CARD).write_text("{")
    elif spoil == "weights":
        (tmp_path / WEIGHTS).write_bytes(b"nothing")
    elif spoil in ("infinite", "no number"):
        with safe_open(tmp_path / WEIGHTS, "pt") as file:
            about = file.metadata()
        weights = load_file(tmp_path / WEIGHTS)
        weights["layers.0.linear1.weight" if spoil == "infinite" else "learned.weight"][3] = np.inf if spoil == "infinite" else np.nan
        save_file(weights, tmp_path / WEIGHTS, about)
    elif spoil == "format":
        (tmp_path / CARD).write_text((tmp_path / CARD).read_text().replace('"format": 1', '"format": 2'))
    complaint = {"format": "format 2", "infinite": "not finite", "no number": "not finite"}.get(spoil, "assay train sequence")
    with pytest.raises(SequenceModelError, match=complaint):
        SequenceModel.load(tmp_path)


def test_a_training_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    sessions = circles(300)
    whole, history = train(*sessions, ITEMS, SMALL)
    train(*sessions, ITEMS, SMALL, folder=tmp_path, epochs=2)
    resumed, after = train(*sessions, ITEMS, SMALL, folder=tmp_path)
    assert [epoch.number for epoch in after] == [1, 2, 3, 4]
    assert after[-1].loss == pytest.approx(history[-1].loss, rel=1e-5)
    assert np.allclose(resumed.item_vectors, whole.item_vectors, atol=1e-5)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    train(*circles(300), ITEMS, SMALL, folder=tmp_path, epochs=1)
    with pytest.raises(SequenceModelError, match="different: sessions"):
        train(*circles(301), ITEMS, SMALL, folder=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"torn")
    with pytest.raises(SequenceModelError, match="delete it"):
        train(*circles(300), ITEMS, SMALL, folder=tmp_path)


def test_a_checkpoint_of_other_texts_is_refused(tmp_path: Path) -> None:
    sessions = circles(300)
    text, other = (np.random.default_rng(seed).standard_normal((ITEMS, 4)).astype(np.float32) for seed in (0, 1))
    train(*sessions, ITEMS, SMALL, text=text, folder=tmp_path, epochs=1)
    for another in (other, text[:, :3], None):
        with pytest.raises(SequenceModelError, match=r"different: text\); delete it, or choose another folder"):
            train(*sessions, ITEMS, SMALL, text=another, folder=tmp_path)
    _, history = train(*sessions, ITEMS, SMALL, text=text.copy(), folder=tmp_path, epochs=2)
    assert [epoch.number for epoch in history] == [1, 2]


@pytest.mark.parametrize("part", ["network", "optimizer", "best", "history", "loss"])
def test_a_checkpoint_with_a_part_missing_is_refused(tmp_path: Path, part: str) -> None:
    train(*circles(300), ITEMS, SMALL, folder=tmp_path, epochs=1)
    content = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    if part == "network":
        del content["network"]["step.weight"]
    elif part == "loss":
        content["history"] = [(1, float("nan"), 0.5, 0.5, 1.0)]
    else:
        del content[part]
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(SequenceModelError, match=r"(?s)cannot be read: .*; delete it to train from the beginning"):
        train(*circles(300), ITEMS, SMALL, folder=tmp_path)


def test_the_best_epoch_is_returned_also_after_a_resume(tmp_path: Path) -> None:
    """Held out are sessions that no training can predict, so that some epoch but the last is best."""
    held_out = circles(60, seed=2)
    rng = np.random.default_rng(3)
    held_out = held_out[0], rng.integers(0, ITEMS, len(held_out[1])).astype(np.int32)
    model, history = train(*circles(300), ITEMS, SMALL, held_out=held_out)
    number = max(history, key=lambda epoch: epoch.mrr).number
    alone, _ = train(*circles(300), ITEMS, SMALL, epochs=number)
    assert np.allclose(model.item_vectors, alone.item_vectors, atol=1e-5)
    train(*circles(300), ITEMS, SMALL, held_out=held_out, folder=tmp_path, epochs=number)
    resumed, _ = train(*circles(300), ITEMS, SMALL, held_out=held_out, folder=tmp_path)
    assert np.allclose(model.item_vectors, resumed.item_vectors, atol=1e-5)


def test_drawn_negatives_teach_the_same_as_all_of_them() -> None:
    model, history = train(*circles(1500), ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=4, negatives=30), held_out=circles(50, 1))
    assert history[-1].mrr > 0.9
    assert best(model, 20) == 27


def test_text_alone_places_an_item_that_nobody_has_clicked() -> None:
    """Two kinds of items, told apart by their text; sessions stay within a kind. Item 0 was never clicked."""
    rng = np.random.default_rng(4)
    kinds = np.arange(ITEMS) % 2
    text = np.stack([kinds, 1 - kinds], axis=1).astype(np.float32)
    sessions = [rng.choice(np.flatnonzero((kinds == number % 2) & (np.arange(ITEMS) > 0)), 4).tolist() for number in range(700)]
    starts, rows = np.arange(0, 4 * len(sessions) + 1, 4), np.array(sessions, np.int32).ravel()
    with_text, _ = train(starts, rows, ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=4, text_only=0.3), text=text)
    scores = with_text.session_vectors(np.array([[2, 4, 6], [1, 3, 5]], np.int32)) @ with_text.item_vectors[0]
    assert scores[0] > scores[1] + 0.3
    without, _ = train(starts, rows, ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=1))
    assert not without.item_vectors[0].any()


def test_one_click_sessions_are_nothing_to_learn_from() -> None:
    with pytest.raises(SequenceModelError, match="nothing to learn from"):
        train(np.array([0, 1, 2]), np.array([3, 4], np.int32), ITEMS, SMALL)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"dimensions": 30, "heads": 4}, "multiple of heads"), ({"dropout": 1.0}, "dropout must lie"), ({"temperature": 0.0}, "temperature"),
     ({"epochs": 0}, "epochs must be at least 1"), ({"half_life": -1.0}, "half_life must not")],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceOptions(**wrong)


def test_older_sessions_count_less_with_a_half_life() -> None:
    """The first half of the sessions go one way, the second the other."""
    first = [[row, (row + 7) % ITEMS] for row in range(ITEMS)] * 6
    second = [[row, (row + 31) % ITEMS] for row in range(ITEMS)] * 6
    starts, rows = np.arange(0, 2 * len(first + second) + 1, 2), np.array(first + second, np.int32).ravel()
    model, _ = train(
        starts, rows, ITEMS, SequenceOptions(dimensions=32, layers=1, epochs=10, half_life=0.05, dropout=0.0, item_dropout=0.0)
    )
    assert np.mean([best(model, row) == (row + 31) % ITEMS for row in range(ITEMS)]) > 0.9


@pytest.mark.parametrize("half_life", [0.0005, 1e-40])
def test_sessions_so_old_that_they_count_nothing_teach_nothing(half_life: float) -> None:
    """All but the newest that has two clicks go one way; of most batches no example counts."""
    old = [[row, (row + 7) % ITEMS] for row in range(ITEMS)] * 40
    starts = np.array([*range(0, 2 * len(old) + 3, 2), 2 * len(old) + 3])
    rows = np.array([*np.ravel(old), 4, 50, 9], np.int32)
    options = replace(SMALL, half_life=half_life, epochs=4, dropout=0.0, item_dropout=0.0)
    model, history = train(starts, rows, ITEMS, options)
    assert history[0].loss > 1  # the mean of what counts, not of all
    assert best(model, 4) == 50


def test_a_training_that_diverges_is_ended_in_words_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(SequenceModelError, match=r"diverged in epoch 1: .* lower learning rate than 1e\+30, in another folder"):
        train(*circles(300), ITEMS, replace(SMALL, learning_rate=1e30), folder=tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_many_sessions_of_any_length_are_read_as_each_of_them_alone_and_teach_the_same() -> None:
    torch.manual_seed(0)
    network = SequenceNetwork(ITEMS, replace(SMALL, dropout=0.0, item_dropout=0.0))
    torch.nn.init.normal_(network.step.weight)
    sizes = torch.arange(200) % (SMALL.length + 1)
    places = torch.randint(1, ITEMS + 1, (200, SMALL.length)) * (torch.arange(SMALL.length) < sizes[:, None])
    learned = []
    for one in (slice(0, 200), *(slice(row, row + 1) for row in range(200))):
        vectors = network.sessions(network.item_table(), places[one])
        (vectors * torch.linspace(1, 2, SMALL.dimensions)).sum().backward()
        if one == slice(0, 200):
            together, gradient = vectors.detach(), network.learned.weight.grad.clone()
            network.zero_grad()
        else:
            learned.append(vectors.detach())
    assert torch.allclose(together, torch.cat(learned), atol=1e-5)
    assert torch.allclose(gradient, network.learned.weight.grad, atol=1e-4)


def test_nothing_looks_at_what_is_not_there() -> None:
    torch.manual_seed(0)
    network = SequenceNetwork(ITEMS, SMALL).eval()
    table = network.item_table()
    with torch.inference_mode():
        short = network.sessions(table, torch.tensor([[5, 6]]))
        padded = network.sessions(table, torch.tensor([[5, 6, 0, 0, 0]]))
    assert torch.allclose(short, padded, atol=1e-6)
