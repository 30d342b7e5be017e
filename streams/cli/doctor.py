"""``assay doctor``: what is wrong, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator

import click
import orjson

from streams.cli import checks
from streams.cli.checks import Finding
from streams.cli.options import EXIT_OTHER, settings_options
from streams.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    epilog="""Examples:

\b
  assay doctor
  assay doctor --bootstrap-servers kafka-1:9092 --data-dir /var/lib/assay
  assay doctor --json | jq '.findings[] | select(.verdict != "ok")'

Exit codes: 0 nothing is wrong (warnings allowed), 1 something is.
"""
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object: verdict and findings {check, verdict, found, mend}.")
@click.option("--skip-models", is_flag=True, help="Leave out encoder, index and GPU, which take seconds to load.")
@settings_options()
def command(*, settings: Settings, as_json: bool, skip_models: bool) -> None:
    """Check environment, broker, topics, keys, clock, data dir, limits, business rules, GPU, encoder and index.

    Takes the flags of `assay worker`, so that a worker's command line can be examined before it runs.
    """
    findings = []
    for finding in _findings(settings, skip_models):
        findings.append(finding)
        if not as_json:
            _show(finding)
    worst = checks.verdict(findings)
    if as_json:
        fields = {"verdict": worst, "findings": [finding.as_fields() for finding in findings]}
        click.echo(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
    if worst == "fail":
        raise SystemExit(EXIT_OTHER)


def _findings(settings: Settings, skip_models: bool) -> Iterator[Finding]:
    looked_at = [checks.environment, checks.broker, checks.data_dir, checks.limits, checks.api_port, checks.business_rules]
    if not skip_models:
        from streams.cli import model_checks

        looked_at += [model_checks.gpu, model_checks.encoder, model_checks.index]
    for check in looked_at:
        yield from checks.run(check, settings)


def _show(finding: Finding) -> None:
    mark = click.style(f"{finding.verdict:<4}", fg=_COLOURS[finding.verdict], bold=True)
    click.echo(f"{mark}  {finding.check:<12} {finding.found}")
    if finding.mend:
        click.echo(f"{'':<19}-> {finding.mend}")
