"""What the recommend role sends: records as JSON, encoded once, in the shapes of ``schemas`` (tests hold the two together).

Lists, outcomes and session deltas go to the partition that their events came from. A transaction so ends in four partitions (the
changelog's is one), where keys would spread it over all of each topic, and each costs the broker a marker and a batch. Outcomes of a
partition also keep the order of its events: none is late for sharing a partition with those of another that is ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson

from models.attribution import Claim, Correction, Follower, Memory, Resolved, Sale, ShownLists, Source, Windows, judge
from models.attribution.shown import RESULTS
from models.profiles import describe
from models.profiles.profile import FLAG_ITEM_ONLY
from models.ranking import COLD_START, EMPTY, ITEM_ONLY, MODEL, PERSONAL
from schemas.base import SCHEMA_VERSION
from schemas.events import Login, Purchase, Refund
from schemas.operations import Erasure
from schemas.topics import DEAD_LETTERS, EVENTS, MERGES, OUTCOMES, RECEIPTS, RECOMMENDATIONS, SESSIONS
from streams.agents.shoppers import SessionGrowth, Shopper, Visit
from streams.runtime.processor import Output, Record

#: Of a SKU and a currency, the margin of one unit.
Margins = Callable[[str, str], Decimal | None]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_VERSION: Final = SCHEMA_VERSION
_POLICIES: Final = {EMPTY: b"empty", COLD_START: b"cold_start", PERSONAL: b"personal", ITEM_ONLY: b"item_only"}
_LABEL_LIMIT: Final = 128
#: Where raw records of an erased shopper wait for their retention to pass, and for how many days at most.
_EXPIRING: Final = {topic.name: topic.retention_ms // 86_400_000 for topic in (EVENTS, MERGES, SESSIONS, OUTCOMES, DEAD_LETTERS)}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What all records of a micro-batch share."""

    partition: int
    now_ms: int
    encoder: str
    index: int
    degraded: tuple[str, ...] = ()
    rules: str | None = None
    model: str = MODEL
    arm: str | None = None
    weights: str | None = None
    feedback: Mapping[str, Mapping[str, float]] | None = None


def instant(ms: int) -> str:
    """ISO 8601 in UTC with ms."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def recommendation_id(visit: Visit, partition: int) -> str:
    """From the place of the newest record that the list rests on, so that a repeated attempt gives the same."""
    return f"{visit.topic}-{partition}-{visit.last_offset}"


def next_recommendation_id(identifier: str) -> str:
    """Of the list for the next visit, from that of the visit's last one."""
    return f"{identifier}-next"


class RecommendationWriter:
    """Writes the records of one micro-batch."""

    def __init__(self, about: Circumstances) -> None:
        self._partition = about.partition
        degraded = b'"degraded":%s,' % orjson.dumps(about.degraded) if about.degraded else b""
        arm = b'"arm":"%s",' % about.arm.encode() if about.arm else b""
        self._made = b',"generated_at":"%s",%s%s"policy":"' % (instant(about.now_ms).encode(), arm, degraded)
        rules = b',"rules":"%s"' % about.rules.encode() if about.rules else b""
        weights = b',"weights":"%s"' % about.weights.encode() if about.weights else b""
        feedback = b"" if about.feedback is None else b',"feedback":%s' % orjson.dumps(about.feedback)
        self._versions = b'},"versions":{"encoder":%s,"model":"%s","index":%d%s%s%s},"schema_version":"%s"}' % (
            orjson.dumps(about.encoder), about.model.encode(), about.index, rules, weights, feedback, _VERSION.encode(),
        )  # fmt: skip

    def write(self, visit: Visit, identifier: str, policy: int, items: bytes, empty_reason: str, *, next_visit: bool = False) -> Output:
        """``schemas.recommendation.Recommendations`` for one visit, or the one after it; ``items`` is a JSON array, ``empty_reason`` why if
        it is empty.
        """
        shopper = visit.shopper
        if policy == PERSONAL and visit.profile.flags & FLAG_ITEM_ONLY:
            policy = ITEM_ONLY
        value = b"".join((
            b'{"recommendation_id":"', identifier.encode(), b'","session_id":' if shopper.anonymous else b'","user_id":',
            orjson.dumps(shopper.identifier), self._made, _POLICIES[policy],
            b'","occasion":"next_visit' if next_visit else b"",
            b'","reason":%s,"items":' % orjson.dumps(empty_reason) if policy == EMPTY else b'","items":', items,
            b',"caused_by":{"topic":"%s","partition":%d,"first_offset":%d,"last_offset":%d,"events":%d'
            % (visit.topic.encode(), self._partition, visit.first_offset, visit.last_offset, visit.records),
            self._versions,
        ))  # fmt: skip
        return Output(RECOMMENDATIONS.name, shopper.topic_key, value, self._partition)


