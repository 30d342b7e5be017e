import random

import orjson
import pytest

pytest.importorskip("matplotlib", reason="the extra `plots` is not installed")


@pytest.fixture
def log(rees46):
    """Two weeks of a shop in REES46's form: who views an even product buys the next one, or in three of ten visits any."""
    chance = random.Random(3)
    rows = []
    for number in range(600):
        day, rest = divmod(number, 40)
        first = 2 * chance.randrange(10)
        bought = first + 1 if chance.random() < 0.7 else chance.randrange(20)
        for place, (kind, product) in enumerate((("view", first), ("view", first + 1), ("purchase", bought))):
            rows.append((f"2019-10-{day + 1:02d} {rest // 2:02d}:{10 + place:02d}:00", kind, product, number))
    return rees46(rows)


def test_the_register_the_responses_and_the_health_are_kept_apart(assay, log, tmp_path):
    result = assay(
        "value", "offline", *log, "--types", "browse,purchase", "--lists", "400", "--folds", "3", "--tests", "80", "--shuffles", "2",
        "--dimensions", "category,segment,age", "--json", "--markdown", "value.md", "--plot", "value.html",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert {line["dimension"] for line in document["value"]} == {"category", "segment", "age"}
    assert not any("E" in line or "gap" in line for line in document["value"])
    assert document["efficiency_residual"] < 1e-9
    for dimension in ("category", "segment", "age"):
        own = [line for line in document["value"] if line["dimension"] == dimension]
        assert sum(line["points"] for line in own) == pytest.approx(document["lift"])
        assert sum(line["player"] for line in own) == pytest.approx(document["lift"])
        assert sum(line["rows"] for line in own) == document["rows"]
    assert [row["protocol"] for row in document["responses"]] == ["replay", "fold 1", "fold 2", "fold 3"]
    for row, health in zip(document["responses"], document["health"], strict=True):
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == row["items"]
        assert row["low"] <= row["auc"] <= row["high"]
        assert health["E"] == pytest.approx(max(0.0, health["P_train"] - health["P_test"] - 0.01), abs=2e-4)
        assert health["gap"] == pytest.approx(health["P_train"] - health["P_test"], abs=2e-4)
    assert document["roc"][0] == [0.0, 0.0]
    assert document["roc"][-1] == [1.0, 1.0]
    assert document["curves"][-1]["P_test"] == document["responses"][0]["auc"]
    text = (tmp_path / "value.md").read_text()
    assert text.strip() in result.stdout
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## value", "## responses", "## curves", "## health"]
    value, _, rest = text.partition("## responses")
    assert "| E |" in rest
    assert "| E |" not in value
    page = (tmp_path / "value.html").read_text()
    assert "segment, points per 1,000 outcomes" in page


def test_a_model_that_learns_by_heart_shows_it_under_health(assay, log):
    def health(model):
        result = assay(
            "value", "offline", *log, "--parts", "responses", "--types", "browse,purchase", "--lists", "400", "--folds", "2",
            "--model", model, "--epsilon", "0.05", "--json",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        document = orjson.loads(result.stdout.splitlines()[-1])
        assert "value" not in document
        assert document["model"] == model
        return document["health"][0]

    by_heart, linear = health("nearest"), health("linear")
    assert by_heart["P_train"] > linear["P_train"]
    assert by_heart["E"] > linear["E"]
    assert by_heart["epsilon"] == 0.05


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["--parts", "magic"], 2, "no part is called magic; there are register, responses"),
        (["--parts", "register", "--dimensions", "star sign"], 2, "no dimension is called star sign; there are channel, event_type"),
        (["--types", "wish"], 2, "no event about an item is called wish"),
        (["--parts", "register", "--limit", "2"], 1, "0 visits were over before the newest 20% began"),
        (["--parts", "responses", "--limit", "3"], 1, "take more of the log"),
    ],
)
def test_what_cannot_be_valued_is_said(assay, log, arguments, code, complaint):
    result = assay("value", "offline", *log, *arguments)
    assert result.exit_code == code, result.output
    assert complaint in " ".join(result.output.split())
