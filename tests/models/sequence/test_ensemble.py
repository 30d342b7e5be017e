from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.sequence import SequenceEnsemble, SequenceModel, SequenceModelError, SequenceOptions, train
from models.sequence.ensemble import models_of

pytestmark = pytest.mark.usefixtures("one_thread")

ITEMS = 30
#: Of two kinds in turns.
TEXT = np.stack([np.arange(ITEMS) % 2 == 0, np.arange(ITEMS) % 2 == 1], axis=1).astype(np.float32)
NEWEST = np.array([[5, 4, -1, -1], [9, -1, -1, -1], [3, 22, 11, 1]], np.int32)


def steps(sessions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Whoever clicked n clicks n + 1 or n + 2 next."""
    rng = np.random.default_rng(seed)
    made = (rng.integers(0, ITEMS, (sessions, 1)) + np.cumsum(rng.integers(1, 3, (sessions, 4)), axis=1)) % ITEMS
    return np.arange(0, made.size + 1, 4), made.astype(np.int32).ravel()


@pytest.fixture(scope="module")
def members(one_thread: None) -> list[SequenceModel]:
    """Unlike in seed, width and temperature."""
    unlike = [(16, 0.1, 0), (24, 0.05, 1)]
    options = [
        SequenceOptions(dimensions=wide, layers=1, epochs=2, temperature=temperature, length=3 + seed, text_only=0.2, seed=seed)
        for wide, temperature, seed in unlike
    ]
    return [train(*steps(400), ITEMS, each, text=TEXT)[0] for each in options]


def test_one_inner_product_is_the_mean_of_what_the_members_say(members: list[SequenceModel]) -> None:
    together = SequenceEnsemble(members)
    logits = [member.session_vectors(NEWEST) @ member.item_vectors.T / member.temperature for member in members]
    found = together.session_vectors(NEWEST) @ together.item_vectors.T / together.temperature
    assert not np.allclose(logits[0], logits[1], atol=0.5)
    assert np.allclose(found, np.mean(logits, axis=0), atol=1e-4)


def test_vectors_are_of_unit_length_and_empty_sessions_get_zeros(members: list[SequenceModel]) -> None:
    together = SequenceEnsemble(members)
    assert together.item_vectors.shape == (ITEMS, 16 + 24)
    assert np.allclose(np.linalg.norm(together.item_vectors, axis=1), 1, atol=1e-5)
    found = together.session_vectors(np.array([[7, -1], [-1, -1]], np.int32))
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)
    assert not found[1].any()


def test_each_member_reads_as_many_clicks_as_it_was_trained_on(members: list[SequenceModel]) -> None:
    together = SequenceEnsemble(members)
    assert (members[0].length, members[1].length, together.length) == (3, 4, 4)
    longer = np.array([[3, 22, 11, 8]], np.int32)
    first, second = together.session_vectors(NEWEST[2:]), together.session_vectors(longer)
    assert np.allclose(first[:, :16], second[:, :16], atol=1e-6)
    assert not np.allclose(first[:, 16:], second[:, 16:], atol=1e-3)


def test_a_single_member_is_left_as_it_is(members: list[SequenceModel]) -> None:
    alone = SequenceEnsemble(members[:1])
    assert len(alone) == 1
    assert np.array_equal(alone.item_vectors, members[0].item_vectors)
    assert np.array_equal(alone.session_vectors(NEWEST), members[0].session_vectors(NEWEST))
    assert (alone.temperature, alone.name, alone.nbytes) == (members[0].temperature, members[0].name, members[0].nbytes)


def test_records_can_tell_how_many_members_spoke(members: list[SequenceModel]) -> None:
    assert SequenceEnsemble(members).name == f"{members[0].name}x2"
    assert SequenceEnsemble(members).nbytes > members[0].nbytes + members[1].nbytes


def test_new_items_are_placed_by_their_text_in_every_member_and_only_in_the_one_that_grows(members: list[SequenceModel]) -> None:
    before = SequenceEnsemble(members)
    together = before.growing()
    assert together.text_dimensions == 2
    added = np.array([ITEMS, ITEMS + 1])
    together.place_items(added, TEXT[:2])
    vectors = together.vectors_of(added)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.array_equal(together.vectors_of(np.arange(ITEMS)), before.item_vectors)
    # A session of the new item is heard, by all of them.
    heard = together.session_vectors(added[:, None])
    assert heard[0, :16].any()
    assert heard[0, 16:].any()
    assert not before.session_vectors(added[:, None]).any()
    # Placed anew it is as if it had been so from the first; of two that grow from one neither sees the other's.
    other = together.growing()
    together.place_items(added[:1], TEXT[1:2])
    assert np.array_equal(together.vectors_of(added), vectors[[1, 1]])
    assert np.allclose(together.session_vectors(added[:, None]), heard[[1, 1]], atol=1e-6)
    assert np.array_equal(other.vectors_of(added), vectors)
    assert np.allclose(other.session_vectors(added[:, None]), heard, atol=1e-6)
    with pytest.raises(ValueError, match="shape"):
        together.place_items(np.array([ITEMS + 2]), np.zeros((1, 3), np.float32))


def test_members_that_know_no_texts_place_no_items(members: list[SequenceModel]) -> None:
    without, _ = train(*steps(400), ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=1))
    mixed = SequenceEnsemble([members[0], without])
    assert mixed.text_dimensions is None
    with pytest.raises(ValueError, match="by text"):
        mixed.place_items(np.array([ITEMS]), TEXT[:1])


def test_models_of_other_sessions_are_no_members(members: list[SequenceModel]) -> None:
    other, _ = train(*steps(401), ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=1))
    for wrong in ([members[0], other], []):
        with pytest.raises(SequenceModelError, match="same sessions"):
            SequenceEnsemble(wrong)


def test_a_folder_is_read_with_the_members_beside_it(members: list[SequenceModel], tmp_path: Path) -> None:
    other, _ = train(*steps(401), ITEMS, SequenceOptions(dimensions=16, layers=1, epochs=1))
    for place, model in (("", members[0]), ("member-2", members[1]), ("member-3", other), ("held-out", members[1])):
        model.save(tmp_path / place)
    found = SequenceEnsemble.load(tmp_path)
    assert len(found) == 2
    assert np.allclose(found.item_vectors, SequenceEnsemble(members).item_vectors, atol=2e-3)  # kept in half precision
    (tmp_path / "member-2" / "model.safetensors").rename(tmp_path / "kept")
    with pytest.raises(SequenceModelError, match="member-2 cannot be read"):
        SequenceEnsemble.load(tmp_path)
    (tmp_path / "member-2" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(SequenceModelError, match="member-2 holds no sequence model"):
        SequenceEnsemble.load(tmp_path)


def test_a_model_that_is_there_twice_has_one_vote(members: list[SequenceModel], tmp_path: Path) -> None:
    for place, model in (("a", members[0]), ("b", members[1]), ("b/member-2", members[0])):
        model.save(tmp_path / place)
    assert models_of(tmp_path, members[0].sessions) == [tmp_path / "a", tmp_path / "b"]
    assert models_of(tmp_path, "others") == []
