"""``assay train factors``: from a log to a folder, or one message why not."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from models.factors.model import FactorModel
from tests.evaluation.test_prequential import clicks


@pytest.fixture
def log(tmp_path):
    """Even users take even items, odd ones odd."""
    rng = np.random.default_rng(0)
    pairs = [(f"u{user}", f"i{2 * item + user % 2}") for user in range(60) for item in rng.permutation(15)[:10]]
    events = clicks(*(pairs[place] for place in rng.permutation(len(pairs))))
    (tmp_path / "events.jsonl.gz").write_bytes(gzip.compress(b"\n".join(event.value for event in events)))
    return tmp_path / "events.jsonl.gz"


def test_factors_are_judged_and_written(assay, log, tmp_path):
    result = assay("train", "factors", "--log", "json-lines", "--path", str(log), "--out", "factors", "--factors", "8")
    assert result.exit_code == 0, result.output
    model = FactorModel.load(tmp_path / "factors")
    assert model.vectors.shape == (30, 8)
    assert f"{model.name} written" in result.output
    assert "600 touches, 60 shoppers, 30 items" in result.output


def test_factors_of_too_little_are_not_kept(assay, log, tmp_path):
    result = assay("train", "factors", "--log", "json-lines", "--path", str(log), "--out", "factors", "--limit", "1")
    assert result.exit_code == 1
    assert "nothing to learn from" in result.output
    assert not (tmp_path / "factors").exists()


@pytest.mark.parametrize(("option", "value"), [("--alpha", "0"), ("--regularization", "-1")])
def test_options_out_of_range_are_named(assay, log, option, value):
    result = assay("train", "factors", "--log", "json-lines", "--path", str(log), "--out", "factors", option, value)
    assert result.exit_code == 2
    assert f"{option[2:]} must be greater than 0" in result.output
