"""Topics that our own workers write, with records in them that they never would: no reader may stop, and the next good record counts.

A record that a processor refuses is the runtime's to dead-letter; whatever it takes, no later record may fail on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.catalog.catalogue import Catalogue
from models.catalog.vectors import pack
from models.profiles import Profile, describe
from models.retrieval import LiveSessions
from schemas.catalog import Embedding, Product
from schemas.decoding import CODES
from schemas.events import Impression
from schemas.internal import Exposure, Outcome, ProfileMerge, Resolution, SessionDelta, SessionItem
from schemas.operations import DeadLetter, Erasure
from streams.agents.deltas import read_deltas
from streams.agents.rolling import RollingProcessor
from streams.agents.value import ValueProcessor
from streams.runtime.processor import Batch, DictState, SourceRecord, Step
from tests.agents.pipeline import ERASURES, EVENTS, MERGES, START_MS, Pipeline, erasure, event, messages
from tests.fuzz.documents import mutated
from tests.fuzz.effort import effort
from tests.schemas.strategies import messages_of

_KEYS = st.sampled_from([b"u", b"a", b"s", b"\xff", b"", None, b"x" * 300])


def _json(model: type[Any]) -> st.SearchStrategy[bytes]:
    return messages_of(model).map(lambda message: message.to_json())


def _bad(documents: st.SearchStrategy[bytes], size: int = 4) -> st.SearchStrategy[list[tuple[bytes | None, bytes | None]]]:
    return st.lists(st.tuples(_KEYS, st.none() | mutated(documents) | mutated(documents, spoil_bytes=False)), min_size=1, max_size=size)


# -- Broadcast topics: an exception there would stop every worker, and again at each start -------------------------------


def session(name: str, start: int, *items: tuple[str, str]) -> bytes:
    found = tuple(SessionItem(sku=sku, at=START_MS, type=kind) for sku, kind in items)  # type: ignore[arg-type]
    return SessionDelta(session=name, shopper="p", start=start, items=found).to_json()


def _records(pairs: list[tuple[bytes | None, bytes | None]]) -> list[SourceRecord]:
    return [SourceRecord("sessions", 0, place, START_MS + 5000, key, value) for place, (key, value) in enumerate(pairs)]


@effort(120)
@given(_bad(_json(SessionDelta) | st.just(session("s", 0, ("a", "click"), ("b", "purchase")))))
@example([(b"s", session("s", 2**31 - 1, ("a", "click")))])
def test_a_good_session_counts_whatever_stands_before_it(bad: list[tuple[bytes | None, bytes | None]]):
    catalogue = Catalogue("flat", "cpu", 1)
    sessions = LiveSessions(catalogue.table.intern, 3_600_000.0)
    sessions.apply(read_deltas(_records(bad)))
    sessions.apply(read_deltas(_records([(b"g", session("good \U0001f6d2", 0, ("left", "click"), ("right", "purchase")))])))
    left, right = catalogue.table.row("left"), catalogue.table.row("right")
    assert right in [row for row, _ in sessions.cooccurrence.neighbours_of(left)]
    size = len(catalogue.table)
    lists = sessions.trending.lists(np.ones(size, dtype=np.bool_), np.zeros(size, dtype=np.int32), 1, START_MS)
    assert np.isfinite(lists.overall_values).all()
    assert (lists.overall_values[lists.overall == right] > 0).all()


def _embedding(sku: str, *values: float) -> bytes:
    vector = np.array(values, dtype=np.float32)
    return Embedding(
        sku=sku, encoder="e", dimensions=len(values), vector=pack(vector / np.linalg.norm(vector)), text_hash="h"
    ).to_json()  # fmt: skip


@effort(120)
@given(
    _bad(_json(Product) | st.just(Product(sku="a", title="A", stock=3).to_json())),
    _bad(_json(Embedding) | st.just(_embedding("a", 1, 2, 3, 4))),
)
@example(
    [(b"a", b'{"sku":"a","stock":' + b"9" * 4000 + b"}")],
    [(b"a", _embedding("a", 1, 0, 0, 0).replace(b'"dimensions":4', b'"dimensions":0'))],
)
def test_a_good_product_is_found_whatever_stands_before_it(
    products: list[tuple[bytes | None, bytes | None]], vectors: list[tuple[bytes | None, bytes | None]]
):
    catalogue = Catalogue("flat", "cpu", 1)
    catalogue.apply_embeddings([(b"first", _embedding("first", 0, 0, 0, 1))])
    catalogue.apply_products(products)
    catalogue.apply_embeddings(vectors)
    catalogue.apply_products([(b"good", Product(sku="good").to_json())])
    catalogue.apply_embeddings([(b"good", _embedding("good", 1, 0, 0, 0))])
    catalogue.background(1_000)
    assert catalogue.table.active[catalogue.table.row("good")]
    assert catalogue.encoder == "e"
    scores, rows = catalogue.index.search(np.array([[1, 0, 0, 0]], dtype=np.float32), 3)
    assert np.isfinite(scores[rows >= 0]).all()
    assert catalogue.table.row("good") in rows[0]


# -- The recommend role's own sources ---------------------------------------------------------------------------------


def _history() -> bytes:
    """A merge as a worker writes it, of a session that did all there is to do."""
    worker = Pipeline("abc", vectors=False)
    kinds = ("browse", "click", "add_to_cart", "purchase", "search", "impression")
    worker.send(event("click", 20, None, session_id="s"))  # so that it is shown a list
    step = worker.send(
        *(event(kind, number, None, session_id="s", second=number) for number, kind in enumerate(kinds)),
        event("login", 9, "u", session_id="s"),
    )
    (output,) = (output for output in step.outputs if output.topic == MERGES)
    assert output.value is not None
    return output.value


HISTORY = _history()
_MERGES = st.just(HISTORY) | _json(ProfileMerge)
_PROFILES = messages_of(ProfileMerge).map(
    lambda merge: merge.model_copy(update={"profile": orjson.loads(orjson.dumps(describe(Profile())))}).to_json()
)


def _answered(worker: Pipeline, number: int) -> None:
    """Shopper u acts and is answered, twice: what was learned before must neither fail now nor when it is read back."""
    for place in range(2):
        (key, value), taken = event("click", number + place, "u", second=100 + place), worker.now_ms
        step = worker.send((key, value))
        assert [output.topic for output in step.outputs if output.topic == "events.dead-letter"] == []
        (answer,) = [message for message in messages(step, "recommendations") if message.user_id == "u"]
        assert answer.items
        assert worker.now_ms > taken


def _refusals(step: Step) -> list[str]:
    letters: list[DeadLetter] = messages(step, "events.dead-letter")
    assert {letter.code for letter in letters} <= CODES.keys()
    return [letter.code for letter in letters]


@effort(120)
@given(_bad(_MERGES | _PROFILES, 3), _bad(_json(Erasure) | st.just(erasure("u")[1]), 2), _bad(_json(Impression), 2))
@example([(b"u", HISTORY)], [(b"u", erasure("u")[1])], [(b"u", None)])
def test_a_shopper_is_answered_whatever_was_merged_erased_or_sent_before(
    merges: list[tuple[bytes | None, bytes | None]],
    erasures: list[tuple[bytes | None, bytes | None]],
    events: list[tuple[bytes | None, bytes | None]],
):
    worker = Pipeline("abc", vectors=False, unknown_sku="accept")
    records = worker.records(merges, MERGES) + worker.records(erasures, ERASURES) + worker.records(events, EVENTS)
    refused = _refusals(worker.process(records))
    assert len(refused) <= len(records)
    worker.now_ms += 86_400_000
    _answered(worker, 1000)


# -- The value role's sources -----------------------------------------------------------------------------------------


def _outcome(offset: int) -> bytes:
    return orjson.dumps(
        {
            "kind": "outcome", "outcome_id": f"o{offset}", "origin": {"topic": "e", "partition": 0, "offset": offset}, "shopper": "u",
            "event_id": f"e{offset}", "type": "purchase", "sku": "a", "channel": "web", "occurred_at": "2026-03-01T12:00:00Z",
            "list_size": 20, "rank": 3, "revenue": "2.50", "currency": "GBP", "attributed": True,
        }
    )  # fmt: skip


class Owner:
    """One partition as the runtime drives it: what a processor raises on is a dead letter, one record at a time."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.state, self.now_ms, self.offset = processor, DictState(), START_MS, 0
        processor.opened(self.state, 0)

    def take(self, *values: bytes | None) -> Step:
        taken = Step()
        for value in values:
            record = SourceRecord("t", 0, self.offset, START_MS, b"k", value)
            self.offset += 1
            try:
                step = self.processor.process(self.state, Batch(0, [record], self.now_ms))
            except Exception:  # as streams.runtime.partition does
                continue
            self._keep(taken, step)
        return taken

    def tick(self) -> Step:
        """What is raised here stops the worker, and again at each start."""
        self.now_ms += 5_000
        step = self.processor.tick(self.state, 0, self.now_ms) or Step()
        taken = Step()
        self._keep(taken, step)
        return taken

    def reopened(self) -> None:
        """Another worker takes over, with the state alone."""
        self.processor.lost(0)
        self.processor.opened(self.state, 0)

    def _keep(self, taken: Step, step: Step) -> None:
        self.state.apply(step.writes)
        taken.outputs += step.outputs


