"""What happened, counted by asset and pane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from models.metrics import CatalogueCoverage
from models.valuation import ALL, TOTAL, UNCATEGORISED, AssetNumbers, OutcomeRow, PaneId, PaneSums, pane_start, tally
from models.valuation.arms import HOLDOUT
from models.valuation.messages import ExposureMessage, ForgottenMessage, OutcomeMessage, ResolutionMessage
from models.valuation.panes import HOUR_S, MINUTE_S
from streams.agents.sources import Source


class Meta(msgspec.Struct):
    """What a partition knows beside what it has counted.

    ``watermark_ms``: largest outcome time; ``ring_ms``: largest time, of exposures too; ``emitted_ms``, ``emitted_ring_ms``:
    wall clock and ``ring_ms`` at the last emission; ``served``: the newest exposure. ``neighbours``: by which it was valued.
    """

    watermark_ms: int = 0
    ring_ms: int = 0
    emitted_ms: int = 0
    emitted_ring_ms: int = 0
    served: tuple[int, str, str, int] | None = None
    neighbours: Literal["sessions", "embeddings"] = "sessions"


def sums_of(sources: Iterable[Source], meta: Meta, assets: AssetNumbers) -> tuple[dict[tuple[int, PaneId], PaneSums], Meta]:
    """The batch alone, by asset and pane, and what the partition then knows. Numbers new assets in ``assets``."""
    rows: list[OutcomeRow] = []
    exposures: list[tuple[int, int, ExposureMessage]] = []
    combinations: dict[tuple[str, str, str | None, str | None, str | None], tuple[int, ...]] = {}
    for offset, at_ms, message in sources:
        if isinstance(message, ExposureMessage):
            exposures.append((offset, at_ms, message))
            continue
        if isinstance(message, ForgottenMessage | ResolutionMessage):
            continue
        # Who is held out was shown what is popular: nothing of ours to be judged by, nor to be credited.
        shown = message.arm != HOLDOUT
        combination = (message.channel, message.type, message.category, message.country, message.segment)
        if combination not in combinations:
            combinations[combination] = _asset_numbers(message, assets)
        rows.append(
            OutcomeRow(
                offset,
                at_ms,
                message.type,
                combinations[combination],
                shown and message.list_size > 0 and message.sku is not None,
                (message.rank or 0) if shown else 0,
                message.rank_after or 0,
                message.popularity_rank or 0,
                shown and message.attributed,
                message.revenue,
                message.currency,
                _named(message),
            )
        )

    served = max((at, m.encoder, m.model, m.catalogue_size) for _, at, m in exposures) if exposures else None
    ring_ms = max([meta.ring_ms, *(at for _, at, _ in exposures)])
    watermark_ms = meta.watermark_ms
    sums: dict[tuple[int, PaneId], PaneSums] = {}
    if rows:
        result = tally(rows, watermark_ms)
        sums, watermark_ms = result.sums, result.watermark_ms
    ring_ms = max(ring_ms, watermark_ms)
    overall = assets.number("overall", ALL)
    for offset, at_ms, message in exposures:
        _add_exposure(sums, overall, offset, at_ms, message)
    if served and (meta.served is None or served > meta.served):
        meta = msgspec.structs.replace(meta, served=served)
    return sums, msgspec.structs.replace(meta, watermark_ms=watermark_ms, ring_ms=ring_ms)


def _named(message: OutcomeMessage) -> tuple[bool, ...]:
    """Which of ``sums.NAMED_FIELDS`` an outcome has; a margin is asked of purchases."""
    margin = message.type == "purchase" and message.margin is not None
    return message.category is not None, message.country is not None, message.segment is not None, margin


def _asset_numbers(message: OutcomeMessage, assets: AssetNumbers) -> tuple[int, ...]:
    """The numbers of the assets that an outcome belongs to, one a dimension that it names."""
    named = (
        ("overall", ALL),
        ("channel", message.channel),
        ("event_type", message.type),
        ("category", message.category or UNCATEGORISED),
        ("country", message.country),
        ("segment", message.segment),
    )
    return tuple(assets.number(dimension, asset) for dimension, asset in named if asset is not None)


def _add_exposure(sums: dict[tuple[int, PaneId], PaneSums], overall: int, offset: int, at_ms: int, message: ExposureMessage) -> None:
    items = CatalogueCoverage().update(message.skus).to_bytes()
    part = PaneSums(
        items=items,
        offset_low=offset,
        offset_high=offset,
        first_ms=at_ms,
        served=(at_ms, message.encoder, message.model, message.catalogue_size),
    )
    for pane in (PaneId(MINUTE_S, pane_start(at_ms, MINUTE_S)), PaneId(HOUR_S, pane_start(at_ms, HOUR_S)), TOTAL):
        known = sums.get((overall, pane))
        sums[overall, pane] = PaneSums.merged([known, part]) if known else part