def withdrawal(shopper: Shopper, partition: int) -> Output:
    """The tombstone of a shopper who is gone: erased, a session that became a user, or one that was abandoned."""
    return Output(RECOMMENDATIONS.name, shopper.topic_key, None, partition)


class OutcomeWriter:
    """Writes what happened, set against what had been shown."""

    def __init__(
        self,
        partition: int,
        arm: str | None,
        experiment: str | None,
        popular: dict[str, int],
        windows: Windows,
        category_of: Callable[[str], str | None],
        margins: Margins,
    ) -> None:
        self._partition = partition
        self._arm = arm
        self._experiment = experiment
        self._popular = popular
        self._windows = windows
        self._category_of = category_of
        self._margins = margins

    def write(self, visit: Visit, learned: list[str]) -> tuple[list[Output], Memory, list[int | None]]:
        """One ``schemas.internal.Outcome`` for each event of a visit, what is remembered after them, and of each event the place of its
        item in the list that it cites, if that holds.

        ``learned``: the SKUs of the list made of the visit, in order.
        """
        shown, memory = visit.emitted, visit.emitted.memory
        name = visit.shopper.name
        key = name.encode()
        outputs: list[Output] = []
        places: list[int | None] = []
        for record, event, at_ms in visit.events:
            place = None
            agreed = not visit.profile.flags & FLAG_ITEM_ONLY and record.offset not in visit.withheld
            outcome = {
                "kind": "outcome",
                "outcome_id": f"{EVENTS.name}-{self._partition}-{record.offset}",
                "origin": {"topic": EVENTS.name, "partition": self._partition, "offset": record.offset},
                "shopper": name,
                "event_id": event.event_id,
                "type": event.type,
                "channel": event.channel,
                "occurred_at": event.occurred_at.isoformat(),
                "list_size": len(shown.skus),
                "schema_version": _VERSION,
            }
            if self._arm is not None:
                outcome["arm"] = self._arm
                outcome["experiment"] = self._experiment
            if not agreed:
                outcome["consent"] = False
                memory = memory.without_orders()
            if shown.recommendation_id:
                outcome["recommendation_id"] = shown.recommendation_id
            if event.country is not None:
                outcome["country"] = event.country
            if event.segment is not None:
                outcome["segment"] = event.segment
            sku: str | None = getattr(event, "sku", None)
            if sku is not None:
                outcome["sku"] = sku
                category = self._category_of(sku)
                if category:
                    outcome["category"] = category[:_LABEL_LIMIT]
                rank = shown.rank(sku)
                if event.type in _JUDGED:
                    _place(outcome, sku, rank, learned, self._popular)
                place, memory = self._credit(outcome, at_ms, event, sku, shown.recommendation_id, rank, memory)
            elif event.type == "browse":
                outcome["category"] = event.category  # type: ignore[union-attr]
            if isinstance(event, Purchase | Refund):
                bought = isinstance(event, Purchase)
                amount, margin = event.unit_price * event.quantity, self._margins(event.sku, event.currency)
                line = event.order_id, event.sku, event.currency
                if not bought:  # what was sold before the product had another margin, or was gone, takes back what it brought
                    margin = memory.unit_margin(*line, margin)
                elif agreed:
                    memory = memory.bought(*line, margin)
                outcome["quantity"] = event.quantity
                outcome["revenue"] = f"{amount if bought else -amount:f}"
                outcome["currency"] = event.currency
                if margin is not None:
                    earned = margin * event.quantity
                    outcome["margin"] = f"{earned if bought else -earned:f}"
            outputs.append(Output(OUTCOMES.name, key, orjson.dumps(outcome), self._partition))
            places.append(place)
        return outputs, memory, places

    def _credit(
        self, outcome: dict[str, Any], at_ms: int, event: Any, sku: str, newest: str, rank: int | None, memory: Memory
    ) -> tuple[int | None, Memory]:
        cited: str | None = event.recommendation_id
        if cited is not None:
            outcome["cited_recommendation_id"] = cited
            if event.position is not None:
                outcome["cited_position"] = event.position
        elif event.type not in _CREDITED_UNCITED or (rank is None and event.type != "purchase"):
            return None, memory  # nothing speaks for a recommendation
        credit, memory = judge(memory, Claim(event.type, sku, at_ms, cited, newest, rank), self._windows)
        if credit.place is not None:
            outcome["cited_rank"] = credit.place
        if credit.basis is not None:
            outcome["attributed"] = True
            outcome["attributed_by"] = credit.basis
        return credit.place, memory


