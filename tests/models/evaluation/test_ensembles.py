from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.evaluation import Sequences, SessionDataset, Training, create_method, judge
from models.evaluation.dataset import split_tail
from models.evaluation.ensembles import FusedMethod, RankedMethod
from models.evaluation.methods import RepeatMethod, ReturnsMethod, Source
from models.evaluation.neural import HELD_OUT_FOLDER, SequenceMethod, train_members, train_pair
from models.sequence import SequenceModel, SequenceModelError, SequenceOptions
from models.sequence.model import CARD

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = 40
OPTIONS = SequenceOptions(dimensions=16, layers=1, epochs=3)


def walks(sessions: int, seed: int = 0) -> list[list[int]]:
    """Mostly n, n + 3, n + 6...; one click in five is the first item again."""
    rng = np.random.default_rng(seed)
    made = []
    for first, length in zip(rng.integers(0, ITEMS, sessions).tolist(), rng.integers(3, 7, sessions).tolist(), strict=True):
        session = [first]
        while len(session) < length:
            session.append(first if rng.random() < 0.2 else (session[-1] + 3) % ITEMS)
        made.append(session)
    return made


@pytest.fixture(scope="module")
def dataset() -> SessionDataset:
    head, prefixes, targets = split_tail(Sequences.of(walks(1300)), 0.1)
    return SessionDataset(tuple(map(str, range(ITEMS))), head, prefixes, targets)


class Fixed(Source):
    """Says the same to everybody."""

    def __init__(self, name: str, rows: list[int]) -> None:
        self.name = name
        self._rows = np.array(rows, np.int32)

    def learn(self, sessions: Sequences, items: int) -> None:
        self.learned_from = len(sessions)

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.full((len(prefixes), limit), -1, np.int32)
        rows[:, : len(self._rows)] = self._rows
        return rows, np.where(rows >= 0, np.float32(2.0), np.float32(0.0))

    @property
    def nbytes(self) -> int:
        return 10


def test_weights_follow_what_helps_on_the_newest_sessions() -> None:
    """Everybody clicks 5 second: the source that says so gets the weight, and sources are taught everything in the end."""
    sessions = Sequences.of([[row % 4, 5] for row in range(400)])
    right, wrong = Fixed("right", [5]), Fixed("wrong", [6])
    method = FusedMethod("both", [wrong, right])
    method.learn(sessions, 8)
    assert method.weights[1] > method.weights[0]
    assert right.learned_from == wrong.learned_from == 400
    assert method.recommend(Sequences.of([[1]]), 3).tolist() == [[5, 6, -1]]
    assert method.nbytes == 20


def test_the_sum_of_all_beats_each_alone(dataset: SessionDataset) -> None:
    found = {name: judge(create_method(name), dataset) for name in ("repeat-only", "sequential-rules", "fused", "ranked-live")}
    for name in ("fused", "ranked-live"):
        assert found[name].mrr_at_20 >= max(found["repeat-only"].mrr_at_20, found["sequential-rules"].mrr_at_20)
        assert found[name].hit_rate_at_20 >= found["sequential-rules"].hit_rate_at_20
        assert found[name].memory_mb > 0


def test_the_ranker_learns_with_the_sequence_model_and_keeps_what_was_trained(dataset: SessionDataset, tmp_path: Path) -> None:
    told: list[str] = []
    training = Training(tmp_path, options=OPTIONS, progress=lambda part, epoch: told.append(part))
    ranked = judge(create_method("ranked", training), dataset)
    assert set(told) == {"held-out", "all"}
    assert len(list(tmp_path.rglob(CARD))) >= 2
    told.clear()
    sequence = judge(create_method("sequence", training), dataset)
    assert told == []  # found again
    assert ranked.mrr_at_20 >= sequence.mrr_at_20 - 2.0
    assert sequence.hit_rate_at_20 > 80


