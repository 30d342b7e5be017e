"""``assay experiment``: what a hold-out, or a comparison of two sets of weights, has shown so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Final

import click
import msgspec
import orjson

from models.experiments.exposures import ExposureLog
from models.experiments.report import compare
from models.experiments.sequential import ConfidenceSequence
from models.valuation.margins import MarginShares
from models.valuation.messages import OutcomeMessage, milliseconds
from models.valuation.money import EXACT, MARGIN, MODELLED, ZERO, amounts_of, modelled_fraction
from schemas.currency import CURRENCIES
from schemas.topics import OUTCOMES
from streams.agents.arms import Arms
from streams.agents.yardsticks import rules_of
from streams.cli.options import EXIT_OTHER, raise_usage, settings_options, stop_on_broker_trouble
from streams.reading import TopicReader
from streams.runtime.errors import ValuationWrong
from streams.settings import Settings

#: Sums of money of the report, by what follows the currency in their names in ``amounts_of``.
_SUMS: Final = {"": "revenue", MARGIN: "margin", MODELLED: "modelled"}


class _Outcome(OutcomeMessage, tag_field="kind", tag="outcome"):
    """With what only this report reads of ``schemas.internal.Outcome``."""

    recommendation_id: str | None = None


_OUTCOME: Final = msgspec.json.Decoder(_Outcome)


@click.group()
def command() -> None:
    """What randomised arms have shown: the only figures that say what recommendations caused."""


def _currency(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    """Raises ``BadParameter`` for what no outcome can name: all amounts would be left out, and the report say 0."""
    if value not in CURRENCIES:
        raise click.BadParameter(f"{value!r} is no ISO 4217 code in capitals, such as GBP")
    return value


@command.command(
    epilog="""Examples:

\b
  assay experiment report --currency GBP                              # everything that outcomes still holds
  assay experiment report --currency GBP --since 2026-03-01T00:00:00Z # what came before is the covariate (CUPED)