#: What the parts of a source are called in a message.
_SOURCE: Final = ("channel", "country", "segment")
_JUDGED: Final = frozenset(("browse", "click", "add_to_cart", "purchase"))
_CREDITED_UNCITED: Final = _JUDGED - {"browse"}


def _place(outcome: dict[str, Any], sku: str, rank: int | None, learned: list[str], popular: dict[str, int]) -> None:
    if rank is not None:
        outcome["rank"] = rank
    if sku in learned:
        outcome["rank_after"] = learned.index(sku) + 1
    place = popular.get(sku)
    if place is not None:
        outcome["popularity_rank"] = place


def exposure(partition: int, encoder: str, offset: int, at_ms: int, lists: int, skus: Sequence[str], catalogue_size: int) -> Output:
    """``schemas.internal.Exposure`` of a micro-batch; ``offset`` and ``at_ms`` are those of its newest event."""
    value = {
        "kind": "exposure",
        "origin": {"topic": EVENTS.name, "partition": partition, "offset": offset},
        "occurred_at": instant(at_ms),
        "lists": lists,
        "skus": skus,
        "catalogue_size": catalogue_size,
        "encoder": encoder,
        "model": MODEL,
        "schema_version": _VERSION,
    }
    return Output(OUTCOMES.name, f"exposure-{partition}".encode(), orjson.dumps(value), partition)


class ResolutionWriter:
    """Writes what became of lists shown, as it is known at one watermark."""

    def __init__(self, partition: int, watermark_s: int, category_of: Callable[[str], str | None]) -> None:
        self._partition = partition
        self._category_of = category_of
        self._watermark = instant(1000 * watermark_s)

    def write(self, follower: Follower, shopper: str) -> list[Output]:
        """``schemas.internal.Resolution`` for each list that is told of, and for each correction; the follower is closed."""
        told = [self._resolution(shopper, resolved) for resolved in follower.resolved]
        told += [self._correction(shopper, correction) for correction in follower.corrections]
        key = shopper.encode()
        return [Output(OUTCOMES.name, key, orjson.dumps(value, option=orjson.OPT_UTC_Z), self._partition) for value in told]

    def _resolution(self, shopper: str, resolved: Resolved) -> dict[str, Any]:
        shown = resolved.shown
        skus = shown.skus
        places = shown.places or range(1, len(skus) + 1)
        items = [self._item(sku, place, "ignored") for sku, place in zip(skus, places, strict=True)]
        identifier, origin = f"shown-{shown.partition}-{shown.offset}", (shown.partition, shown.offset)
        value = self._value(shopper, identifier, origin, resolved.reason, shown.source, items)
        value["recommendation_id"] = shown.recommendation_id
        value["shown_at"] = datetime.fromtimestamp(shown.shown_s, UTC)
        if shown.arm is not None:
            value["arm"] = shown.arm
        for taken in shown.taken:
            delay_s = max(0, taken.first_s - shown.shown_s)
            value["label_delay_s"] = min(delay_s, value.get("label_delay_s", delay_s))
            item = items[skus.index(taken.sku)]
            item["result"], item["label_delay_s"] = RESULTS[taken.result], delay_s
            if taken.sales:
                item["sales"] = _sales(taken.sales)
        return value

    def _correction(self, shopper: str, correction: Correction) -> dict[str, Any]:
        corrects = f"shown-{correction.partition}-{correction.offset}"
        partition, offset = correction.by
        item = self._item(correction.sku, correction.place, RESULTS[correction.result])
        identifier = f"{corrects}-corrected-{partition}-{offset}"
        value = self._value(shopper, identifier, correction.by, correction.reason, correction.source, [item])
        value["corrects"] = corrects
        value["recommendation_id"] = correction.recommendation_id
        if correction.arm is not None:
            value["arm"] = correction.arm
        if correction.delay_s is not None:
            value["label_delay_s"] = item["label_delay_s"] = correction.delay_s
        if correction.sale is not None:
            item["sales"] = _sales([correction.sale])
        return value

    def _item(self, sku: str, place: int, result: str) -> dict[str, Any]:
        category = self._category_of(sku)
        item = {"sku": sku, "place": place, "result": result}
        return item | {"category": category[:_LABEL_LIMIT]} if category else item

    def _value(
        self, shopper: str, identifier: str, origin: tuple[int, int], reason: str, source: Source, items: list[dict[str, Any]]
    ) -> dict[str, Any]:
        named = zip(_SOURCE, (source.channel, source.country, source.segment), strict=True)
        return {
            "kind": "resolution",
            "resolution_id": identifier,
            "reason": reason,
            "origin": {"topic": EVENTS.name, "partition": origin[0], "offset": origin[1]},
            "shopper": shopper,
            "watermark": self._watermark,
            "items": items,
            "schema_version": _VERSION,
        } | {name: label for name, label in named if label is not None}


