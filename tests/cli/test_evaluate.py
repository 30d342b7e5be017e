import csv
import gzip
from pathlib import Path
from typing import get_args

import orjson
import pytest

from models.evaluation import METHODS
from schemas.recommendation import SourceName
from streams.cli import report
from streams.replay import open_dataset

TRAIN = "".join(f"a{n} b{n} c{n}\n" for n in range(5)) * 40
TEST = "a1\tb1\na1 b1\tc1\na2\tnever\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.tsv.gz").write_bytes(gzip.compress(TEST.encode()))
    return ["--train", str(tmp_path / "train.txt"), "--test", str(tmp_path / "test.tsv.gz")]


def test_the_table_and_the_object_hold_one_row_a_method(assay, files, tmp_path):
    result = assay("evaluate", "session", *files, "--models", "models", "--json", "--markdown", "table.md")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["sessions"], document["tests"]) == (200, 3)
    assert [row["method"] for row in document["results"]] == list(METHODS)
    for field in ("hit_rate_at_20", "mrr_at_20", "p50_us", "p99_us", "train_seconds", "memory_mb"):
        assert all(row[field] >= 0 for row in document["results"])
    found = {row["method"]: row["hit_rate_at_20"] for row in document["results"]}
    assert found["session-index"] == found["sequential-rules"] == 66.67
    assert found["repeat-only"] == 0
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


def judged(assay, folder, train: bytes, test: bytes, *names: str, methods: str = "all"):
    """(the result, its JSON object or None)."""
    train_path, test_path = (folder / name for name in (names or ("train.txt", "test.tsv")))
    train_path.write_bytes(train)
    test_path.write_bytes(test)
    result = assay(
        "evaluate", "session", "--train", str(train_path), "--test", str(test_path), "--models", str(folder), "--methods", methods, "--json"
    )
    return result, orjson.loads(result.stdout.splitlines()[-1]) if result.stdout.startswith("|") else None


NAMED = "".join(f"schuh-{n} Größe/{n}% {{x}}:{n}\n" for n in range(5)).encode() * 30
NAMED_TEST = "schuh-1\tGröße/1%\nschuh-2 Größe/2%\t{x}:2\n".encode()


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (NAMED, NAMED_TEST, ("train.txt", "test.tsv")),
        (b"\xef\xbb\xbf" + NAMED.replace(b"\n", b"\r\n"), NAMED_TEST.replace(b"\n", b"\r\n"), ("train.txt", "test.tsv")),
        (gzip.compress(NAMED), gzip.compress(NAMED_TEST), ("train.txt.gz", "test.tsv.gz")),
        (gzip.compress(NAMED), gzip.compress(NAMED_TEST), ("train.txt", "test.tsv")),
        (NAMED.rstrip(b"\n"), NAMED_TEST.rstrip(b"\n"), ("train.txt", "test.tsv")),
    ],
    ids=["any text is an item", "CRLF and a byte order mark", "gzip", "gzip by another name", "no last line end"],
)
def test_any_split_of_the_format_is_judged_the_same(assay, tmp_path, train, test, names):
    # The sequence model and what rests on it take their time, and read the same sessions.
    untrained = ",".join(name for name in METHODS if name not in ("sequence", "ranked"))
    result, document = judged(assay, tmp_path, train, test, *names, methods=untrained)
    assert result.exit_code == 0, result.output
    assert (document["sessions"], document["items"], document["tests"], document["warnings"]) == (150, 15, 2, [])
    assert document["failed"] == {}
    found = {row["method"]: row["hit_rate_at_20"] for row in document["results"]}
    assert found["session-index"] == found["sequential-rules"] == found["fused"] == found["ranked-live"] == 100.0


def test_blank_lines_are_passed_over_and_long_sessions_cut_with_a_warning(assay, tmp_path):
    bot = " ".join(f"schuh-{n % 5}" for n in range(10_000)).encode()
    result, document = judged(assay, tmp_path, b"\n \t\n" + NAMED + bot + b"\n", b"\n" + NAMED_TEST + bot + b"\tschuh-0\n\n")
    assert result.exit_code == 0, result.output
    assert [row["method"] for row in document["results"]] == list(METHODS)
    assert (document["sessions"], document["tests"]) == (151, 3)
    warnings = " ".join(document["warnings"])
    assert f"2 blank lines in {tmp_path / 'train.txt'}: passed over" in warnings
    assert f"1 sessions of more than 200 clicks in {tmp_path / 'train.txt'}: the first 200 of each are read" in warnings
    assert f"1 prefixes of more than 200 clicks in {tmp_path / 'test.tsv'}: the newest 200 of each are read" in warnings
    assert all(f"warning: {warning}" in result.stderr for warning in document["warnings"])


