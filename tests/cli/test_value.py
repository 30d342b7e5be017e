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


@pytest.fixture
def own_log(tmp_path):
    """Twelve days of a shop whose shoppers are shown scarves and drills, and click five of six scarves. One product has no text."""
    chance = random.Random(8)
    kinds = {"scarf": ("wool", "silk", "red", "long"), "drill": ("cordless", "hammer", "battery", "heavy")}
    products = [
        {"sku": f"{word}-{noun}", "title": f"{word} {noun}".capitalize(), "category_path": [noun]}
        for noun, words in kinds.items()
        for word in words
    ]
    (tmp_path / "products.jsonl").write_bytes(b"\n".join(map(orjson.dumps, [*products, {"sku": "blank", "title": ""}])))
    events = []

    def happens(kind, sku, number, second):
        day, hour = divmod(number, 24)
        at = f"2026-03-{1 + day:02d}T{hour:02d}:00:{second:02d}Z"
        who = {"user_id": f"u{number % 60}", "channel": ["web", "app"][number % 2], "country": "GB"}
        events.append({"event_id": f"e{len(events)}", "type": kind, "occurred_at": at, "sku": sku, **who})

    for number in range(12 * 24):
        shown = ["blank", *(product["sku"] for product in chance.sample(products, 3))]
        for place, sku in enumerate(shown):
            happens("impression", sku, number, place)
        for sku in shown:
            if "scarf" in sku and chance.random() < 5 / 6:
                happens("click", sku, number, 10)
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(map(orjson.dumps, events)))
    return ["json-lines", "--path", "events.jsonl", "--parts", "register", "--neighbours", "embeddings"]


def test_a_table_whose_columns_are_named_is_valued_like_a_public_log(assay, log):
    columns = {"occurred_at": "event_time", "type": "event_type", "sku": "product_id", "unit_price": "price", "order_id": "user_session"}
    named = [option for field, column in columns.items() for option in ("--column", f"{field}={column}")]
    shared = ["--type", "view=browse", "--type", "cart=add_to_cart", "--constant", "channel=web", "--constant", "currency=USD"]
    asked = ["--parts", "register", "--dimensions", "segment,age", "--tests", "80", "--shuffles", "1", "--json"]
    values = []
    for own in (log, ["csv", *log[1:3], *named, *shared]):
        result = assay("value", "offline", *own, *asked)
        assert result.exit_code == 0, result.output
        values.append(orjson.loads(result.stdout.splitlines()[-1])["value"])
    assert values[0] == values[1] != []


def test_items_shown_of_a_log_with_impressions_are_valued_by_their_texts(assay, own_log):
    result = assay("value", "offline", *own_log, "--catalog", "products.jsonl", "--tests", "60", "--shuffles", "1", "--json")
    assert result.exit_code == 0, result.output
    document = orjson.loads(result.stdout.splitlines()[-1])
    assert document["neighbours"] == "embeddings"
    # What is like a scarf is taken up and what is like a drill is not; by their shares alone a third less would be foretold.
    assert document["hits"] > 0.8
    assert document["lift"] > 0.2
    assert document["efficiency_residual"] < 1e-9
    assets = {
        dimension: {line["asset"] for line in document["value"] if line["dimension"] == dimension}
        for dimension in ("channel", "event_type", "category", "country")
    }
    assert assets == {"channel": {"web", "app"}, "event_type": {"ignored", "clicked"}, "category": {"scarf", "drill"}, "country": {"GB"}}
    for dimension in assets:
        assert sum(line["points"] for line in document["value"] if line["dimension"] == dimension) == pytest.approx(document["lift"])
    assert "without a text are left out" in result.stderr


@pytest.mark.parametrize(
    ("more", "code", "complaint"),
    [
        ([], 2, "leave out --no-text, and name their products (json-lines: --catalog)"),
        (["--catalog", "products.jsonl", "--no-text"], 2, "items shown are near by their texts"),
        (["--catalog", "products.jsonl", "--dimensions", "length"], 2, "no dimension of items shown is called length"),
        (["--catalog", "products.jsonl", "--limit", "3"], 1, "json-lines has no impression of which it is known what became of it"),
        (["--catalog", "products.jsonl", "--share", "0.95"], 1, "of 0 items shown it was known what became of them before the newest 95%"),
    ],
)
def test_items_shown_that_cannot_be_valued_are_said(assay, own_log, more, code, complaint):
    result = assay("value", "offline", *own_log, *more)
    assert result.exit_code == code, result.output
    assert complaint in " ".join(result.output.split())


def test_a_log_that_says_nowhere_what_was_shown_is_refused(assay, log):
    result = assay("value", "offline", *log, "--parts", "register", "--neighbours", "embeddings", "--types", "browse,purchase")
    assert result.exit_code == 1, result.output
    assert "rees46 has no impression" in result.stderr
    assert "what was touched, not what was shown beside it and passed over" in result.stderr