def _sales(sales: Iterable[Sale]) -> list[dict[str, Any]]:
    """By currency, those of known margin apart from the others."""
    found: dict[tuple[str, bool], tuple[int, Decimal, Decimal]] = {}
    for sale in sales:
        margin = sale.margin()
        kind = (sale.currency, margin is not None)
        units, revenue, earned = found.get(kind, (0, Decimal(0), Decimal(0)))
        found[kind] = (units + sale.quantity, revenue + Decimal(sale.revenue), earned + (margin or 0))
    return [
        {"quantity": units, "revenue": f"{revenue:f}", "currency": currency} | ({"margin": f"{earned:f}"} if known else {})
        for (currency, known), (units, revenue, earned) in found.items()
    ]


def session_delta(shopper: str, growth: SessionGrowth, partition: int) -> Output:
    """``schemas.internal.SessionDelta``: what a visit appended to a session."""
    session = f"{shopper}@{growth.start_ms}"
    value = {
        "session": session,
        "shopper": shopper,
        "start": growth.position,
        "items": [{"sku": sku, "at": at, "type": kind} for sku, at, kind in growth.items],
        "schema_version": _VERSION,
    }
    value |= {name: label for name, label in zip(_SOURCE, growth.source, strict=True) if label is not None}
    return Output(SESSIONS.name, session.encode(), orjson.dumps(value), partition)


def forgotten(names: Sequence[str], partitions: int) -> Iterator[Output]:
    """What tells other workers to forget these shoppers, to *every* partition of each topic.

    For each name a ``SessionDelta`` with ``erased``: a reader that begins anew then meets it behind whatever the shopper left in that
    partition, in whichever order it reads the partitions. And one ``Forgotten`` for ``outcomes``, where sessions that the shopper had
    anonymously may be in any.
    """
    for name in names:
        session = f"{name}@erased"
        value = orjson.dumps({"session": session, "shopper": name, "start": 0, "items": [], "erased": True, "schema_version": _VERSION})
        for partition in range(partitions):
            yield Output(SESSIONS.name, session.encode(), value, partition)
    value = orjson.dumps({"kind": "forgotten", "shoppers": names, "schema_version": _VERSION})
    for partition in range(partitions):
        yield Output(OUTCOMES.name, b"forgotten", value, partition)


def profile_merge(visit: Visit, memory: Memory, shown: ShownLists, record: Record, login: Login) -> Output:
    """``schemas.internal.ProfileMerge``: the anonymous history on its way to the user's partition."""
    lists, clicks, views, margins = memory.to_hex()
    value = {
        "user_id": login.user_id,
        "session_id": login.session_id,
        "origin": {"topic": EVENTS.name, "partition": record.partition, "offset": record.offset},
        "occurred_at": login.occurred_at.isoformat(),
        "received_ms": max(record.timestamp, 0),
        "profile": describe(visit.profile),
        "lists_sent": lists,
        "clicks": clicks,
        "views": views,
        "margins": margins,
        "lists_shown": shown.to_hex(),
        "schema_version": _VERSION,
    }
    return Output(MERGES.name, login.user_id.encode(), orjson.dumps(value))


def receipt(erasure: Erasure, now_ms: int, removed: dict[str, int]) -> Output:
    """``schemas.operations.ErasureReceipt``."""
    value = {
        "user_id": erasure.user_id,
        "request_id": erasure.request_id,
        "completed_at": instant(now_ms),
        "removed": removed,
        "expiring": _EXPIRING,
        "schema_version": _VERSION,
    }
    return Output(RECEIPTS.name, erasure.user_id.encode(), orjson.dumps(value))
