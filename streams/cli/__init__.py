"""The command ``assay``. Each sub-command is a module of this package with a click command named ``command``, imported when called."""

from __future__ import annotations

import importlib
from typing import Final

import click

#: name -> one-line help. Modules are imported only when their command runs: torch and FAISS take seconds to load.
COMMANDS: Final[dict[str, str]] = {
    "demo": "A simulated storefront, the whole pipeline and a live view, in one process.",
    "worker": "Run one or more roles: embed, recommend, value, serve.",
    "serve": "Answer recommendations over HTTP.",
    "broker": "Run a local Kafka: embedded, or a real one in KRaft mode.",
    "topics": "Create, check or reset the topics.",
    "schemas": "Export JSON Schema and AsyncAPI documents.",
    "config": "Show every setting in force and where it came from.",
    "doctor": "Check broker, topics, encoder, index, GPU and disk; say what mends what is wrong.",
    "replay": "Send a public data set or your own log through the event topic.",
    "tail": "Read a topic as a human would.",
    "dead-letters": "List refused records, or send mended ones again.",
    "profiles": "What is known of a shopper, from the changelog.",
    "reset": "Forget derived state and reprocess from a chosen point.",
    "rules": "Say what a file of business rules means or what is wrong with it; print an example.",
    "train": "Train what is not learned live: the ranker, the sequence model.",
    "tune": "Find the weights of the sources of lists, on a log of yours.",
    "evaluate": "Judge recommendations by a published protocol.",
    "value": "What data assets are worth: the register, its records made again, and the same computed from a log.",
    "experiment": "What a hold-out, or a comparison of two sets of weights, has shown so far.",
    "bench": "Measure against peers and baselines in the same run.",
}


class LazyGroup(click.Group):
    """A group whose commands are imported on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module behind ``cmd_name``."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"streams.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="""Start here:

\b
  assay demo                                    # needs no broker and no data

Against your own Kafka:

\b
  export ASSAY_BOOTSTRAP_SERVERS=kafka-1:9092   # or --bootstrap-servers, or assay.toml
  assay topics create                           # the table of topics, with checked settings
  assay worker --data-dir /var/lib/assay        # every role in one process; --roles splits them
  assay doctor                                  # what is wrong, and the command that mends it
  assay tail recommendations                    # what comes out

\b
Exit codes of every command:
  0  done, or stopped as asked
  1  the command found what it looked for to be wrong, or failed
  2  wrong configuration or usage
  3  broker unreachable; of commands other than worker and serve, also topics that are missing or wrong
  4  data dir taken by another worker, not writable or damaged
  5  a worker crashed or was stuck: start it again (--supervise does, and after 3 too, for as long as it takes)
  6  topics of a worker or the read API are missing, wrong, made anew or lost records, or a reset is unfinished: run what the message names
""",
)
@click.version_option(package_name="assay")
def main() -> None:
    """Assay: an event-streaming real-time recommender that keeps the books on its data.

    A storefront's events go in by Kafka; fresh recommendations with reasons, and what each data source is worth, come out.
    Every command has examples: `assay COMMAND --help`.
    """
