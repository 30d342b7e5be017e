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


@pytest.fixture
def invoices(tmp_path):
    lines = ["InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"]
    lines += [
        f"{500000 + 2 * day + customer % 2},{code},THING {code},2,2011-01-{day:02d} 08:26:00,2.55,{customer}.0,France"
        for day in range(1, 21)
        for customer in (17850, 17851)
        for code in ("10001", "10002", f"1000{3 + day % 4}")
    ]
    path = tmp_path / "invoices.csv"
    path.write_text("\n".join(lines) + "\n")
    return ["online-retail", "--path", str(path), "--no-text", "--json"]


def test_the_next_basket_is_judged_frozen_and_live(assay, invoices):
    result = assay("evaluate", "basket", *invoices, "--cut", "2011-01-15T12:00", "--live")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["protocol"], document["purchases"]) == ("basket", 120)
    found = {(row["method"], row["state"], row["baskets"]): row for row in document["results"]}
    assert found["assay", "frozen", "known"]["tests"] == found["assay", "live", "all"]["tests"] == 10
    assert found["assay", "live", "all"]["hit_rate"] == 1.0


@pytest.mark.parametrize(
    ("cut", "complaint"), [("yesterday", "is no time"), ("2012-01-01", "must lie within the purchases"), ("2001-01-01", "2011-01-01T08:26")]
)
def test_a_cut_that_cuts_nothing_is_refused(assay, invoices, cut, complaint):
    result = assay("evaluate", "basket", *invoices, "--cut", cut)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())


def test_a_log_is_judged_event_by_event(assay, invoices, tmp_path):
    result = assay("evaluate", "prequential", *invoices, "--types", "purchase", "--batch", "3", "--markdown", "table.md")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    rows = {(row["method"], row["items"]): row for row in document["results"]}
    assert rows["assay", "all"]["tests"] == 114  # all but the first basket of each
    assert rows["assay", "all"]["hit_rate_at_20"] > 0.9
    assert document["curves"]["assay"][-1][0] == 114
    assert "| assay | all | 114 |" in (tmp_path / "table.md").read_text()