def test_tests_of_which_training_knows_nothing_are_misses(assay, tmp_path):
    result, document = judged(assay, tmp_path, NAMED, b"new-1 new-2\tschuh-1\nschuh-1\tnew-3\nnew-4\tnew-5\n")
    assert result.exit_code == 0, result.output
    found = {row["method"]: row["hit_rate_at_20"] for row in document["results"]}
    assert list(found) == list(METHODS)
    # What is asked for nothing known can only be popular, or what the trained ones say of nobody.
    assert found["session-index"] == found["sequential-rules"] == found["co-occurrence"] == found["repeat-only"] == 0.0
    assert found["popularity"] == 33.33


@pytest.mark.parametrize(
    ("train", "failed"),
    [
        (b"a b c\n", {"ranked-live", "ranked"}),
        (b"a\n", {"ranked-live", "sequence", "ranked"}),
        (b"a a a a\n" * 2, {"ranked-live", "ranked"}),
        (b"a b\n" * 3, {"ranked-live", "ranked"}),
        (b"a\nb\nc\n" * 40, {"ranked-live", "sequence", "ranked"}),
    ],
    ids=["one session", "one click", "one item", "three sessions", "sessions of one click"],
)
def test_what_cannot_learn_from_so_little_says_why_and_the_others_are_judged(assay, tmp_path, train, failed):
    result, document = judged(assay, tmp_path, train, b"a\tb\n")
    assert result.exit_code == 1, result.output
    assert set(document["failed"]) == failed
    assert [row["method"] for row in document["results"]] == [name for name in METHODS if name not in failed]
    said = " ".join(result.stderr.split())
    for name, why in document["failed"].items():
        assert "sessions hold none of two clicks to learn an order from" in why or "no session has two clicks" in why
        assert f"{name}: {why}" in said


