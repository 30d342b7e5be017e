"""How fresh is fresh: click produced -> record that reflects it, and product upserted -> its first recommendation.

An embed and a recommend worker on a real Kafka under two steady loads: that of a small shop, and half of what the recommend worker was
just measured to sustain. Latencies count from the *scheduled* send time of an event, so a stalled sender does not hide a stall of the
system (coordinated omission).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

import orjson

from schemas.topics import CATALOG, EVENTS, RECOMMENDATIONS
from tests.benchmarks.load import (
    Answers,
    PacedSender,
    backlog_rate,
    covered,
    keep_pace,
    offer,
    percentiles,
    shopper_of,
    sustained,
    valid_events,
)
from tests.benchmarks.measure import broker, worker
from tests.benchmarks.pipeline import EXACTLY_ONCE
from tests.benchmarks.report import Report, medians
from tests.benchmarks.shop import Shop

_PROBES = 30
#: What the probes are called: one text each, which no other product comes near.
_MAKES = (
    "Hand-carved walnut",
    "Solar-powered aluminium",
    "Glow-in-the-dark rubber",
    "Antique Bavarian",
    "Inflatable",
    "Miniature chocolate",
)
_THINGS = ("ukulele stand", "beehive", "trombone", "fishing rod", "chess clock")
_NEW = "new-"
_SECONDS = 30.0
_BACKLOG = 30_000
#: Events/s of a small shop.
_QUIET = 100.0
#: The broker's JVM compiles for the better part of a minute, on the cores that all share.
_WARM_S = 60.0
#: A shopper asks for each new product so many times a second, for so long.
_ASKS_A_SECOND = 50
_ASKED_S = 3.0
_PATIENCE_S = 60.0


def run(*, repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; medians of ``repetitions``. ``events`` is the size of the backlog from whose rate the sustainable one is sought."""
    rows: list[dict[str, object]] = []
    with broker(bootstrap_servers) as (bootstrap, folder), ExitStack() as stack:
        products, source = valid_events(seed=11)
        shop = Shop(bootstrap, folder, products)
        stack.enter_context(worker(shop.command("embed"), shop.log("embed")))
        process = stack.enter_context(worker(shop.command("recommend"), shop.log("recommend")))
        ceiling = backlog_rate(shop, source, events or _BACKLOG, process)
        offer(shop, source, ceiling / 2, _WARM_S)
        sustainable = sustained(shop, source, ceiling)
        for _ in range(repetitions):
            rows += _load(shop, source, _QUIET, "quiet")
            rows += _load(shop, source, sustainable / 4, "a quarter of sustainable")
            rows += _load(shop, source, sustainable / 2, "half of sustainable")
    remarks = [
        f"half load = {sustainable / 2:,.0f} events/s; sustained: {sustainable:,.0f}/s steady, {ceiling:,.0f}/s from a backlog",
        "broker, workers, sender and reader share the machine",
        f"a new product counts from its upsert to the first list that holds it, asked for {_ASKS_A_SECOND} times a second",
    ]
    return Report("freshness", medians(rows, ("system", "load", "job")), remarks)


def _load(shop: Shop, source: Iterator[tuple[bytes, bytes]], rate: float, load: str) -> list[dict[str, object]]:
    bootstrap = shop.settings.bootstrap_servers
    total, probe_every = int(rate * _SECONDS), (_SECONDS - _ASKED_S) / _PROBES
    prepared = [(key, value, shopper_of(value)) for key, value in (next(source) for _ in range(total))]
    answers = Answers(bootstrap, shop.topic(RECOMMENDATIONS.name), "list", marked=_NEW)
    sender = PacedSender(bootstrap, shop.topic(EVENTS.name))
    upserted: dict[str, float] = {}
    ask_every = max(1, int(rate / _ASKS_A_SECOND))
    for number, due in keep_pace(total, rate):
        key, value, shopper = prepared[number]
        if shopper is not None:
            sender.send(key, value, due, shopper)
        if number / rate >= len(upserted) * probe_every and len(upserted) < _PROBES:
            _upsert(shop, sender, upserted)
        if number % ask_every == 0:
            for sku, since in upserted.items():
                if due - since < _ASKED_S:
                    _ask(sender, sku, due)
    sender.flush()
    latencies, missing = covered(sender.due, answers.finish(_PATIENCE_S))
    if missing:
        raise RuntimeError(f"{missing} of {len(sender.due)} events were not reflected in a record in time")
    unseen = upserted.keys() - answers.listed.keys()
    if unseen:
        raise RuntimeError(f"{len(unseen)} of {len(upserted)} new products were in no list within {_ASKED_S:g} s")
    fresh = [answers.listed[sku] - at for sku, at in upserted.items()]
    common: dict[str, object] = {"system": "assay", "guarantee": EXACTLY_ONCE, "unit": "ms", "load": load, "rate": round(rate)}
    return [
        common | {"job": "click -> recommendation record"} | percentiles(latencies),
        common | {"job": "product upsert -> first recommendation"} | percentiles(fresh),
    ]


def _upsert(shop: Shop, sender: PacedSender, upserted: dict[str, float]) -> None:
    """Upsert a new product, and before it a twin with the same text for a shopper to look at."""
    number = uuid.uuid4().hex[:8]
    place = len(upserted)
    text = f"{_MAKES[place % len(_MAKES)]} {_THINGS[place // len(_MAKES) % len(_THINGS)]}"
    for sku in (f"twin-{number}", f"{_NEW}{number}"):
        product = {"sku": sku, "title": text, "category_path": ["Music"], "price": "39.00", "currency": "GBP", "stock": 5}
        if sku.startswith(_NEW):
            upserted[sku] = time.perf_counter()
        sender.put(shop.topic(CATALOG.name), sku.encode(), orjson.dumps(product))


def _ask(sender: PacedSender, sku: str, due: float) -> None:
    """Click on the twin of a new product."""
    number = sku.removeprefix(_NEW)
    shopper = f"probe-{number}"
    event = {
        "event_id": uuid.uuid4().hex, "type": "click", "user_id": shopper, "occurred_at": datetime.now(UTC).isoformat(),
        "channel": "probe", "sku": f"twin-{number}",
    }  # fmt: skip
    sender.send(shopper.encode(), orjson.dumps(event), due, shopper)
