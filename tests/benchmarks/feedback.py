"""Does value feedback help where data does harm, and cost nothing where none does? A planted shop, told of by several channels.

Broken: the relay reports items drawn by chance, in visits of its own and in those of others (``models.simulation.sources``). Sound: the
same shop with a relay that tells the truth. The recommend worker's own code makes the lists, the value worker's own values outcomes;
beside lists without feedback stand those of a shop that never hears of the relay, which is what feedback could reach at best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from models.simulation.sources import RELAY, SourceOptions, Touch, items, touches
from schemas.catalog import Product
from streams.evaluation.feedback import SPARED, WITH, WITHOUT, Comparison, compare_feedback
from streams.evaluation.shop import InProcessShop
from streams.replay.record import ReplayEvent, encode, iso_time
from streams.settings import Settings
from tests.benchmarks.report import Report, medians

OPTIONS = SourceOptions()
BATCH = 8
_START_MS = 1_740_000_000_000
_LOOK_MS = 3_600_000


def events(found: Iterable[Touch]) -> Iterator[ReplayEvent]:
    """As a storefront would send them."""
    for number, touch in enumerate(found):
        at_ms = _START_MS + touch.at_ms
        fields = {
            "event_id": f"e{number}", "type": "click", "user_id": touch.shopper, "sku": touch.sku, "channel": touch.channel,
            "occurred_at": iso_time(at_ms),
        }  # fmt: skip
        yield encode(fields, at_ms)


def compared(seed: int, options: SourceOptions, *, window: str = "24h", every_ms: int = _LOOK_MS) -> Comparison:
    """One run of all three shops, whose registers are looked at every ``every_ms`` of event time."""
    products = [Product(sku=sku) for sku in items(options)]
    settings = Settings(index="flat", device="cpu", threads=1, feedback_window=window)  # type: ignore[arg-type]
    arms = {WITHOUT: settings, WITH: settings.model_copy(update={"value_feedback": True}), SPARED: settings}
    shops = {arm: InProcessShop(chosen, products, None) for arm, chosen in arms.items()}
    return compare_feedback(shops, events(touches(seed, options)), ("click",), batch=BATCH, every_ms=every_ms, left_out=(RELAY,))


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``: ``repetitions`` seeds, ``events`` visits in each. Needs no broker."""
    rows: list[dict[str, object]] = []
    remarks = []
    for relay, broken in (("broken", True), ("sound", False)):
        options = replace(OPTIONS, broken=broken, visits=events or OPTIONS.visits)
        for seed in range(1, repetitions + 1):
            found = compared(seed, options)
            changes = [(done, below["channel"][RELAY]) for done, below in found.weights if RELAY in below["channel"]]
            others = sorted({asset for _, below in found.weights for weighed in below.values() for asset in weighed} - {RELAY})
            last = found.weights[-1][1]["channel"].get(RELAY, 1.0)
            remarks.append(
                f"{relay} relay, seed {seed}, {len(found.channels):,} events: "
                + (f"it counted less than 1 from event {changes[0][0]:,} on, {last:g} at the end" if changes else "it always counted 1")
                + f"; of the others counted less: {', '.join(others) or 'none'}"
            )
            rows += [
                {
                    "relay": relay, "lists": one.arm, "events": one.events, "tests": one.tests,
                    "hit_rate_pct": 100 * one.hit_rate_at_20, "hit_low": 100 * one.hit_rate_low, "hit_high": 100 * one.hit_rate_high,
                    "mrr_pct": 100 * one.mrr_at_20, "mrr_low": 100 * one.mrr_low, "mrr_high": 100 * one.mrr_high,
                    "hit_gain": _percent(one.hit_rate_gain), "hit_gain_low": _percent(one.hit_rate_gain_low),
                    "hit_gain_high": _percent(one.hit_rate_gain_high), "mrr_gain": _percent(one.mrr_gain),
                    "mrr_gain_low": _percent(one.mrr_gain_low), "mrr_gain_high": _percent(one.mrr_gain_high),
                }
                for one in found.results((RELAY,))
            ]  # fmt: skip
    return Report("feedback", medians(rows, ("relay", "lists", "events")), tuple(remarks))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