def test_a_pair_is_trained_with_as_many_epochs_as_did_best(dataset: SessionDataset, tmp_path: Path) -> None:
    first, whole = train_pair(dataset.train, ITEMS, tmp_path, OPTIONS, "cpu")
    assert first.sessions != whole.sessions
    assert SequenceModel.load(tmp_path).sessions == whole.sessions
    assert SequenceModel.load(tmp_path / HELD_OUT_FOLDER).sessions == first.sessions
    method = SequenceMethod(tmp_path)
    method.learn(dataset.train, ITEMS)
    assert method.model is not None
    assert np.allclose(method.model.item_vectors, SequenceModel.load(tmp_path).item_vectors)


def test_members_are_trained_with_seeds_of_their_own_and_asked_as_one(dataset: SessionDataset, tmp_path: Path) -> None:
    told: list[str] = []
    first, whole = train_members(dataset.train, ITEMS, tmp_path, OPTIONS, "cpu", 2, lambda part, epoch: told.append(part))
    assert set(told) == {f"member {number}, {part}" for number in (1, 2) for part in ("held-out", "all")}
    assert (len(first), len(whole)) == (2, 2)
    folders = (tmp_path, tmp_path / "member-2")
    assert [SequenceModel.load(folder).options.seed for folder in folders] == [0, 1]
    assert len({SequenceModel.load(folder / HELD_OUT_FOLDER).sessions for folder in folders} | {whole.sessions}) == 2
    told.clear()
    training = Training(tmp_path, options=OPTIONS, progress=lambda part, epoch: told.append(part))
    method = create_method("sequence", training)
    assert isinstance(method, SequenceMethod)
    method.learn(dataset.train, ITEMS)
    assert told == []
    assert method.model is not None
    assert np.allclose(method.model.item_vectors, whole.item_vectors, atol=2e-3)  # kept in half precision
    assert judge(create_method("ranked", training), dataset).hit_rate_at_20 > 80
    with pytest.raises(SequenceModelError, match="member-2 is of a training with more members; delete it"):
        train_members(dataset.train, ITEMS, tmp_path, OPTIONS, "cpu")


def test_models_found_ready_cost_the_time_that_their_training_took(dataset: SessionDataset, tmp_path: Path) -> None:
    options = replace(OPTIONS, epochs=1)
    train_members(dataset.train, ITEMS, tmp_path, options, "cpu", 2)
    member = tmp_path / "member-2"
    for folder, seconds in ((tmp_path, 1000), (tmp_path / HELD_OUT_FOLDER, 2000), (member, 4000), (member / HELD_OUT_FOLDER, 8000)):
        card = json.loads((folder / CARD).read_text())
        assert card["seconds"] > 0
        (folder / CARD).write_text(json.dumps(card | {"seconds": seconds}))
    training = Training(tmp_path, options=options)
    for method in ("sequence", "ranked"):
        assert 15_000 < judge(create_method(method, training), dataset).train_seconds < 15_900
    # Trained by the method itself: its own time is all that it took.
    assert 0 < judge(create_method("sequence", Training(tmp_path / "nowhere", options=options)), dataset).train_seconds < 900
    (member / HELD_OUT_FOLDER / CARD).write_text("{")
    with pytest.raises(SequenceModelError, match="cannot be read"):
        judge(create_method("sequence", training), dataset)


def test_a_model_of_other_sessions_is_not_taken(dataset: SessionDataset, tmp_path: Path) -> None:
    train_pair(dataset.train, ITEMS, tmp_path, OPTIONS, "cpu")
    method = SequenceMethod(tmp_path, options=OPTIONS)
    other = Sequences.of(walks(200, seed=5))
    method.learn(other, ITEMS)
    assert method.model is not None
    assert method.model.sessions != SequenceModel.load(tmp_path).sessions


