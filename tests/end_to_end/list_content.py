"""Whether lists may be as they are, item by item: what a list must never hold, what must add up, and the part that the shopper's own
history has in it, reckoned anew. Rules and numbers are written down here again, and nothing is asked of the product.

What others did (``together``, ``sessions``, ``trending``) depends on what a worker had heard when it made the list, so of these it is only
known that they may be, and what they may rest on.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.end_to_end.plain_profiles import Place, Shopper, key_of

_SOURCES = ("similar", "together", "sessions", "trending", "again", "sequence", "query", "factors")
#: The weights of the sources where no file of weights gives others.
BUILT_IN = {"similar": 0.2, "together": 0.45, "sessions": 0.6, "trending": 0.15, "again": 0.9, "sequence": 0.6, "query": 0.6}
_BLEND = "blend-4"
_NEXT_VISIT = "visits-1"
_DAY_MS = 86_400_000
_EFFORT = {"browse": 0.6, "click": 1.0, "add_to_cart": 1.5, "purchase": 1.5}
_ANCHORS = 9
#: Of recent items, which one list for the next visit may rest on.
_NEXT_VISIT_ANCHORS = 50
#: How far what is said of an item's own share may be from what is reckoned: it is a number of six decimals, of single precision.
_NEAR = 3e-6


@dataclass(frozen=True)
class Shelf:
    """What lists of up to ``k`` items could be made of. ``sold_out``: items that are in none. ``excluded``: those that each version of the
    business rules rules out. ``weights``: of the sources, by version. ``rankers`` and ``sequences``: names of trained models, of which one
    has a part in every list of a visit if there are any.
    """

    on_sale: frozenset[str]
    sold_out: frozenset[str] = frozenset()
    k: int = 20
    excluded: Mapping[str | None, frozenset[str]] = field(default_factory=lambda: {None: frozenset()})
    weights: Mapping[str | None, Mapping[str, float]] = field(default_factory=lambda: {None: BUILT_IN})
    rankers: frozenset[str] = frozenset()
    sequences: frozenset[str] = frozenset()


def faults(lists: Iterable[bytes], events: Iterable[tuple[Place, Mapping[str, Any]]], shelf: Shelf, gap_ms: int) -> list[str]:
    """What is wrong with the records ``lists``, given the ``events`` of all shoppers in order (without logins and erasures)."""
    records = [json.loads(value, parse_float=Decimal) for value in lists]
    wrong = [f"{record['recommendation_id']}: {fault}" for record in records for fault in _alone(record, shelf)]
    for record, shopper in _with_history(records, events, gap_ms):
        found = ["rests on no event of its shopper"] if shopper is None else _own_part(record, shopper, shelf)
        wrong += [f"{record['recommendation_id']}: {fault}" for fault in found]
    return wrong + _mixed(records)


def _mixed(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Micro-batches whose lists are not all of one version. All of one batch say the same millisecond, in their partition."""
    batches: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for record in records:
        batch = (record["caused_by"]["partition"], record["generated_at"], record.get("occasion"), record.get("arm"))
        batches[batch].add(json.dumps([record["versions"], record.get("degraded")], sort_keys=True))
    return [f"{batch}: made by {len(versions)} versions: {sorted(versions)}" for batch, versions in batches.items() if len(versions) > 1]


# -- Alone --------------------------------------------------------------------------------------------------------------


def _alone(record: Mapping[str, Any], shelf: Shelf) -> Iterator[str]:
    """What can be told by the record itself."""
    items, versions = record["items"], record["versions"]
    skus = [item["sku"] for item in items]
    if len(skus) != len(set(skus)):
        yield f"an item twice: {skus}"
    if [item["position"] for item in items] != list(range(1, len(items) + 1)) or len(items) > shelf.k:
        yield f"positions {[item['position'] for item in items]} of at most {shelf.k}"
    if bool(items) == (record["policy"] == "empty") or (record["policy"] == "empty") != ("reason" in record):
        yield f"policy {record['policy']} of {len(items)} items"
    for sku in skus:
        if sku not in shelf.on_sale:
            yield f"{sku} is {'sold out' if sku in shelf.sold_out else 'no product'}"
    rules, weights = versions.get("rules"), versions.get("weights")
    if rules not in shelf.excluded:
        yield f"no rules are called {rules}"
    elif ruled_out := shelf.excluded[rules] & set(skus):
        yield f"{sorted(ruled_out)} are ruled out by {rules}"
    if weights not in shelf.weights:
        yield f"no weights are called {weights}"
    yield from _named(record, shelf)
    # Without vectors no two items are alike, so that nothing stands before what is worth more.
    scores = [item["score"] for item in items]
    if versions["encoder"] == "none" and scores != sorted(scores, reverse=True):
        yield f"not by falling score: {scores}"
    for item in items:
        for fault in _reasons(item, shelf.weights.get(weights, BUILT_IN)):
            yield f"{item['sku']}: {fault}"