@pytest.mark.parametrize(
    ("train", "test", "complaint"),
    [
        (b"", NAMED_TEST, "train.txt holds no session"),
        (b"\n\n", NAMED_TEST, "train.txt holds no session"),
        (NAMED, b"", "test.tsv holds no test"),
        (gzip.compress(b""), NAMED_TEST, "train.txt holds no session"),
        (NAMED + "Größe 7\n".encode("latin-1"), NAMED_TEST, "train.txt, line 151: byte 0xf6 is not UTF-8 text"),
        (NAMED, b"a\tb\n\xff\xfe\tb\n", "test.tsv, line 2: byte 0xff is not UTF-8 text"),
        (gzip.compress(NAMED)[:-20], NAMED_TEST, "train.txt cannot be read"),
        (gzip.compress(NAMED)[:30] + b"\x55" * 40, NAMED_TEST, "train.txt cannot be read"),
        (NAMED, b"a\tb\nno tab\n", "test.tsv, line 2: expected"),
        (NAMED, b"a\tb c\n", "test.tsv, line 1: expected"),
        (NAMED, b"\tb\n", "test.tsv, line 1: expected"),
    ],
    ids=[
        "empty", "blank", "no test", "empty gzip", "Latin-1", "bytes", "cut off", "damaged", "no tab", "two targets", "no prefix",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_line(assay, tmp_path, train, test, complaint):
    result, document = judged(assay, tmp_path, train, test)
    assert (result.exit_code, document) == (2, None)
    assert complaint in " ".join(result.output.split())


def test_a_folder_is_no_file(assay, tmp_path):
    result = assay("evaluate", "session", "--train", str(tmp_path), "--test", str(tmp_path))
    assert result.exit_code == 2
    assert "is a directory" in " ".join(result.output.split())


def test_a_tail_without_a_test_is_refused(assay, files, tmp_path):
    (tmp_path / "train.txt").write_text("a b\na\na\n")
    result = assay("evaluate", "session", *files[:2], "--tail", "0.5")
    assert result.exit_code == 2
    assert "hold none of two clicks: take a larger share" in " ".join(result.output.split())


def test_the_stream_is_judged_beside_the_file(assay, files):
    result = assay("evaluate", "stream", *files, "--partitions", "1", "--json")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert [row["method"] for row in document["results"]] == ["session-index", "session-index, streamed"]
    assert document["results"][0]["hit_rate_at_20"] == document["results"][1]["hit_rate_at_20"] == 66.67
    assert document["lists"] == {"tests": 3, "differing": 0, "unexplained": 0, "clicks": 600, "overtaken": 0}
    assert "0 of 3 lists differ from the file's" in " ".join(result.stderr.split())


def test_more_sessions_than_a_worker_holds_are_refused(assay, files, tmp_path, monkeypatch):
    monkeypatch.setenv("ASSAY_LIVE_SESSIONS", "1000")
    (tmp_path / "train.txt").write_text(TRAIN * 6)
    result = assay("evaluate", "stream", *files)
    assert result.exit_code == 1
    assert "set ASSAY_LIVE_SESSIONS" in " ".join(result.output.split())


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
    table = (tmp_path / "table.md").read_text()
    assert "| assay | all | 114 |" in table
    assert 0 < rows["assay", "all"]["coverage"] <= 1
    assert rows["assay", "all"]["mrr_at_5"] <= rows["assay", "all"]["mrr_at_10"] <= rows["assay", "all"]["mrr_at_20"]
    assert rows["assay", "without repeats"]["tests"] == 114
    splits = {(one["dimension"], one["group"]): one for one in document["splits"] if one["method"] == "assay"}
    assert splits["repeat", "in an earlier visit"]["tests"] + splits["repeat", "never before"]["tests"] == 114
    assert {dimension for dimension, _ in splits} == {"event_type", "category", "item_age", "position", "repeat"}
    assert f"| position | 1 | {splits['position', '1']['tests']} |" in table
    assert "| position |" not in result.stdout
    methods = {"assay", "popularity", "repeat-only", "last-item co-occurrence", "sequential-rules"}
    assert methods == {method for method, _ in rows}
    for curves in (document["curves"], document["mrr_curves"], document["ndcg_curves"]):
        assert set(curves) == methods
        assert all(curve[-1][0] == 114 for curve in curves.values())
    assert document["coverage_curves"]["assay"][-1] == [114, pytest.approx(rows["assay", "all"]["coverage"], abs=1e-4)]
    assert all(document[name]["assay"] for name in ("novelty_curves", "repeats_curves"))


def test_cold_start_is_judged_with_text_and_without(assay, invoices, tmp_path):
    path = tmp_path / "invoices.csv"
    day = [
        f"{600000 + n},2000{n % 3},BRAND NEW {'LAMP' if n % 2 else 'CHAIR'},1,2011-02-01 08:26:00,9.99,{18000 + n // 4}.0,France"
        for n in range(16)
    ]
    path.write_text(path.read_text() + "\n".join(day) + "\n")
    result = assay("evaluate", "cold", *invoices[:3], "--types", "purchase", "--json", "--markdown", "table.md")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["protocol"], document["events"], document["products_with_text"]) == ("cold", 136, 9)
    rows = {(row["method"], row["group"]): row for row in document["results"]}
    assert {method for method, _ in rows} == {"with text", "without text", "popularity"}
    # Of each of the four new shoppers: the first event met no list, the three others follow their 1st, 2nd, 3rd.
    assert rows["with text", "new items"]["tests"] == 12
    assert rows["with text", "new shoppers, after 2 events"]["tests"] == 4
    assert rows["with text", "new items"]["hit_rate_at_20"] >= rows["without text", "new items"]["hit_rate_at_20"]
    assert rows["without text", "new items"]["gain"] == 0
    assert "| without text | new items | 12 |" in (tmp_path / "table.md").read_text()


@pytest.fixture
def own_log(invoices, tmp_path):
    """The same events as a log of one's own: arguments by kind of log."""
    source = open_dataset("online-retail", Path(invoices[2]))
    events = [orjson.loads(event.value) for event in source.events()]
    lines = [orjson.dumps(event) for event in events] + [b"no event", b'{"type": "purchase", "occurred_at": "2011-01-20T09:00:00Z"}']
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "products.jsonl").write_text("\n".join(product.to_json().decode() for product in source.catalogue().products))
    columns = [name for name in events[0] if name not in ("channel", "type", "occurred_at")]
    with (tmp_path / "events.csv").open("w") as file:
        table = csv.writer(file)
        table.writerow([*columns, "what", "when"])
        table.writerows([*(event[name] for name in columns), "sold", event["occurred_at"]] for event in events)
    named = (
        "--column",
        "type=what",
        "--column",
        "occurred_at=when",
        "--type",
        "sold=purchase",
        "--constant",
        f"channel={events[0]['channel']}",
    )
    shared = ("--catalog", "products.jsonl", "--json", "--no-text")
    return {
        "json-lines": ["json-lines", "--path", "events.jsonl", *shared],
        "csv": ["csv", "--path", "events.csv", *named, *shared],
    }


@pytest.mark.parametrize("kind", ["json-lines", "csv"])
def test_an_own_log_is_judged_like_a_public_one(assay, invoices, own_log, kind):
    for options in (["prequential", "--types", "purchase", "--batch", "3"], ["basket", "--cut", "2011-01-15T12:00"]):
        own, public = (
            orjson.loads(assay("evaluate", *options, *log).stdout.splitlines()[-1])["results"] for log in (own_log[kind], invoices)
        )
        assert own == public
        assert own[0]["tests"] > 0


