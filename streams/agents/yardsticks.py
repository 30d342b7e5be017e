"""By what data is valued, and what it costs: one yardstick a deployment."""

from __future__ import annotations

from models.valuation.appraisal import Rules
from models.valuation.costs import Costs, CostsError
from models.valuation.margins import ClickMargins, MarginsError, MarginShares
from streams.runtime.errors import ValuationWrong
from streams.settings import Settings


def rules_of(settings: Settings) -> Rules:
    """How tests are valued. Raises ``ValuationWrong`` where the settings name a file that does not say what it should."""
    try:
        margins = MarginShares() if settings.margin_shares is None else MarginShares.load(settings.margin_shares)
        clicks = ClickMargins() if settings.click_margins is None else ClickMargins.load(settings.click_margins)
    except MarginsError as error:
        raise ValuationWrong(str(error)) from error
    return Rules(
        gap_ms=round(settings.session_gap_s * 1000),
        margins=margins,
        neighbours=settings.value_neighbours,
        clicks=clicks,
        click_window_ms=round(settings.click_window_s * 1000),
    )


def costs_of(settings: Settings) -> Costs:
    """What data costs. Raises ``ValuationWrong`` where the settings name a file that does not say it."""
    try:
        return Costs() if settings.asset_costs is None else Costs.load(settings.asset_costs)
    except CostsError as error:
        raise ValuationWrong(str(error)) from error


def check_neighbours(what: str, neighbours: str, rules: Rules) -> None:
    """Raise ``ValuationWrong`` where ``what`` was valued by other ``neighbours`` than this worker's: sums of both say nothing."""
    if neighbours != rules.neighbours:
        raise ValuationWrong(
            f"{what} was valued with value_neighbours={neighbours}, and this worker has {rules.neighbours}: their sums do not add up. Give "
            "all value workers the same setting; to change it, or where both have been added up already, stop them all and begin anew with "
            "`assay reset --roles value --yes`"
        )
