"""By what data is valued: one yardstick a deployment."""

from __future__ import annotations

from models.valuation.appraisal import Rules
from streams.runtime.errors import ValuationWrong


def check_neighbours(what: str, neighbours: str, rules: Rules) -> None:
    """Raise ``ValuationWrong`` where ``what`` was valued by other ``neighbours`` than this worker's: sums of both say nothing."""
    if neighbours != rules.neighbours:
        raise ValuationWrong(
            f"{what} was valued with value_neighbours={neighbours}, and this worker has {rules.neighbours}: their sums do not add up. Give "
            "all value workers the same setting; to change it, or where both have been added up already, stop them all and begin anew with "
            "`assay reset --roles value --yes`"
        )
