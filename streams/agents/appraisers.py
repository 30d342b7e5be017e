"""What a window of rows makes of what happened, by either kind of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from models.catalog.catalogue import Catalogue
from models.valuation import UNCATEGORISED
from models.valuation.appraisal import Appraiser, Happening, RowAppraiser, Rules
from models.valuation.arms import HOLDOUT
from models.valuation.margins import MarginShares
from models.valuation.messages import ForgottenMessage, OutcomeMessage, ResolutionMessage, ShownMessage, shown_items
from models.valuation.shown_appraisal import Placement, Receipt, ShownAppraiser, ShownItem
from streams.agents.sources import Message

#: Finds the vector of a SKU, None where it has none.
PlacementOf: TypeAlias = Callable[[str], Placement | None]


def appraiser_of(rules: Rules, placement_of: PlacementOf | None = None) -> RowAppraiser:
    """An empty window. Raises ``ValueError`` where rows are items shown and nothing says where they stand."""
    if rules.neighbours == "sessions":
        return Appraiser(rules)
    if placement_of is None:
        raise ValueError("items shown are near by their vectors: placement_of must find them")
    appraiser = ShownAppraiser(rules)
    appraiser.placement_of = placement_of
    return appraiser


def placements(catalogue: Catalogue) -> PlacementOf:
    """The vectors that ``catalogue`` serves."""

    def find(sku: str) -> Placement | None:
        row, table = catalogue.table.row(sku), catalogue.table
        if row < 0 or not table.has_vector[row] or catalogue.encoder is None:
            return None
        return Placement(catalogue.encoder, table.vectors[row])

    return find


def value_source(appraiser: RowAppraiser, offset: int, at_ms: int, message: Message, *, closes: bool = False) -> None:
    """What the window makes of one record. Of shoppers who agree to no history it keeps nothing. ``closes``: whether it
    closed the books of an experiment.
    """
    if closes:
        appraiser.witness(offset, at_ms)
    if isinstance(message, ForgottenMessage):
        for shopper in message.shoppers:
            appraiser.erase(shopper)
    elif isinstance(message, OutcomeMessage) and not message.consent:
        appraiser.erase(message.shopper)
    elif isinstance(message, OutcomeMessage):
        if message.arm is not None:
            appraiser.witness(offset, at_ms)
        if message.sku is not None and isinstance(appraiser, Appraiser):
            appraiser.take(offset, happening_of(at_ms, message, message.sku, appraiser.rules.margins))
    elif isinstance(message, ResolutionMessage) and isinstance(appraiser, ShownAppraiser):
        learn = appraiser.take if message.corrects is None else appraiser.correct
        for item in shown_items(message):
            learn(offset, shown_item_of(at_ms, message, item, appraiser.rules.margins))


def happening_of(at_ms: int, message: OutcomeMessage, sku: str, shares: MarginShares) -> Happening:
    """An outcome with an item, as the window of past sessions takes it. Who is held out teaches, and is foretold nothing. A purchase that
    no recommendation is credited with brought nothing that could be shared out, but may be refunded.
    """
    names = (message.channel, message.type, message.category or UNCATEGORISED, message.country, message.segment)
    revenue = message.revenue
    margin = None if revenue is None else shares.margin(revenue, message.margin, message.category)
    return Happening(
        at_ms, message.type, message.shopper, sku, names, revenue, message.currency, message.arm != HOLDOUT, margin, message.attributed
    )


def shown_item_of(at_ms: int, message: ResolutionMessage, item: ShownMessage, shares: MarginShares) -> ShownItem:
    """An item shown, as the window takes it: as what kind of event it counts, what became of it."""
    # Records of before they named the channel name no categories either, whatever products had.
    category = item.category or (None if message.channel is None else UNCATEGORISED)
    names = (message.channel, item.result, category, message.country, message.segment)
    receipts = [
        Receipt(sale.revenue, sale.currency, shares.margin(sale.revenue, sale.margin, item.category)) for sale in item.sales if sale.revenue
    ]
    shown = message.corrects or message.resolution_id
    return ShownItem(at_ms, message.shopper, shown, item.sku, item.result, names, receipts, message.arm != HOLDOUT)
