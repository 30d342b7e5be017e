"""Rolling numbers recomputed from a list of outcomes, the slow and obvious way: what the value role is held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from schemas.internal import Exposure, Outcome

SECOND = 1_000
WINDOW_SECONDS = {"1m": (60, 1), "5m": (60, 5), "1h": (60, 60), "24h": (3600, 24), "7d": (3600, 168)}
TESTED = {"browse", "click", "add_to_cart", "purchase"}


@dataclass(frozen=True)
class Logged:
    """A record of the outcomes topic."""

    partition: int
    offset: int
    message: Outcome | Exposure


def ms(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def assets_of(outcome: Outcome) -> set[tuple[str, str]]:
    pairs = {("overall", "all"), ("channel", outcome.channel), ("event_type", outcome.type)}
    pairs.add(("category", outcome.category or "uncategorised"))
    return pairs | {(name, value) for name, value in (("country", outcome.country), ("segment", outcome.segment)) if value}


def watermark_of(log: Sequence[Logged]) -> int:
    return max(ms(entry.message.occurred_at) for entry in log)


def in_window(at_ms: int, window: str | int, watermark_ms: int) -> bool:
    if window == "total":
        return True
    if isinstance(window, int):
        return window <= at_ms < window + 60 * SECOND
    length, panes = WINDOW_SECONDS[window]
    end = (watermark_ms // (length * SECOND) + 1) * length * SECOND
    return end - panes * length * SECOND <= at_ms < end


def late_entries(log: Sequence[Logged]) -> set[tuple[int, int]]:
    """Outcomes more than five minutes behind the latest outcome before them in their partition."""
    late = set()
    watermarks: dict[int, int] = {}
    for entry in sorted(log, key=lambda e: (e.partition, e.offset)):
        if not isinstance(entry.message, Outcome):
            continue
        at = ms(entry.message.occurred_at)
        if at < watermarks.get(entry.partition, 0) - 300 * SECOND:
            late.add((entry.partition, entry.offset))
        watermarks[entry.partition] = max(watermarks.get(entry.partition, 0), at)
    return late


def score(ranks: Sequence[int | None], metric: str, k: int) -> float:
    gains = {"hit_rate": lambda r: 1.0, "mrr": lambda r: 1 / r, "ndcg": lambda r: 1 / math.log2(r + 1)}
    return math.fsum(gains[metric](r) for r in ranks if r and r <= k) / len(ranks)


def expected(log: Sequence[Logged], dimension: str, asset: str, window: str | int) -> dict[str, Any]:
    """The facts of one rolling record: counts exactly, money exactly, scores as floats, distinct items as a set.

    ``window``: its name, or the start (ms) of one minute.
    """
    watermark = watermark_of(log)
    inside = [e for e in log if in_window(ms(e.message.occurred_at), window, watermark)]
    mine = [(e, e.message) for e in inside if isinstance(e.message, Outcome) and (dimension, asset) in assets_of(e.message)]
    exposed = [(e, e.message) for e in inside if isinstance(e.message, Exposure) and dimension == "overall"]
    outcomes = [outcome for _, outcome in mine]
    shown = [o for o in outcomes if o.arm != "holdout"]
    tests = [o for o in shown if o.list_size and o.sku and o.type in TESTED]
    late = late_entries(log)
    money: dict[str, list[Decimal]] = {}
    for o in outcomes:
        if o.revenue is not None and o.currency is not None:
            sums = money.setdefault(o.currency, [Decimal(0)] * 3)
            sums[0] += max(o.revenue, Decimal(0))
            sums[1] += max(-o.revenue, Decimal(0))
            sums[2] += o.revenue if o.attributed and o.arm != "holdout" and o.revenue > 0 else 0
    offsets: dict[int, tuple[int, int]] = {}
    for e, _ in [*mine, *exposed]:
        low, high = offsets.get(e.partition, (e.offset, e.offset))
        offsets[e.partition] = (min(low, e.offset), max(high, e.offset))
    return {
        "events": len(outcomes),
        "tests": len(tests),
        "late": sum((e.partition, e.offset) in late for e, _ in mine),
        "by_type": {t: n for t in {o.type for o in outcomes} if (n := sum(o.type == t for o in outcomes))},
        "clicks": sum(o.type == "click" and (o.rank is not None or o.attributed) for o in shown),
        "conversions": sum(o.type == "purchase" and o.attributed for o in shown),
        "money": money,
        "offsets": offsets,
        "scores": {
            (metric, k, field): score([getattr(o, field) for o in tests], metric, k)
            for metric in ("hit_rate", "mrr", "ndcg")
            for k in (5, 10, 20)
            for field in ("rank", "popularity_rank", "rank_after")
        }
        if tests
        else {},
        "items": {sku for _, exposure in exposed for sku in exposure.skus},
    }
