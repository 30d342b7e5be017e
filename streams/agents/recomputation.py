"""A valuation record made again from the outcomes that it rests on, with nothing but the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from models.valuation import OTHER, AssetNumbers, AssetPanes, PaneId, rolling_record
from models.valuation.accounts import Running, booked
from models.valuation.appraisal import Rules
from models.valuation.arms import ArmSums, added
from models.valuation.costs import Costs
from models.valuation.messages import milliseconds
from models.valuation.panes import MINUTE_S
from models.valuation.windows import PaneRing, WorthPanes
from models.valuation.worth import Worth
from models.valuation.worth_record import value_register
from schemas.topics import OUTCOMES
from schemas.valuation import RollingValuation, ValueRegister
from streams.agents.appraisers import PlacementOf, appraiser_of, value_source
from streams.agents.books import closing, entries_of
from streams.agents.counts import Meta, sums_of
from streams.agents.sources import readable
from streams.runtime.processor import Record

#: Records that are summed at a time.
_BATCH = 5_000


class Books(NamedTuple):
    """What one pass over the log finds: by partition, pane and dimension what tests were worth, and what arms of experiments brought."""

    worths: Mapping[int, Mapping[PaneId, Mapping[str, Worth]]]
    arms: Mapping[str, ArmSums]


def books_of(outcomes: Mapping[int, Iterable[Record]], rules: Rules, placement_of: PlacementOf | None = None) -> Books:
    """``outcomes``: of each partition of a record's lineage all records up to the last one named there. ``placement_of``: where items shown
    stand, if those are the rows.
    """
    worths: dict[int, Mapping[PaneId, Mapping[str, Worth]]] = {}
    arms: dict[str, ArmSums] = {}
    for partition, records in outcomes.items():
        appraiser = appraiser_of(rules, placement_of)
        sources = list(readable(records, shown=rules.neighbours == "embeddings"))
        entries = list(entries_of(sources, Running(), rules.margins))
        closed = closing(entries)
        for offset, at_ms, message in sources:
            value_source(appraiser, offset, at_ms, message, closes=offset in closed)
        worths[partition] = appraiser.sums()
        arms = added(arms, booked({}, {}, [entry for _, entry in entries]))
    return Books(worths, arms)


def register_again(name: str, record: ValueRegister, books: Books, rules: Rules) -> ValueRegister:
    """The register of the window ``name`` from the books of its lineage. Assets that the record does not know are those that it counts
    together. Raises ``LookupError`` for a minute that the log holds nothing of.
    """
    panes = WorthPanes()
    for partition, held in books.worths.items():
        for pane, worths in held.items():
            panes.add(partition, pane, worths[record.dimension].renamed(lambda asset: asset if asset in record.assets else OTHER))
    watermark_ms = milliseconds(record.watermark)
    panes.advance(watermark_ms)
    window = panes.minute(_minute(panes, name)) if _is_minute(name) else panes.window(name)
    arms = books.arms if name == "total" else {}
    return value_register(record.dimension, window, watermark_ms, record.status, OUTCOMES.name, rules, arms)


def record_again(
    name: str, record: RollingValuation, outcomes: Mapping[int, Iterable[Record]], told_apart: frozenset[str], costs: Costs | None = None
) -> RollingValuation:
    """The same of an asset's record. ``told_apart``: the assets of its dimension with records of their own. ``costs``: what data costs.

    What it quotes is taken over: ``value`` from the register, which ``register_again`` makes, and the versions that served when it was
    published, which no outcome names.
    """
    panes = AssetPanes()
    for partition, records in outcomes.items():
        sources, meta, assets = list(readable(records)), Meta(), AssetNumbers()
        for start in range(0, len(sources), _BATCH):
            sums, meta = sums_of(sources[start : start + _BATCH], meta, assets)
            for (number, pane), part in sums.items():
                dimension, asset = assets.pairs[number]
                if dimension == record.dimension and (asset if asset in told_apart else OTHER) == record.asset:
                    panes.add(partition, pane, part)
    watermark_ms = milliseconds(record.watermark)
    panes.advance(watermark_ms)
    window = panes.minute(_minute(panes, name)) if _is_minute(name) else panes.window(name)
    cost = (costs or Costs()).find(record.dimension, record.asset)
    again = rolling_record(record.dimension, record.asset, window, watermark_ms, record.status, OUTCOMES.name, record.value, cost)
    return again.model_copy(update={"versions": record.versions})


def _is_minute(window: str) -> bool:
    return window.startswith("1m@")


def _minute(panes: PaneRing[Any], window: str) -> PaneId:
    pane = PaneId(MINUTE_S, milliseconds(datetime.fromisoformat(window.removeprefix("1m@"))))
    if pane not in panes.held_panes():
        raise LookupError(f"{window}: the log holds nothing of that minute any more")
    return pane