def _named(record: Mapping[str, Any], shelf: Shelf) -> Iterator[str]:
    """The models that the record names must be those there are."""
    blend, *others = record["versions"]["model"].split("+")
    if record.get("occasion") == "next_visit":
        right = blend == _NEXT_VISIT and not others
    else:
        ranked = bool(shelf.rankers) and "ranker" not in record.get("degraded", ())
        right = blend in (shelf.rankers if ranked else {_BLEND}) and len(others) == bool(shelf.sequences) and set(others) <= shelf.sequences
    if not right:
        yield f"made by {record['versions']['model']}"


def _reasons(item: Mapping[str, Any], weights: Mapping[str, float]) -> Iterator[str]:
    reasons = item["reasons"]
    sources = [reason["source"] for reason in reasons]
    if not sources or len(sources) != len(set(sources)) or not set(sources) <= set(_SOURCES):
        yield f"reasons {sources}"
    if sum((reason["score"] for reason in reasons), Decimal(0)) != item["score"]:
        yield f"{[str(reason['score']) for reason in reasons]} do not sum to {item['score']}"
    for reason in reasons:
        source, because = reason["source"], reason.get("because")
        if reason["score"] < 0 or (reason["score"] == 0 and len(reasons) > 1):
            yield f"{source} counts {reason['score']}"
        if reason["score"] > 0 and weights.get(source) == 0:
            yield f"{source} counts nothing by its weight, but {reason['score']}"
        if source in ("trending", "sequence", "query", "factors") and because is not None:
            yield f"{source} rests on {because}"
        if source == "again" and because != item["sku"]:
            yield f"again because of {because}"
    if not item["explanation"]:
        yield "no explanation"


# -- Beside what the shopper did ----------------------------------------------------------------------------------------