def test_cold_start_is_judged_on_an_own_log(assay, own_log):
    result = assay("evaluate", "cold", *own_log["json-lines"][:-1], "--types", "purchase", "--share", "0.9")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["events"], document["products_with_text"]) == (122, 6)
    assert any(row["tests"] for row in document["results"])


@pytest.mark.parametrize("protocol", ["prequential", "cold", "basket"])
def test_an_own_log_that_cannot_be_read_says_how_to_name_its_columns(assay, tmp_path, protocol):
    (tmp_path / "log.csv").write_text("ts,who,action\n1,ann,view\n")
    cut = ["--cut", "2011-01-15"] if protocol == "basket" else []
    result = assay("evaluate", protocol, "csv", "--path", "log.csv", *cut)
    assert result.exit_code == 2
    assert "--column occurred_at=COLUMN" in " ".join(result.output.split())
    result = assay("evaluate", protocol, "csv", "--path", "log.csv", "--column", "sku", *cut)
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output
    result = assay("evaluate", protocol, "rees46", "--path", "log.csv", "--constant", "channel=web", *cut)
    assert result.exit_code == 2
    assert "has columns of its own" in result.output


def test_an_encoding_that_there_is_not_is_refused(assay, invoices):
    result = assay("evaluate", "prequential", *invoices, "--encoding", "latin-one")
    assert result.exit_code == 2
    assert "no text encoding is called latin-one" in result.output


def test_a_log_without_texts_has_nothing_to_compare(assay, tmp_path):
    (tmp_path / "train_sessions.txt").write_text("1 2 3\n" * 5)
    result = assay("evaluate", "cold", "diginetica", "--path", str(tmp_path / "train_sessions.txt"))
    assert result.exit_code == 2
    assert "no product of" in result.output


@pytest.mark.parametrize("suffix", ["png", "html"])
@pytest.mark.parametrize("protocol", ["session", "basket", "prequential", "cold"])
def test_every_protocol_draws_its_results(assay, files, invoices, tmp_path, protocol, suffix):
    pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")
    arguments = {
        "session": [*files, "--methods", "popularity,session-index"],
        "basket": [*invoices, "--cut", "2011-01-15T12:00", "--live"],
        "prequential": [*invoices, "--types", "purchase", "--batch", "3"],
        "cold": [*invoices[:3], "--types", "purchase"],
    }
    picture = tmp_path / f"picture.{suffix}"
    result = assay("evaluate", protocol, *arguments[protocol], "--plot", str(picture))
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--plot", "picture.jpg"], "picture.jpg ends neither in .png nor in .html"),
        (["--plot", "absent/picture.png"], "there is no folder absent"),
        (["--markdown", "absent/table.md"], "there is no folder absent"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(assay, files, arguments, complaint):
    result = assay("evaluate", "session", *files, *arguments)
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())
    assert result.stdout == ""


def test_without_the_extra_a_plot_says_how_to_get_it(assay, files, monkeypatch):
    monkeypatch.setattr(report, "find_spec", lambda name: None)
    result = assay("evaluate", "session", *files, "--plot", "picture.png")
    assert result.exit_code == 2
    assert "pip install 'assay[plots]'" in " ".join(result.output.split())


@pytest.mark.parametrize("protocol", ["prequential", "cold"])
@pytest.mark.parametrize("types", ["clicks", "click,view", "search", ","])
def test_event_types_that_are_none_about_an_item_are_refused(assay, tmp_path, protocol, types):
    (tmp_path / "log.csv").write_text("")
    result = assay("evaluate", protocol, "rees46", "--path", "log.csv", "--types", types)
    assert result.exit_code == 2
    assert "no event about an item is called" in result.output


def test_a_source_can_be_left_out(assay, tmp_path):
    lines = ["event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"]
    lines += [f"2019-10-01 00:{minute:02}:00 UTC,view,{minute % 3},1,a.b,x,1.0,{minute % 2},{minute % 2:036}" for minute in range(40)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    arguments = ["evaluate", "prequential", "rees46", "--path", "log.csv", "--types", "browse", "--no-text", "--json", "--batch", "1"]
    found = {}
    for left_out in ((), ("again",), tuple(get_args(SourceName))):
        result = assay(*arguments, *(option for source in left_out for option in ("--without", source)))
        if len(left_out) > 1:
            assert result.exit_code == 2
            assert "no source of lists is left" in result.output
        else:
            document = orjson.loads(result.stdout.splitlines()[-1])
            assert document["without"] == list(left_out)
            found[left_out] = document["results"][0]["mrr_at_20"]
    assert found["again",] != found[()]