def _values(documents: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[bytes | None]]:
    return st.lists(st.none() | mutated(documents) | mutated(documents, spoil_bytes=False), min_size=1, max_size=4)


def _counted() -> bytes:
    """A partial of the dimension ``overall`` as a worker writes it."""
    value = Owner(ValueProcessor(1))
    outputs = value.take(_outcome(0)).outputs + value.tick().outputs
    return next(output.value for output in outputs if output.key == b"overall" and output.value is not None)


PARTIAL = _counted()


@effort(120)
@given(_values(st.just(_outcome(7)) | _json(Outcome) | _json(Exposure) | _json(Resolution)))
@example([b'{"kind":"outcome"' + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}"])
def test_a_good_outcome_is_counted_whatever_stands_before_it(bad: list[bytes | None]):
    value = Owner(ValueProcessor(2))
    value.take(*bad)
    value.tick()
    value.reopened()
    outputs = value.take(_outcome(100)).outputs + value.tick().outputs
    assert any(output.key == b"overall" for output in outputs)


@effort(120)
@given(_values(st.just(PARTIAL)))
@example([PARTIAL.replace(b"2026-03-01T12:00", b"9999-12-31T23:59")])
@example([PARTIAL.replace(b'"source_partition":0', b'"source_partition":-1')])
@example([PARTIAL.replace(b'"source_partition":0', b'"source_partition":70000')])
def test_a_good_partial_is_published_whatever_stands_before_it(bad: list[bytes | None]):
    rolling = Owner(RollingProcessor())
    rolling.take(*bad)
    rolling.tick()
    rolling.reopened()
    outputs = rolling.take(PARTIAL).outputs + rolling.tick().outputs
    keys = {output.key for output in outputs}
    assert b"overall|all|total" in keys


@pytest.mark.parametrize(
    "value", [b"\xff", b'{"session":"\xed\xa0\x80"}', b"[" * 100_000, b'{"kind":"outcome","channel":"\xff"}', b"9" * 5000]
)
def test_what_is_no_text_or_nests_without_end_stops_nobody(value: bytes):
    for owner, good in ((Owner(ValueProcessor(2)), _outcome(1)), (Owner(RollingProcessor()), PARTIAL)):
        owner.take(value, good)
        assert owner.tick().outputs or owner.state.data
