import json

import pytest

from streams.settings import Settings


def shown(assay, *arguments):
    result = assay("config", "show", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_each_value_names_its_source_and_flags_beat_environment_beats_file(assay, tmp_path, monkeypatch):
    (tmp_path / "assay.toml").write_text('k = 7\npartitions = 6\nencoder = "my-model"\n')
    monkeypatch.setenv("ASSAY_K", "8")
    monkeypatch.setenv("ASSAY_PARTITIONS", "5")
    settings = shown(assay, "--k", "9")["settings"]
    assert (settings["k"]["value"], settings["k"]["source"]) == (9, "flag")
    assert (settings["partitions"]["value"], settings["partitions"]["source"]) == (5, "env ASSAY_PARTITIONS")
    assert (settings["encoder"]["value"], settings["encoder"]["source"]) == ("my-model", "file assay.toml")
    assert settings["host"]["source"] == "default"
    assert set(settings) == set(Settings.model_fields)


def test_secrets_are_masked_everywhere(assay, monkeypatch):
    monkeypatch.setenv("ASSAY_API_KEY", "hush-hush")
    monkeypatch.setenv("ASSAY_SASL_PASSWORD", "open-sesame")
    for output in (json.dumps(shown(assay)), assay("config", "show").output):
        assert "hush-hush" not in output
        assert "open-sesame" not in output
        assert "********" in output


def test_a_variable_that_names_no_setting_is_pointed_out(assay, monkeypatch):
    monkeypatch.setenv("ASSAY_BOOTSTRAP_SERVER", "typo:9092")
    assert shown(assay)["unread"] == ["ASSAY_BOOTSTRAP_SERVER"]
    assert "ASSAY_BOOTSTRAP_SERVER is set, but names no setting" in assay("config", "show").stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("k = 0\n", "k: Input should be greater than or equal to 1"),
        ("kk = 3\n", "kk: there is no such setting"),
        ("k = [\n", "not valid TOML"),
        ("session_gap_s = inf\n", "session_gap_s: Input should be a finite number"),
        ("holdout_share = 0.6\n", "holdout_share: Input should be less than or equal to 0.5"),
        ('experiment_salt = ""\n', "experiment_salt: String should have at least 1 character"),
        ("session_timeout_s = 1e300\n", "session_timeout_s: Input should be less than or equal to 1800"),
        ("encoder = '\xe9'\n", "not UTF-8"),
    ],
)
def test_a_wrong_file_stops_with_one_message_and_exit_code_2(assay, tmp_path, text, complaint):
    (tmp_path / "assay.toml").write_text(text, encoding="latin-1")
    result = assay("config", "show")
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.output


def test_every_fault_is_listed_with_the_ways_to_set_it(assay):
    result = assay("config", "show", "--k", "many", "--port", "70000")
    assert result.exit_code == 2
    assert "--k, ASSAY_K or k in assay.toml" in result.stderr
    assert "port: Input should be less than or equal to 65535" in result.stderr


def test_a_wrong_secret_is_not_repeated_in_the_message(assay, tmp_path):
    (tmp_path / "assay.toml").write_text("api_key = 12345\n")
    result = assay("config", "show")
    assert result.exit_code == 2
    assert "api_key" in result.stderr
    assert "12345" not in result.stderr


def test_a_configuration_file_that_is_not_there_is_an_error_not_a_default(assay, monkeypatch, tmp_path):
    monkeypatch.setenv("ASSAY_CONFIG", str(tmp_path / "missing.toml"))
    result = assay("config", "show")
    assert result.exit_code == 2
    assert "missing.toml" in result.stderr
