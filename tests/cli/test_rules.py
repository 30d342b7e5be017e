import json

import pytest

from models.rules import read_rules
from models.rules.example import EXAMPLE


def test_the_example_is_what_check_takes(assay, tmp_path):
    printed = assay("rules", "example")
    assert (printed.exit_code, printed.output) == (0, EXAMPLE)
    (tmp_path / "rules.yaml").write_text(printed.output)
    checked = assay("rules", "check", "rules.yaml")
    assert checked.exit_code == 0
    rules = read_rules(EXAMPLE.encode())
    first, *lines = checked.output.splitlines()
    assert first == f"rules.yaml: {rules.count} rules, digest {rules.digest}"
    assert len(lines) == rules.count
    assert "  exclude        no product with a stock below 3  (Almost sold out)" in lines


def test_check_says_what_holds_at_another_time(assay, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "exclude:\n  - {brands: a, until: 2001-01-01T00:00:00Z}\n  - {brands: b, from: 2099-01-01T00:00:00Z}\n"
    )
    result = assay("rules", "check", "rules.yaml")
    assert "of brand a, until 2001-01-01T00:00:00+00:00  [over]" in result.output
    assert "of brand b, from 2099-01-01T00:00:00+00:00  [to come]" in result.output
    told = json.loads(assay("rules", "check", "rules.yaml", "--json").stdout)
    assert [rule["standing"] for rule in told["rules"]] == ["over", "to come"]
    assert (told["valid"], told["faults"]) == (True, [])


def test_check_tells_every_fault_with_its_place(assay, tmp_path):
    (tmp_path / "rules.yaml").write_text("pin:\n  - sku: a\nbury:\n  - brands: b\n    factor: 2\n")
    result = assay("rules", "check", "rules.yaml")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "line 2, column 5: pin.0.position: is missing; add it" in result.stderr
    assert "line 5, column 13: bury.0.factor: Input should be less than 1 (got '2')" in result.stderr
    told = json.loads(assay("rules", "check", "rules.yaml", "--json").stdout)
    assert (told["valid"], [(fault["line"], fault["column"], fault["path"]) for fault in told["faults"]]) == (
        False, [(2, 5, "pin.0.position"), (5, 13, "bury.0.factor")],
    )  # fmt: skip


def test_a_file_that_is_not_there_is_a_usage_error(assay):
    result = assay("rules", "check", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.stderr


@pytest.mark.parametrize(
    ("text", "verdict", "found"),
    [("exclude: []", "ok", "0 rules, digest"), ("exclude: [{sku: a}]", "fail", "line 1, column 12: exclude.0.sku: there is no such key")],
)
def test_doctor_looks_at_the_file_that_a_worker_would_be_given(assay, tmp_path, text, verdict, found):
    (tmp_path / "rules.yaml").write_text(text)
    command = ["doctor", "--json", "--skip-models", "--port", "0", "--bootstrap-servers", "127.0.0.1:1"]
    result = assay(*command, "--business-rules", "rules.yaml")
    (finding,) = [one for one in json.loads(result.stdout)["findings"] if one["check"] == "business rules"]
    assert finding["verdict"] == verdict
    assert found in finding["found"]
    assert "business rules" not in assay(*command).stdout
