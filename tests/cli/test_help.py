import importlib

import click
import pytest

from streams.cli import COMMANDS, main
from streams.settings import Settings


def test_the_group_lists_every_command_and_says_what_exit_codes_mean(assay):
    result = assay("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.output
    assert "4  data dir taken by another worker" in result.output


@pytest.mark.parametrize(
    "name", ["config", "dead-letters", "demo", "doctor", "evaluate", "profiles", "reset", "rules", "tail", "value", "worker"]
)
def test_help_of_every_leaf_command_ends_with_examples(name):
    command = importlib.import_module(f"streams.cli.{name.replace('-', '_')}").command
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    for leaf in leaves:
        text = leaf.get_help(click.Context(leaf, info_name=name))
        assert f"  assay {name}" in text, f"{name} {leaf.name} shows no example"


def test_every_setting_but_the_secrets_is_a_flag_of_the_worker_with_its_meaning(assay):
    text = " ".join(assay("worker", "--help", terminal_width=400).output.split())
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if name in ("sasl_password", "api_key"):
            assert flag not in text
        else:
            assert flag in text
            assert field.description in text


def test_an_unknown_command_is_a_usage_error(assay):
    result = assay("frobnicate")
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_listing_commands_imports_none_of_them():
    context = click.Context(main)
    assert main.list_commands(context) == list(COMMANDS)
    assert main.get_command(context, "no-such-command") is None
