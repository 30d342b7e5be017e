"""Any order of changes, merges under way, suspensions and reloads leaves what a dict would hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.index.factory import create_index
from models.index.segmented import MergePlan, SegmentedIndex
from tests.models.index.contract import DIMENSIONS, clustered

VECTORS = clustered(6)
ACTIONS = ["upsert", "upsert", "upsert", "delete", "prepare", "apply", "merge", "suspend", "reload", "reset"]
Action = st.tuples(st.sampled_from(ACTIONS), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 5)), max_size=4))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@settings(max_examples=120, deadline=None)
@given(actions=st.lists(Action, max_size=25))
# A tombstone that a merge under way leaves behind is lifted before the merge is done.
@example(actions=[("upsert", [(5, 1)]), ("merge", []), ("upsert", [(5, 0)]), ("prepare", []), ("upsert", [(5, 1)]), ("apply", [])])
def test_the_index_holds_what_a_dict_would(kind: str, tmp_path_factory: pytest.TempPathFactory, actions: list) -> None:
    index = create_index(kind, DIMENSIONS, device="cpu")  # type: ignore[arg-type]
    assert isinstance(index, SegmentedIndex)
    held: dict[int, int] = {}
    plan: MergePlan | None = None
    path: Path | None = None
    for action, pairs in actions:
        ids = np.array([id_ for id_, _ in pairs], dtype=np.int64)
        if action == "upsert":
            index.upsert(ids, VECTORS[[which for _, which in pairs]].reshape(-1, DIMENSIONS))
            held.update(pairs)
        elif action == "delete":
            index.delete(ids)
            for id_ in ids.tolist():
                held.pop(id_, None)
        elif action == "prepare":
            plan = index.prepare_merge()
        elif action == "apply":
            if plan is not None:
                plan.build()
                index.apply_merge(plan)
                plan = None
        elif action == "suspend":
            index.suspend()
            held.clear()
        else:
            plan = None
            if action == "merge":
                index.merge()
            elif action == "reset":
                index.reset(DIMENSIONS)
                held.clear()
            else:
                path = path or tmp_path_factory.mktemp("index") / "snapshot"
                index.save(path)
                index.load(path)
        scores, found = index.search(VECTORS[:2], 10)
        for query in range(2):
            by_id = {int(id_): float(score) for id_, score in zip(found[query], scores[query], strict=True) if id_ >= 0}
            assert by_id == pytest.approx({id_: float(VECTORS[query] @ VECTORS[which]) for id_, which in held.items()}, abs=2e-3)
        assert len(index) == len(held)
