"""The register of data assets for a spreadsheet or a data frame: plain numbers in full, one column a figure, empty where there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Final

from models.valuation.asset_register import AssetEntry
from schemas.valuation import ValueRegister

_FIRST: Final = (
    "window", "dimension", "asset", "sessions", "tests", "insufficient", "points_per_test", "points_per_test_low", "points_per_test_high",
    "share_of_lift", "player_per_test", "leave_one_out_per_test", "random_per_test", "points_per_1k_sessions", "late_share",
)  # fmt: skip
_LAST: Final = ("no_net", "action", "reason")


def csv_of(window: str, sections: Sequence[tuple[ValueRegister, Sequence[AssetEntry]]]) -> str:
    """A line for each asset of each dimension. Points are utility per test (1.0 is what the report prints as 100), shares are 0 to 1.

    Money has a column for each amount that any asset has: ``attributable_GBP_margin`` with its ``_low``, ``_high`` and
    ``_modelled_fraction``, ``attributable_GBP_revenue``, ``attributable_GBP_clicks`` (modelled, and no
    money that came in), ``cost_GBP``, ``net_GBP``, and ``incremental_`` with the experiment's name,
    if it has one, before the same units. ``no_net`` says in words why there is a cost and no net.
    """
    rows = [_row(window, register, entry) for register, found in sections for entry in found]
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
    for money in value.money:
        name = f"attributable_{money.currency}_{money.basis}"
        row |= {name: money.attributable, f"{name}_low": money.low, f"{name}_high": money.high}
        if money.basis != "revenue":
            row[f"{name}_modelled_fraction"] = money.modelled_fraction
    row |= {f"cost_{currency}": amount for currency, amount in entry.cost.items()}
    row |= {f"net_{currency}": amount for currency, amount in entry.net.items()}
    for part in register.incremental_split or ():
        if entry.asset in part.parts:
            experiment = f"{part.experiment}_" if part.experiment else ""
            row[f"incremental_{experiment}{part.currency}_{part.basis}"] = f"{part.parts[entry.asset]:f}"
    return row