def test_scores_of_candidates_fall_and_rows_are_distinct(dataset: SessionDataset) -> None:
    for name in ("session-index", "decayed-rules", "repeat-only", "returns", "sequence"):
        method = create_method(name, Training(options=OPTIONS))
        assert isinstance(method, Source)
        method.learn(dataset.train, ITEMS)
        rows, scores = method.candidates(dataset.prefixes.slice(0, 50), 30)
        for line, values in zip(rows.tolist(), scores.tolist(), strict=True):
            listed = [row for row in line if row >= 0]
            assert len(set(listed)) == len(listed)
            assert all(row == -1 for row in line[len(listed) :])
            assert all(value > 0 for value in values[: len(listed)])
            assert values == sorted(values, reverse=True)


def test_own_items_count_less_the_longer_ago_they_were_clicked() -> None:
    rows, scores = RepeatMethod().candidates(Sequences.of([[4, 9, 4, 2]]), 5)
    assert rows.tolist() == [[2, 4, 9, -1, -1]]
    assert scores[0, :3] == pytest.approx(np.exp(-np.arange(3) / 4.0))


def test_a_session_returns_to_its_items_at_odds_that_grow_with_its_returns() -> None:
    """(0.5 + returns) / (2 + clicks), shared by clicks ** 0.7 and the clicks since."""
    rows, scores = ReturnsMethod().candidates(Sequences.of([[7], [4, 9, 2], [4, 9, 4]]), 4)
    assert rows.tolist() == [[7, -1, -1, -1], [2, 9, 4, -1], [4, 9, -1, -1]]
    fresh, returning = 0.5 / 5, 1.5 / 5
    assert scores[0, 0] == pytest.approx((0.5 / 3) / (1 - 0.5 / 3))
    assert scores[1].sum() == pytest.approx(fresh / (1 - fresh))
    assert scores[1, :3] / scores[1, 0] == pytest.approx(np.exp(-np.arange(3) / 4.0))
    assert scores[2].sum() == pytest.approx(returning / (1 - returning))
    assert scores[2, 0] / scores[2, 1] == pytest.approx(2**0.7 * np.exp(1 / 4.0))


def test_of_more_items_than_are_asked_for_those_of_the_best_odds_are_kept() -> None:
    rows, scores = ReturnsMethod().candidates(Sequences.of([[1, 5, 5, 5, 2, 3]]), 2)
    assert rows.tolist() == [[5, 3]]
    assert scores[0, 0] > scores[0, 1] > 0


def test_own_items_are_judged_by_returns_alone_and_new_ones_by_the_sources() -> None:
    """The source's favourite was clicked before: that gives it nothing, and takes nothing from the others."""
    method = FusedMethod("both", [Fixed("source", [3, 6])], ReturnsMethod())
    method.learn(Sequences.of([[1]]), 8)  # nothing to tune on: all weights are 1
    assert method.weights.tolist() == [1.0, 1.0]
    assert method.recommend(Sequences.of([[3]]), 4).tolist() == [[6, 3, -1, -1]]
    # 6 has all of what is new; of nothing but returns and visits to 3, the odds of one pass even that.
    assert method.recommend(Sequences.of([[3] * 20]), 4).tolist() == [[3, 6, -1, -1]]
    assert method.recommend(Sequences.of([[5], [3, 6], [0]]), 3).tolist() == [[3, 6, 5], [6, 3, -1], [3, 6, 0]]


def test_live_sources_are_taught_up_to_each_slice_and_a_sequence_model_up_to_one(dataset: SessionDataset, tmp_path: Path) -> None:
    class Noted(Fixed):
        def learn(self, sessions: Sequences, items: int) -> None:
            lengths.append(len(sessions))

    class Trained(SequenceMethod):
        def learn(self, sessions: Sequences, items: int) -> None:
            super().learn(sessions, items)
            lengths.append(len(sessions))

    lengths: list[int] = []
    RankedMethod("live", [Noted("all", list(range(ITEMS)))]).learn(dataset.train, ITEMS)
    sessions = len(dataset.train)
    assert lengths == [round(sessions * 0.95), round(round(sessions * 0.95) * 0.95), sessions]
    lengths.clear()
    RankedMethod("all", [Trained(tmp_path, options=OPTIONS)]).learn(dataset.train, ITEMS)
    assert lengths == [round(sessions * 0.95), sessions]