"""
)
@click.option(
    "--currency", required=True, callback=_currency,
    help="Purchases less refunds are counted in this one (an ISO 4217 code, such as GBP); amounts of others are left out.",
)  # fmt: skip
@click.option("--since", help="Begin of the experiment (ISO 8601, with a zone). Money of before narrows the intervals.")
@click.option("--until", help="Only shoppers first seen before this count: a week ago, where what they do goes on for a week.")
@click.option("--control", help="The arm to compare with.  [default: holdout where there is one, else control]")
@click.option("--treated", help="The arm that is compared.  [default: treated where there is one, else treatment]")
@click.option(
    "--expected-users", type=click.IntRange(min=1), default=10_000, show_default=True, help="Where the always-valid interval is narrowest."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of Markdown.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file instead of the screen.")
@settings_options("bootstrap_servers", "topic_prefix", "app_id", "margin_shares")
def report(
    *,
    settings: Settings,
    currency: str,
    since: str | None,
    until: str | None,
    control: str | None,
    treated: str | None,
    expected_users: int,
    as_json: bool,
    output: Path | None,
) -> None:
    """Compare two arms by what their shoppers did: conversion, clicks per list, margin per shopper, and beside it the revenue per shopper
    of purchases of which no margin is known.

    A margin is known where the catalogue named it when the purchase came, or --margin-shares says what share of revenue it is: give the
    value workers' file.

    The arms are those of the settings (--holdout-share, --experiment-salt, --treatment-weights), and of the topic outcomes, which names
    every outcome's arm and experiment: what shoppers did under another salt or other shares is left out. Each difference has two intervals:
    one for who looks once, at the end, and one that holds at any time.
    """
    experiment = Arms(settings).experiment
    if experiment is None:
        raise_usage("these settings draw no arms: set --holdout-share (ASSAY_HOLDOUT_SHARE), or --treatment-weights, as the workers do")
    names = [name for name, share in experiment.arms.items() if share]
    control = control or names[0]
    treated = treated or names[-1]
    for name in (control, treated):
        if name not in experiment.arms:
            raise_usage(f"there is no arm {name}; these settings draw {', '.join(names)}")
    since_ms, until_ms = _instant(since, "--since") or 0, _instant(until, "--until")
    try:
        shares = rules_of(settings).margins
    except ValuationWrong as error:
        raise_usage(str(error))
    with stop_on_broker_trouble(), TopicReader(settings, [settings.topic(OUTCOMES.name)]) as reader:
        log = exposures((record.value() for record in reader.to_end()), currency, since_ms, experiment.identity, shares)
    comparison = compare(log, experiment, control, treated, ConfidenceSequence(expected_users), until_ms=until_ms)
    modelled = _modelled(log, (control, treated), until_ms)
    text = orjson.dumps(asdict(comparison) | {"modelled_fraction": modelled}).decode() if as_json else comparison.markdown()
    if modelled and not as_json:
        text += f"- margin per user: {modelled:.0%} of the margin is modelled.\n"
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
    if not sum(comparison.users.values()):
        click.echo(f"no outcome of {settings.topic(OUTCOMES.name)} names an arm yet", err=True)
        raise SystemExit(EXIT_OTHER)


def _instant(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return milliseconds(at)
    except (ValueError, TypeError):
        raise_usage(f"{option} {text!r} is no time with a zone, such as 2026-03-01T00:00:00Z")


def exposures(
    values: Iterable[bytes | None], currency: str, since_ms: int, experiment: str | None = None, shares: MarginShares | None = None
) -> ExposureLog:
    """Shoppers by arm, from the records of ``outcomes``: what they did from ``since_ms`` on, and what they brought before as covariates.
    Outcomes that name another experiment than ``experiment`` (``Experiment.identity``) are left out.

    What they brought is in two sums, as in the books of the value worker: ``margin`` where it was told or ``shares`` model it (then in
    ``modelled``, too), else ``revenue``.

    A shopper is exposed from the first outcome on that names an arm, whether or not a list was seen: to leave out those who saw none
    would compare people who chose differently. Purchases count once each, less what came back; records that are no outcomes do not.
    Lists are those that stood when their shopper next acted, each once, whatever was done with it.
    """
    shares = shares or MarginShares()
    log, before = ExposureLog(), dict[str, dict[str, Decimal]]()
    # Of each shopper the list that was counted last. All outcomes of a shopper come in order, from one partition, and a list that another
    # followed is never the newest again: so one is enough to know those that were counted, and there are no more of them than shoppers.
    newest = dict[str, str]()
    for value in values:
        try:
            message = _OUTCOME.decode(value or b"")
        except msgspec.DecodeError:
            continue
        if not message.consent:
            continue
        at_ms, shopper = milliseconds(message.occurred_at), message.shopper
        money = _money_of(message, currency, shares)
        if at_ms < since_ms:
            # What was spent in an arm is the arm's doing, and no covariate.
            if message.arm is None and money:
                past = before.setdefault(shopper, {})
                past.update({basis: EXACT.add(past.get(basis, ZERO), amount) for basis, amount in money.items()})
            continue
        if message.arm is None or message.experiment not in (None, experiment):
            continue
        log.expose(shopper, message.arm, at_ms, before.get(shopper))
        for basis, amount in money.items():
            log.add(shopper, basis, amount)
        log.add(shopper, "purchases", int(message.type == "purchase"))
        shown = message.recommendation_id if message.list_size else None
        if shown is not None and newest.get(shopper) != shown:
            newest[shopper] = shown
            log.add(shopper, "lists")
        log.add(shopper, "clicks", int(message.type == "click" and message.attributed))
    return log


def _money_of(message: OutcomeMessage, currency: str, shares: MarginShares) -> dict[str, Decimal]:
    """What the outcome adds to which sums, if it is of ``currency``."""
    if message.currency != currency or message.revenue is None:
        return {}
    amounts = amounts_of(currency, message.revenue, shares.margin(message.revenue, message.margin, message.category))
    return {_SUMS[name.removeprefix(currency)]: amount for name, amount in amounts.items()}


def _modelled(log: ExposureLog, arms: Iterable[str], until_ms: int | None) -> float | None:
    """How much of the margin of the arms is modelled, 0 to 1, as in the register's ``incremental``; None where there is no margin."""
    users = [sums for arm in arms for sums in log.arm(arm, until_ms).by_metric if "margin" in sums]
    margin, modelled = (reduce(EXACT.add, (sums.get(name, ZERO) for sums in users), ZERO) for name in ("margin", "modelled"))
    return modelled_fraction("", "margin", {MARGIN: margin, MODELLED: modelled}) if users else None
