"""``assay tune``: from a log to a file of weights, or one message why not."""

from __future__ import annotations

import re

import numpy as np

from models.ranking.weights import Weights


def views(visits: int, items: int, step: int | None) -> list[tuple[str, str, int, int]]:
    """Visits of four views each, one after the other: item n, then n + ``step``, and so on; anything where that is None."""
    rng = np.random.default_rng(0)
    rows = []
    for visit in range(visits):
        product = int(rng.integers(items))
        for place in range(4):
            minute = 40 * visit + place
            at = np.datetime64("2019-10-01T00:00:00") + np.timedelta64(minute, "m")
            rows.append((str(at).replace("T", " "), "view", product, visit))
            product = int(rng.integers(items)) if step is None else (product + step) % items
    return rows


def said(result) -> str:
    return " ".join(result.stderr.split())


def test_views_are_what_lists_should_have_foreseen_unless_types_leave_them_out(assay, rees46, tmp_path):
    arguments = ("tune", *rees46(views(150, 40, 7)), "--batch", "1", "--trials", "20", "--out", "weights.json")
    result = assay(*arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"on 102 lists held out: MRR@20 0\.\d{4}, before 0\.\d{4}", said(result))
    assert "not tuned, for they said nothing: similar, sequence, query, factors" in said(result)
    assert Weights.model_validate_json(result.stdout) == Weights.load(tmp_path / "weights.json")
    result = assay(*arguments, "--types", "click,add_to_cart,purchase")
    assert result.exit_code == 1
    assert "nothing to tune by" in said(result)
