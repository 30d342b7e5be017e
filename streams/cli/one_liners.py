"""One line for each kind of message, as a human would tell it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import orjson

from schemas import topics

Fields = dict[str, Any]
_SHOWN_ITEMS = 3
_RAW = 100


def describe(table_name: str, key: bytes | None, value: bytes | None) -> str:
    """A record of ``table_name`` (``schemas.topics``) in one line; raw bytes where it cannot be read."""
    who = "(no key)" if key is None else key.decode(errors="replace")
    if value is None:
        return f"{who}  {'sent again' if table_name == topics.DEAD_LETTERS.name else 'deleted'}"
    try:
        fields = orjson.loads(value)
        return f"{who}  {_PHRASES.get(table_name, _raw)(fields)}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
        return f"{who}  (not a {table_name} message)  {value[:_RAW]!r}"


def _raw(fields: Fields) -> str:
    return orjson.dumps(fields).decode()


def _event(fields: Fields) -> str:
    what = [fields["type"], fields.get("sku") or fields.get("category") or fields.get("query") or ""]
    if "unit_price" in fields:
        what.append(f"{fields.get('quantity', 1)} x {fields['unit_price']} {fields['currency']}")
    if "recommendation_id" in fields:
        what.append(f"from list {fields['recommendation_id']} position {fields.get('position', '?')}")
    return f"{fields['occurred_at']}  {' '.join(part for part in what if part)}  via {fields['channel']}"


def _product(fields: Fields) -> str:
    price = f"  {fields['price']} {fields['currency']}" if fields.get("price") else ""
    stock = f"  stock {fields['stock']}" if fields.get("stock") is not None else ""
    shelf = " > ".join(fields.get("category_path", ()))
    return f"{fields.get('title') or '(no title)'}  [{shelf}]{price}{stock}"


def _embedding(fields: Fields) -> str:
    return f"{fields['dimensions']} dimensions by {fields['encoder']}"


def _recommendations(fields: Fields) -> str:
    items = fields["items"]
    if not items:
        return f"{fields['policy']}: no items ({fields.get('reason', 'no reason given')})"
    shown = "; ".join(f"{item['sku']} ({item['explanation']})" for item in items[:_SHOWN_ITEMS])
    more = f"; and {len(items) - _SHOWN_ITEMS} more" if len(items) > _SHOWN_ITEMS else ""
    return f"{fields['policy']}: {shown}{more}  after {fields['caused_by']['events']} event(s)"


def _session(fields: Fields) -> str:
    if fields.get("erased"):
        return f"every session of {fields['shopper']} erased"
    items = ", ".join(f"{item['type']} {item['sku']}" for item in fields["items"])
    return f"{fields['shopper']} from item {fields['start']}: {items}"


def _merge(fields: Fields) -> str:
    return f"session {fields['session_id']} is {fields['user_id']}"


def _outcome(fields: Fields) -> str:
    if fields.get("kind") == "exposure":
        return f"{fields['lists']} lists showed {len(fields['skus'])} of {fields['catalogue_size']} products"
    if fields.get("kind") == "resolution":
        return _resolution(fields)
    if fields.get("kind") == "forgotten":
        return f"to be forgotten: {', '.join(fields['shoppers'])}"
    what = f"{fields['type']} {fields.get('sku', '')}".strip()
    rank = (
        f"at rank {fields['rank']} of the list" if "rank" in fields else "not in the list" if fields.get("list_size") else "before any list"
    )
    money = f"  {fields['revenue']} {fields['currency']}" if "revenue" in fields else ""
    credit = f" (attributed: {fields.get('attributed_by', 'listed')})" if fields.get("attributed") else ""
    return f"{what}: {rank}, popularity rank {fields.get('popularity_rank', '-')}{money}{credit}"


def _resolution(fields: Fields) -> str:
    taken = [f"{item['result']} {item['sku']} at place {item['place']}" for item in fields["items"] if item["result"] != "ignored"]
    what = ", ".join(taken) or "nothing was taken up"
    about = f"list {fields['recommendation_id']}"
    if "corrects" in fields:
        return f"{about}, {fields['reason']}: {what}"
    return f"{about} of {len(fields['items'])} shown {fields['shown_at']}: {what}"


def _partial(fields: Fields) -> str:
    panes = sum(map(len, fields["assets"].values()))
    return f"{fields['dimension']} from partition {fields['source_partition']}: {panes} pane(s) of {len(fields['assets'])} asset(s)"


def _valuation(fields: Fields) -> str:
    window, funnel = fields["window"], fields["funnel"]
    span = "since the beginning" if window["kind"] == "total" else f"{window['kind']} of {window['length']} s to {window['end']}"
    status = "" if fields.get("status", "open") == "open" else f"{fields['status']} "
    text = f"{status}{span}: {funnel['events']} events, {fields['tests']} tests"
    lift = fields.get("lift")
    if lift:
        text += f", hit rate@20 {lift['hit_rate']['20']:.3f} (popularity {lift['popularity']['hit_rate']['20']:.3f})"
    for money in fields.get("money", ()):
        text += f", {money['attributable']} of {money['revenue']} {money['currency']} attributable"
    return text


def _register(fields: Fields) -> str:
    window, game = fields["window"], fields["game"]
    status = "" if fields["status"] == "open" else f"{fields['status']} "
    span = "since the beginning" if window["kind"] == "total" else f"{window['kind']} of {window['length']} s to {window['end']}"
    best = sorted(fields["assets"].items(), key=lambda pair: -pair[1]["points"])[:5]
    worth = ", ".join(f"{asset} {100 * value['points']:+.2f}" for asset, value in best)
    return f"{status}{span}: lift {100 * game['lift']:+.2f} points over {game['tests']} tests: {worth}"


def _dead_letter(fields: Fields) -> str:
    raw = base64.b64decode(fields["value"])[:_RAW].decode(errors="replace") if fields.get("value") else "(no value)"
    at = f" at {fields['path']}" if fields.get("path") else ""
    return f"{fields['code']}{at}: {fields['message']}  | {raw}"


def _erasure(fields: Fields) -> str:
    return f"asked to be forgotten at {fields['requested_at']} (request {fields['request_id']})"


def _receipt(fields: Fields) -> str:
    removed = ", ".join(f"{count} from {place}" for place, count in fields["removed"].items())
    return f"forgotten at {fields['completed_at']}: {removed or 'nothing was held'}"


_PHRASES: Final[dict[str, Callable[[Fields], str]]] = {
    topics.EVENTS.name: _event,
    topics.CATALOG.name: _product,
    topics.EMBEDDINGS.name: _embedding,
    topics.RECOMMENDATIONS.name: _recommendations,
    topics.SESSIONS.name: _session,
    topics.MERGES.name: _merge,
    topics.OUTCOMES.name: _outcome,
    topics.PARTIALS.name: _partial,
    topics.VALUATION.name: _valuation,
    topics.REGISTER.name: _register,
    topics.DEAD_LETTERS.name: _dead_letter,
    topics.ERASURES.name: _erasure,
    topics.RECEIPTS.name: _receipt,
}
