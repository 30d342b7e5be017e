"""Every compiled loop of the value role once, before the first outcome: on a busy machine compiling outlasts the watchdog's patience."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from models.valuation.shown_appraisal import Placement
from schemas.base import Origin
from schemas.internal import Forgotten, Outcome, Resolution, ShownItem
from schemas.topics import EVENTS, OUTCOMES
from streams.runtime.processor import Batch, DictState, Processor, SourceRecord

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_ORIGIN = Origin(topic=EVENTS.name, partition=0, offset=0)
_VECTORS = {"a": np.array([1.0, 0.0], dtype=np.float32), "b": np.array([0.6, 0.8], dtype=np.float32)}


def placement_of(sku: str) -> Placement:
    """Where the items of the rehearsal stand."""
    return Placement("rehearsal", _VECTORS[sku])


def rehearse(processor: Processor) -> None:
    """Let a ``processor`` that nobody else uses value a few shoppers, come back from its state, and forget one of them.

    Where its rows are items shown, it must find them by ``placement_of``.
    """
    state, told = DictState(), 0
    # Of each shopper a visit of two items, and a list of them that resolved: the second is a test against those before it, of either kind.
    for visit, shopper in enumerate("uvwu"):
        # As after a restart, from the second half on.
        if visit % 2 == 0:
            processor.lost(0)
            processor.opened(state, 0)
        at = _AT + timedelta(hours=visit)
        items = tuple(
            ShownItem(sku=sku, place=place, result=result) for place, (sku, result) in enumerate((("a", "clicked"), ("b", "ignored")), 1)
        )
        messages: list[Outcome | Resolution | Forgotten] = [
            *(
                Outcome(
                    outcome_id=f"o{visit}{sku}", origin=_ORIGIN, shopper=shopper, event_id=f"e{visit}{sku}", type="click", sku=sku,
                    channel="web", category="c", occurred_at=at,
                )
                for sku in "ab"
            ),
            Resolution(
                resolution_id=f"s{visit}", origin=_ORIGIN, shopper=shopper, reason="window", recommendation_id=f"r{visit}", watermark=at,
                items=items, channel="web",
            ),
        ]  # fmt: skip
        if visit == 3:
            messages.append(Forgotten(origin=_ORIGIN, shoppers=("v",)))
        records = [SourceRecord(OUTCOMES.name, 0, told + n, 0, b"", message.to_json()) for n, message in enumerate(messages)]
        told += len(records)
        state.apply(processor.process(state, Batch(0, records, 0, caught_up=True)).writes)
