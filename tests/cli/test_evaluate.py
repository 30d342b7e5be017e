import gzip

import orjson
import pytest

from models.evaluation import METHODS

TRAIN = "".join(f"a{n} b{n} c{n}\n" for n in range(5)) * 40
TEST = "a1\tb1\na1 b1\tc1\na2\tnever\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.tsv.gz").write_bytes(gzip.compress(TEST.encode()))
    return ["--train", str(tmp_path / "train.txt"), "--test", str(tmp_path / "test.tsv.gz")]


def test_the_table_and_the_object_hold_one_row_a_method(assay, files, tmp_path):
    result = assay("evaluate", "session", *files, "--json", "--markdown", "table.md")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["sessions"], document["tests"]) == (200, 3)
    assert [row["method"] for row in document["results"]] == list(METHODS)
    for field in ("hit_rate_at_20", "mrr_at_20", "p50_us", "p99_us", "train_seconds", "memory_mb"):
        assert all(row[field] >= 0 for row in document["results"])
    found = {row["method"]: row["hit_rate_at_20"] for row in document["results"]}
    assert found["session-index"] == found["sequential-rules"] == 66.67
    assert found["repeat"] == 0
    table = (tmp_path / "table.md").read_text()
    assert table in result.stdout
    assert "| session-index | 66.67 |" in table


def test_the_newest_part_of_training_may_stand_in_for_a_test(assay, files):
    result = assay("evaluate", "session", *files[:2], "--tail", "0.25", "--methods", "session-index, popularity", "--json")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["sessions"], document["tests"]) == (150, 100)
    assert [row["method"] for row in document["results"]] == ["session-index", "popularity"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--methods", "magic"], "no method is called 'magic'; there are popularity"),
        (["--methods", ","], "no method is called"),
        (["--tail", "0.1"], "either --test FILE or --tail SHARE"),
        (["--train", "absent.txt"], "absent.txt cannot be read"),
    ],
)
def test_usage_errors_say_what_there_is(assay, files, arguments, complaint):
    result = assay("evaluate", "session", *files, *arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


def test_a_broken_line_is_named(assay, files, tmp_path):
    (tmp_path / "train.txt").write_text("a b\n\n")
    result = assay("evaluate", "session", *files)
    assert result.exit_code == 2
    assert "line 2: an empty session" in " ".join(result.output.split())
