import random

import orjson
import pytest


@pytest.fixture
def log(rees46):
    """Two days of a shop in REES46's form: who views an even product views the next one."""
    chance = random.Random(3)
    rows = []
    for number in range(400):
        minutes = 7 * number
        first = 2 * chance.randrange(10)
        at = f"2019-10-{1 + minutes // 1440:02d} {minutes % 1440 // 60:02d}:{minutes % 60:02d}"
        for place, product in enumerate((first, first + 1)):
            rows.append((f"{at}:{10 + place:02d}", "view", product, number))
    return rees46(rows)


def test_where_no_data_does_harm_the_gain_is_none(assay, log, tmp_path):
    result = assay(
        "value", "feedback", *log, "--types", "browse", "--window", "24h", "--dimensions", "channel,event_type,segment", "--json",
        "--markdown", "feedback.md",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert (document["window"], document["dimensions"]) == ("24h", "channel,event_type,segment")
    without, with_feedback = document["lists"]
    assert without["tests"] == with_feedback["tests"] > 300
    assert without["hit_rate_at_20"] == with_feedback["hit_rate_at_20"] > 0.3
    assert (with_feedback["hit_rate_gain"], with_feedback["mrr_gain"]) == (0.0, 0.0)
    assert document["changes"] == [{"events": 0, "weights": {"channel": {}, "event_type": {}, "segment": {}}}]
    assert {(row["dimension"], row["asset"], row["weight"]) for row in document["weights"]} >= {
        ("channel", "web", 1.0), ("event_type", "browse", 1.0),
    }  # fmt: skip
    text = (tmp_path / "feedback.md").read_text()
    assert text.strip() in result.stdout
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## lists", "## weights"]


def test_a_dimension_that_cannot_be_weighed_is_refused(assay, log):
    result = assay("value", "feedback", *log, "--dimensions", "channel,category")
    assert result.exit_code == 2
    assert "feedback_dimensions" in result.output
