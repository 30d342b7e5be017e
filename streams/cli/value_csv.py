"""The register of data assets for a spreadsheet or a data frame: plain numbers in full, one column a figure, empty where there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from models.valuation.appraisal import AGE, OVERALL
from models.valuation.asset_register import Ageing, AssetEntry
from schemas.valuation import AdjustedMargin, Completeness, IncrementalMargin, IncrementalSplit, ValueRegister

_FIRST: Final = (
    "window", "dimension", "asset", "sessions", "tests", "insufficient", "points_per_test", "points_per_test_low", "points_per_test_high",
    "share_of_lift", "player_per_test", "leave_one_out_per_test", "random_per_test", "points_per_1k_sessions", "late_share",
    *(f"complete_{name}" for name in Completeness.model_fields),
)  # fmt: skip
_LAST: Final = ("no_net", "action", "reason")


def csv_of(
    window: str, sections: Sequence[tuple[ValueRegister, Sequence[AssetEntry]]], aged: Ageing | None, caused: Sequence[IncrementalMargin]
) -> str:
    """A line for each asset of each dimension. Points are utility per test (1.0 is what the report prints as 100), shares are 0 to 1.

    Money has a column for each amount that any asset has: ``attributable_GBP_margin`` with its ``_low``, ``_high`` and
    ``_modelled_fraction``, ``attributable_GBP_revenue``, ``attributable_GBP_clicks`` (modelled, and no
    money that came in), ``cost_GBP``, ``net_GBP``, and ``incremental_`` with the experiment's name,
    if it has one, before the same units. ``no_net`` says in words why there is a cost and no net.

    What is of no asset stands in lines of its own, whose ``asset`` is empty: of ``age_bucket``, ``half_life_days``, ``present_value_days``
    and ``discount_rate``, with the reason where there is no half-life; of ``overall`` in the window ``total``, what hold-outs say was
    caused, ``caused_`` before the same names, with ``_low``, ``_high``, ``_always_valid_low``, ``_always_valid_high``, ``_treated``,
    ``_held_out`` and of margin ``_modelled_fraction``, and adjusted (CUPED) with ``_adjusted`` before such ends.
    """
    rows = [_row(window, register, entry) for register, found in sections for entry in found]
    rows += [] if aged is None else [_ageing_row(window, aged)]
    rows += [_caused_row(caused)] if caused else []
    amounts = sorted({name for row in rows for name in row} - {*_FIRST, *_LAST})
    sink = io.StringIO()
    writer = csv.DictWriter(sink, (*_FIRST, *amounts, *_LAST), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().rstrip("\n")


def _row(window: str, register: ValueRegister, entry: AssetEntry) -> dict[str, object]:
    value = register.assets[entry.asset]
    row: dict[str, object] = {
        "window": window, "dimension": register.dimension, "asset": entry.asset, "sessions": entry.rows, "tests": value.tests,
        "insufficient": str(value.insufficient).lower(), "points_per_test": entry.points, "points_per_test_low": entry.low,
        "points_per_test_high": entry.high, "share_of_lift": entry.share, "player_per_test": entry.player,
        "leave_one_out_per_test": entry.leave_one_out, "random_per_test": entry.random, "points_per_1k_sessions": entry.per_1k_rows,
        "late_share": entry.late, "no_net": entry.no_net or None, "action": entry.action, "reason": entry.reason,
    }  # fmt: skip
    if entry.completeness is not None:
        row |= {f"complete_{name}": share for name, share in entry.completeness.model_dump().items()}
    for money in value.money:
        name = f"attributable_{money.currency}_{money.basis}"
        row |= {name: money.attributable, f"{name}_low": money.low, f"{name}_high": money.high}
        if money.basis != "revenue":
            row[f"{name}_modelled_fraction"] = money.modelled_fraction
    row |= {f"cost_{currency}": amount for currency, amount in entry.cost.items()}
    row |= {f"net_{currency}": amount for currency, amount in entry.net.items()}
    for part in register.incremental_split or ():
        if entry.asset in part.parts:
            row[f"incremental_{_name(part)}"] = f"{part.parts[entry.asset]:f}"
    return row


def _name(found: IncrementalMargin | IncrementalSplit) -> str:
    return f"{found.experiment}_{found.currency}_{found.basis}" if found.experiment else f"{found.currency}_{found.basis}"


def _ageing_row(window: str, aged: Ageing) -> dict[str, object]:
    return {
        "window": window, "dimension": AGE, "half_life_days": aged.half_life_days, "present_value_days": aged.present_value_days,
        "discount_rate": aged.discount_rate, "reason": aged.reason or None,
    }  # fmt: skip


def _caused_row(caused: Sequence[IncrementalMargin]) -> dict[str, object]:
    row: dict[str, object] = {"window": "total", "dimension": OVERALL}
    for found in caused:
        name = f"caused_{_name(found)}"
        row |= _estimate(name, found) | {f"{name}_treated": found.treated, f"{name}_held_out": found.held_out}
        if found.basis == "margin":
            row[f"{name}_modelled_fraction"] = found.modelled_fraction
        if found.adjusted is not None:
            row |= _estimate(f"{name}_adjusted", found.adjusted)
            row[f"{name}_adjusted_variance_reduction"] = found.adjusted.variance_reduction
    return row


def _estimate(name: str, found: IncrementalMargin | AdjustedMargin) -> dict[str, object]:
    return {
        name: found.amount, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_always_valid_low": found.always_valid_low,
        f"{name}_always_valid_high": found.always_valid_high,
    }  # fmt: skip
