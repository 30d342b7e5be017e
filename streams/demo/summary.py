"""The end of a demo: one JSON object for programs, a few lines for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streams.demo.readings import Figures

_CUTOFF = "20"


@dataclass(frozen=True, slots=True)
class Summary:
    """``events`` were sent and applied in ``seconds``; the rest is what the topics say (``figures``)."""

    events: int
    seconds: float
    figures: Figures

    @property
    def unaccounted(self) -> int:
        """Events that are neither counted by valuation nor among the dead letters; 0 unless the run was cut short."""
        return self.events - self.figures.outcomes - self.figures.dead_letters.total()

    def as_json(self) -> dict[str, Any]:
        """Amounts are decimal strings; scores are None before there was anything to judge."""
        total = self.figures.total
        lift = None if total is None else total.lift
        currency, revenue, refunds, attributable = self.figures.money()
        scores: dict[str, float | None] = {}
        for name in ("hit_rate", "mrr", "ndcg"):
            scores[f"{name}_at_20"] = None if lift is None else getattr(lift, name)[_CUTOFF]
            scores[f"popularity_{name}_at_20"] = None if lift is None else getattr(lift.popularity, name)[_CUTOFF]
        return {
            "events": self.events,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events / self.seconds, 1) if self.seconds else 0.0,
            "recommendations": self.figures.recommendations,
            "tests": 0 if total is None else total.tests,
            **scores,
            "dead_letters": dict(sorted(self.figures.dead_letters.items())),
            "revenue": str(revenue),
            "refunds": str(refunds),
            "attributable_revenue": str(attributable),
            "currency": currency,
            "unaccounted": self.unaccounted,
        }

    def as_text(self) -> str:
        """The same for people."""
        f = self.as_json()
        lines = [
            f"{f['events']:,} events in {f['seconds']:.1f} s ({f['events_per_second']:,.0f}/s), "
            f"{f['recommendations']:,} lists of recommendations",
        ]
        if f["hit_rate_at_20"] is not None:
            lines.append(
                f"the next item was in the shopper's list of 20 in {f['hit_rate_at_20']:.1%} of {f['tests']:,} tests "
                f"(popularity: {f['popularity_hit_rate_at_20']:.1%}); MRR {f['mrr_at_20']:.3f} ({f['popularity_mrr_at_20']:.3f}), "
                f"NDCG {f['ndcg_at_20']:.3f} ({f['popularity_ndcg_at_20']:.3f})"
            )
        if f["currency"]:
            lines.append(
                f"{f['attributable_revenue']} of {f['revenue']} {f['currency']} revenue was of items in the list last shown; "
                f"{f['refunds']} refunded"
            )
        refused = ", ".join(f"{count} {code}" for code, count in f["dead_letters"].items())
        lines.append(f"{self.figures.dead_letters.total()} records refused{': ' + refused if refused else ''}")
        if self.unaccounted:
            lines.append(f"{self.unaccounted} events were not yet counted when the run was stopped")
        return "\n".join(lines)
