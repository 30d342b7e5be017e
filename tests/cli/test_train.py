import json

import pytest

from models.sequence.source import NamedModel

TRAIN = "".join(f"a{n} b{n} c{n}\n" for n in range(5)) * 60
SMALL = ("--dimensions", "16", "--layers", "1", "--epochs", "2")


@pytest.fixture
def train(assay, tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)

    def run(*arguments: str):
        return assay("train", "sequence", "--train", "train.txt", "--out", "models", *SMALL, *arguments)

    return run


def test_members_are_trained_kept_and_judged_together(train, assay, tmp_path):
    result = train("--members", "2")
    assert result.exit_code == 0, result.output
    said = result.stderr
    for part in ("member 1, held-out, epoch 2", "member 1, all, epoch", "member 2, held-out, epoch 2", "member 2, all, epoch"):
        assert part in said
    assert "all members as one, on the newest 5 %: hit rate@20 " in said
    named = NamedModel.load(tmp_path / "models")
    assert named.name.endswith("x2")
    assert sorted(named.skus) == sorted(f"{kind}{n}" for kind in "abc" for n in range(5))
    assert [json.loads((tmp_path / "models" / place / "model.json").read_text())["options"]["seed"] for place in ("", "member-2")] == [0, 1]
    # What was trained is found, not trained again.
    (tmp_path / "test.tsv").write_text("a1\tb1\n")
    result = assay(
        "evaluate", "session", "--train", "train.txt", "--test", "test.tsv", "--models", "models", "--methods", "sequence", "--json"
    )
    assert result.exit_code == 0, result.output
    assert "epoch" not in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["results"][0]["hit_rate_at_20"] == 100.0


def test_fewer_members_than_there_are_are_refused(train, tmp_path):
    (tmp_path / "models" / "member-3").mkdir(parents=True)
    result = train("--members", "2")
    assert result.exit_code == 1
    assert "member-3 is of a training with more members; delete it, or choose another folder" in " ".join(result.output.split())


def test_one_member_is_the_default(train, tmp_path):
    result = train()
    assert result.exit_code == 0, result.output
    assert "member" not in result.stderr
    assert not NamedModel.load(tmp_path / "models").name.endswith("x2")
