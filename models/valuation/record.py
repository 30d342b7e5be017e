"""From the sums of a window to the rolling valuation record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from models.metrics import MRR, NDCG, CatalogueCoverage, FunnelCounts, HitRate, RankCounts
from models.valuation.costs import AssetCost
from models.valuation.health import health_of
from models.valuation.panes import WindowKind, kind_of
from models.valuation.sums import AFTER_RANKS, POPULARITY_RANKS, RANKS, PaneSums
from models.valuation.windows import WindowSums
from schemas.valuation import (
    CUTOFFS,
    AssetValue,
    AssetVersions,
    Completeness,
    Funnel,
    Lift,
    Lineage,
    MoneyFlow,
    Quality,
    RankingQuality,
    RollingValuation,
    Utility,
    Window,
)

Status = Literal["open", "final", "correction", "addition"]

#: What ``lift.utility`` and ``lift.baseline`` are.
UTILITY = Utility(name="hit_rate@20", k=20, metric="hit_rate")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rolling_record(
    dimension: str,
    asset: str,
    window: WindowSums,
    watermark_ms: int,
    status: Status = "open",
    source_topic: str = "outcomes",
    value: AssetValue | None = None,
    cost: AssetCost | None = None,
) -> RollingValuation:
    """One record of ``valuation.rolling``: scores when there were tests, money when there was any, lineage always.

    ``watermark_ms``: the largest event time known, in ms since the epoch. ``source_topic``: the topic that offsets refer to.
    ``value``: what the asset was worth, from the register. ``cost``: of a thousand of its events.
    """
    sums = window.sums
    funnel = sums.funnel()
    before = sums.ranks(RANKS)
    return RollingValuation(
        dimension=dimension,
        asset=asset,
        window=window_of(kind_of(window.name), window.start_ms, window.end_ms),
        status=status,
        watermark=instant(watermark_ms),
        versions=AssetVersions(encoder=window.served[1], model=window.served[2]) if window.served else AssetVersions(),
        utility=UTILITY if sums.tests else None,
        rows=funnel.events,
        tests=sums.tests,
        late=sums.late,
        value=value,
        lift=_lift(sums, before) if sums.tests else None,
        funnel=Funnel(events=funnel.events, clicks=funnel.clicks, conversions=funnel.conversions, by_type=funnel.by_type),
        money=tuple(
            MoneyFlow(currency=currency, revenue=takings.revenue, refunds=takings.refunds, attributable=takings.attributable)
            for currency, takings in sorted(sums.money.items())
        ),
        cost=None if cost is None else cost.of(funnel.events, () if value is None else value.money),
        health=health_of(before, sums.ranks(AFTER_RANKS)) if sums.tests else None,
        quality=_quality_of(sums, funnel) if funnel.events else None,
        lineage=lineage_of(window.offsets, source_topic),
    )


def window_of(kind: WindowKind, start_ms: int, end_ms: int) -> Window:
    """A window by its bounds in ms (end excluded)."""
    return Window(kind=kind, start=instant(start_ms), end=instant(end_ms), length=(end_ms - start_ms) // 1000)


def lineage_of(offsets: Mapping[int, tuple[int, int]], topic: str) -> tuple[Lineage, ...]:
    """What a record rests on: the first and the last offset by partition of ``topic``."""
    return tuple(Lineage(topic=topic, partition=partition, offset_low=low, offset_high=high) for partition, (low, high) in offsets.items())


def _quality_of(sums: PaneSums, funnel: FunnelCounts) -> Quality:
    named, purchases = sums.named, funnel.by_type.get("purchase", 0)
    category, country, segment = (named[field] / funnel.events for field in ("category", "country", "segment"))
    margin = named["margin"] / purchases if purchases else None
    return Quality(
        late_share=sums.late / funnel.events,
        completeness=Completeness(category=category, country=country, segment=segment, margin=margin),
    )


def _lift(sums: PaneSums, ranks: RankCounts) -> Lift:
    own = _quality(ranks)
    popularity = _quality(sums.ranks(POPULARITY_RANKS))
    size = sums.served[3] if sums.served else 0
    return Lift(
        utility=own.hit_rate[str(UTILITY.k)],
        baseline=popularity.hit_rate[str(UTILITY.k)],
        hit_rate=own.hit_rate,
        mrr=own.mrr,
        ndcg=own.ndcg,
        popularity=popularity,
        coverage=CatalogueCoverage(size, sums.items).get() if sums.items and size else None,
    )


def _quality(ranks: RankCounts) -> RankingQuality:
    return RankingQuality(
        hit_rate={str(k): HitRate(k, ranks).get() for k in CUTOFFS},
        mrr={str(k): MRR(k, ranks).get() for k in CUTOFFS},
        ndcg={str(k): NDCG(k, ranks).get() for k in CUTOFFS},
    )


def instant(ms: int) -> datetime:
    """A time in ms since the epoch, zoned; exact, where ``fromtimestamp`` goes through a float."""
    return _EPOCH + timedelta(milliseconds=ms)
