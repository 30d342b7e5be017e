"""``assay train ranker``: from a log to a folder, or one message why not."""

from __future__ import annotations

import json
import re

import pytest

from models.ranking.trained import TrainedRanker
from tests.cli.test_tune import said, views


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    """Threads that wait for each other take minutes where other tests run beside these."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def test_a_ranker_that_surely_beats_the_blend_is_kept_with_what_it_was_judged_by(assay, rees46, tmp_path):
    result = assay("train", "ranker", *rees46(views(300, 40, 7)), "--batch", "1", "--out", "ranker")
    assert result.exit_code == 0, result.output
    trained = TrainedRanker.load(tmp_path / "ranker")
    card = json.loads((tmp_path / "ranker" / "ranker.json").read_text())
    assert (card["lists"], card["held_out"]) == (1110, 111)
    assert card["types"] == ["browse", "click", "add_to_cart", "purchase"]
    assert 0 < card["gain_low"] < card["gain"] < card["gain_high"]
    assert re.search(r"on 111 lists held out: MRR@20 0\.\d{4}, the blend 0\.\d{4}; ", said(result))
    assert f"gain {card['gain']:+.4f} (95 %: {card['gain_low']:+.4f} to {card['gain_high']:+.4f})" in said(result)
    assert f"{trained.name} written" in said(result)


@pytest.mark.parametrize("visits", [100, 300])
def test_a_ranker_that_may_be_better_by_chance_is_not_kept(assay, rees46, tmp_path, visits):
    result = assay("train", "ranker", *rees46(views(visits, 40, None)), "--batch", "1", "--out", "ranker")
    assert result.exit_code == 1
    assert "the ranker does not surely do better than the blend and is not kept" in said(result)
    assert not (tmp_path / "ranker").exists()
