"""Session deltas as every worker reads them: what is none is passed over, since one that raised would stop all workers for good."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from models.catalog.items import ItemTable
from models.retrieval import LiveSessions, SessionItems
from streams.agents.deltas import read_deltas, sessions_broadcast
from streams.runtime.processor import SourceRecord

APPENDED_MS = 1_740_000_005_000
ITEM = {"sku": "a", "at": 1_740_000_000_000, "type": "click"}


def delta(**changes: Any) -> bytes:
    return orjson.dumps({"session": "s", "shopper": "p", "start": 0, "items": [ITEM], **changes})


def read(*values: bytes | None, appended_ms: int = APPENDED_MS) -> list[SessionItems]:
    return list(read_deltas([SourceRecord("sessions", 0, place, appended_ms, b"s", value) for place, value in enumerate(values)]))


NONE = {
    "a time beyond 64 bits": delta(items=[ITEM]).replace(b"1740000000000", b"1" * 30),
    "a time in the year 5138": delta(items=[{**ITEM, "at": 10**14}]),
    "a time before 1970": delta(items=[{**ITEM, "at": -1}]),
    "a start before the first item": delta(start=-1),
    "a start beyond any session": delta(start=2**62),
    "an empty sku": delta(items=[{**ITEM, "sku": ""}]),
    "a sku of a megabyte": delta(items=[{**ITEM, "sku": "x" * 1_000_000}]),
    "no name": delta(session=""),
    "not UTF-8": delta().replace(b'"a"', b'"\xed\xa0\x80"'),
    "nested without end": delta()[:-1] + b',"more":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
    "no JSON": b"\x00\x01",
    "empty": b"",
}


@pytest.mark.parametrize("case", NONE)
def test_what_is_no_delta_is_passed_over_and_the_next_one_is_read(case: str) -> None:
    (read_one,) = read(NONE[case], None, delta())
    assert read_one == SessionItems("s", "p", 0, ("a",), (ITEM["at"],), ("click",), False)


def test_an_item_did_not_happen_after_its_delta_was_written() -> None:
    # One from 2099 would outshine everything in what is trending, for ever.
    (read_one,) = read(delta(items=[{**ITEM, "at": 4_070_908_800_000}]))
    assert read_one.at_ms == (APPENDED_MS,)


def test_the_newest_deltas_fill_the_live_index_as_the_whole_topic_does() -> None:
    shoppers = [f"p{i // 6}" for i in range(12_000)]  # each one session of six clicks, of which three are at work at a time
    order = sorted(range(12_000), key=lambda i: (i // 18, i % 6, i))
    topic = [
        SourceRecord("sessions", 0, place, APPENDED_MS, b"s", delta(session=shoppers[i], shopper=shoppers[i], start=i % 6))
        for place, i in enumerate(order)
    ]
    table = ItemTable(1)
    held = []
    for whole in (True, False):
        live = LiveSessions(table.intern, half_life_ms=1e9, session_limit=256)
        broadcast = sessions_broadcast(live)
        assert broadcast.newest == 2_560
        broadcast.apply(topic if whole else topic[-broadcast.newest :])
        _, sessions = live.of_shoppers(sorted(set(shoppers)), 5)
        held.append((len(live), sessions.starts.tolist(), sessions.rows.tolist()))
    assert held[0] == held[1]
    assert held[0][0] > 150