def _with_history(
    records: Sequence[Mapping[str, Any]], events: Iterable[tuple[Place, Mapping[str, Any]]], gap_ms: int
) -> Iterator[tuple[Mapping[str, Any], Shopper | None]]:
    """Each list, and its shopper as they were at the newest event that it rests on; None where there is no such event."""
    waiting: dict[tuple[int, bytes, int], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        cause = record["caused_by"]
        waiting[cause["partition"], key_of(record), cause["last_offset"]].append(record)
    shoppers: dict[tuple[int, bytes], Shopper] = {}
    for (partition, offset), event in events:
        key = key_of(event)
        shopper = shoppers.setdefault((partition, key), Shopper())
        shopper.take(event, gap_ms)
        for record in waiting.pop((partition, key, offset), ()):
            yield record, shopper
    yield from ((record, None) for left in waiting.values() for record in left)


def _own_part(record: Mapping[str, Any], shopper: Shopper, shelf: Shelf) -> Iterator[str]:
    """What the list says of the shopper's own items, and what it rests on."""
    next_visit = record.get("occasion") == "next_visit"
    rests_on = set(_newest_items(shopper, _NEXT_VISIT_ANCHORS if next_visit else _ANCHORS))
    said: dict[str, float] = {}
    for item in record["items"]:
        for reason in item["reasons"]:
            if reason["source"] in ("similar", "together", "sessions") and reason.get("because") not in rests_on:
                yield f"{item['sku']}: {reason['source']} because of {reason.get('because')}, which is not among {sorted(rests_on)}"
            if reason["source"] == "again":
                said[item["sku"]] = float(reason["score"])
        if item["explanation"] == "You bought this before" and item["sku"] not in shopper.bought:
            yield f"{item['sku']} was never bought, or taken back"
    if strangers := said.keys() - shopper.touched:
        yield f"{sorted(strangers)} were never met by this shopper"
    if not next_visit and record["versions"]["model"].partition("+")[0] == _BLEND:
        yield from _again(record, shopper, shelf, said)


def _again(record: Mapping[str, Any], shopper: Shopper, shelf: Shelf, said: Mapping[str, float]) -> Iterator[str]:
    """The share of the source ``again`` in a list by the blend: as it is said, and that no own item is left out which has more by it alone
    than the last of the list by all sources.
    """
    versions = record["versions"]
    weights = {"query": BUILT_IN["query"]} | dict(shelf.weights.get(versions.get("weights"), BUILT_IN))
    # Nobody is given factors here, and a source that is not there has no part in the sum of weights, whatever a file says of it.
    weights.pop("factors", None)
    if "+" not in versions["model"]:
        weights["sequence"] = 0.0
    asked = any(reason["source"] == "query" for item in record["items"] for reason in item["reasons"])
    if asked and not shopper.searched_ms:
        yield "rests on a search of somebody who searched for nothing"
    # A search has its weight where it finds anything, whether or not that is listed.
    searches = (True,) if asked else (False, True) if shopper.searched_ms else (False,)
    readings = (list(_told(record, shopper, shelf, said, weights if found else weights | {"query": 0.0})) for found in searches)
    yield from min(readings, key=len)
    if not shopper.touched and not asked and record["policy"] == "personal" and "sequence" not in versions["model"]:
        yield "personal, of somebody who met nothing"


def _told(
    record: Mapping[str, Any], shopper: Shopper, shelf: Shelf, said: Mapping[str, float], weights: Mapping[str, float]
) -> Iterator[str]:
    allowed = shelf.on_sale - shelf.excluded.get(record["versions"].get("rules"), frozenset())
    shares = {sku: share for sku, share in _shares(shopper, weights, allowed).items() if share >= _NEAR}
    listed = [item["sku"] for item in record["items"]]
    for sku in listed:
        if abs(said.get(sku, 0.0) - shares.get(sku, 0.0)) > _NEAR:
            yield f"{sku}: again counts {said.get(sku, 0.0)}, should count {shares.get(sku, 0.0):.6f}"
    bar = float(record["items"][-1]["score"]) if len(listed) == shelf.k else 0.0
    if record["versions"]["encoder"] == "none" and (missing := {sku for sku, share in shares.items() if share > bar + _NEAR} - set(listed)):
        yield f"{sorted(missing)} are missing, whose own shares are above {bar}"
    if shares and record["policy"] != "personal":
        yield f"policy {record['policy']} of somebody who met {sorted(shares)}"


def _newest_items(shopper: Shopper, most: int) -> dict[str, tuple[int, str]]:
    """The last ``most`` distinct items, newest first: of each when it was met last, and the kind of event that took the most effort."""
    found: dict[str, tuple[int, str]] = {}
    for sku, at, kind in reversed(shopper.recent):
        if sku in found:
            newest, strongest = found[sku]
            if _EFFORT[kind] > _EFFORT[strongest]:
                found[sku] = newest, kind
        elif len(found) < most:
            found[sku] = at, kind
    return found


def _shares(shopper: Shopper, weights: Mapping[str, float], allowed: frozenset[str]) -> dict[str, float]:
    """Of each item that may be listed, what its being the shopper's own counts."""
    now, values = shopper.last_ms, defaultdict(float)
    for place, (sku, (at, kind)) in enumerate(_newest_items(shopper, _ANCHORS).items()):
        if kind != "purchase":
            values[sku] += _EFFORT[kind] * 0.7**place * 0.5 ** ((now - at) / (7 * _DAY_MS))
    for sku, bought in shopper.bought.items():
        values[sku] += 0.6 * math.log2(1 + bought.times) * 0.5 ** ((now - bought.at_ms) / (60 * _DAY_MS))
    values = defaultdict(float, {sku: value for sku, value in values.items() if sku in allowed})
    best = max([1.0, *values.values()])
    whole = weights["again"] / sum(weights.values())
    # What was bought within twelve hours is seldom wanted again already.
    return {
        sku: whole * value / best * (0.15 if sku in shopper.bought and now - shopper.bought[sku].at_ms < _DAY_MS / 2 else 1.0)
        for sku, value in values.items()
    }
