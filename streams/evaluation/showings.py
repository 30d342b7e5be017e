"""What a log says was shown, what became of it, and the register over the items shown that are nearest by their texts.

A showing is an impression. It was taken up where its shopper clicked the item, put it in a basket or bought it within the window; an event
speaks for one showing, that in the list which it cites, else the newest. Of what was never shown nothing can be said: that nobody
touched it is no sign that anybody passed it over. So a log without impressions has no showings.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.attribution.shown import ADDED, BOUGHT, CLICKED, IGNORED, RESULTS
from models.profiles.profile import TYPE_CODES
from models.valuation.assets import UNCATEGORISED
from models.valuation.neighbours import EmbeddingNeighbours, Float32
from streams.evaluation.registers import DIMENSIONS, UNKNOWN, Valued, month_of, numbered, registers_of
from streams.evaluation.touches import read_touch
from streams.replay.record import ReplayEvent

#: A showing has one asset in each. ``event_type``: what became of it; ``age``: of the showing when the tests begin.
SHOWN_DIMENSIONS: Final = tuple(dimension for dimension in DIMENSIONS if dimension != "length")
#: The newest showings that tests are set beside, as many as a partition of the stream has.
ROWS: Final = 10_000
_IMPRESSION: Final = "impression"
_RESULT_OF: Final = {"browse": CLICKED, "click": CLICKED, "add_to_cart": ADDED, "purchase": BOUGHT}


@dataclass(slots=True, eq=False)
class Showing:
    """An item that was shown to a shopper at ``at_ms``. ``result``: what became of it, a place in ``RESULTS``."""

    shopper: str
    sku: str
    at_ms: int
    channel: str
    country: str
    segment: str
    result: int = IGNORED

    @property
    def taken(self) -> bool:
        """Whether it was taken up."""
        return self.result > IGNORED


def read_showings(events: Iterable[ReplayEvent], window_ms: int, types: Container[str]) -> list[Showing]:
    """The showings of a log, in its order, of which it is known what became of them: whose ``window_ms`` was over when the log ended.
    ``types``: the events that take up what was shown. Shown again in its window, in the same list or where no list is named, it is the same
    showing.
    """
    found: list[Showing] = []
    newest: dict[tuple[str, str], dict[str, Showing]] = defaultdict(dict)
    last_ms = 0
    for event in events:
        last_ms = max(last_ms, event.at_ms)
        touch = read_touch(event.value, (_IMPRESSION, *TYPE_CODES))
        if touch is None:
            continue
        shopper, fields = touch
        cited = str(fields.get("recommendation_id") or "")
        lists = newest[shopper.name, fields["sku"]]
        if fields["type"] == _IMPRESSION:
            before = lists.get(cited)
            if before is None or event.at_ms > before.at_ms + window_ms:
                # Put in anew, so that the newest is the last.
                lists.pop(cited, None)
                lists[cited] = _shown(shopper.name, fields, event.at_ms, anonymous=shopper.anonymous)
                found.append(lists[cited])
        elif fields["type"] in types:
            open_ones = [one for one in lists.values() if one.at_ms <= event.at_ms <= one.at_ms + window_ms]
            if open_ones:
                claimed = lists.get(cited) if cited else None
                one = claimed if claimed in open_ones else open_ones[-1]
                one.result = max(one.result, _RESULT_OF[fields["type"]])
    return [one for one in found if one.at_ms + window_ms <= last_ms]


def _shown(shopper: str, fields: Mapping[str, Any], at_ms: int, *, anonymous: bool) -> Showing:
    segment = fields.get("segment") or ("anonymous" if anonymous else UNKNOWN)
    return Showing(
        shopper, fields["sku"], at_ms, str(fields.get("channel") or UNKNOWN), str(fields.get("country") or UNKNOWN), str(segment)
    )


@dataclass(frozen=True, slots=True)
class ShownParts:
    """``train``: the newest ``ROWS`` showings of which was known what became of them before the first of ``test``, at ``cut_ms``."""

    train: list[Showing]
    test: list[Showing]
    cut_ms: int


def split_showings(showings: Sequence[Showing], share: float, window_ms: int) -> ShownParts:
    """The newest ``share`` of the showings, and what was known of those before; those between are in neither."""
    ordered = sorted(showings, key=lambda one: one.at_ms)
    cut = len(ordered) - round(len(ordered) * share)
    cut_ms = ordered[cut].at_ms if cut < len(ordered) else 0
    return ShownParts([one for one in ordered[:cut] if one.at_ms + window_ms < cut_ms][-ROWS:], ordered[cut:], cut_ms)


def assets_of(showing: Showing, cut_ms: int, category: Mapping[str, str]) -> dict[str, str]:
    """The asset of a showing in each of ``SHOWN_DIMENSIONS``; ``category`` is that of a SKU."""
    return {
        "channel": showing.channel, "event_type": RESULTS[showing.result], "category": category.get(showing.sku, UNCATEGORISED),
        "country": showing.country, "segment": showing.segment, "age": month_of(showing.at_ms, cut_ms),
    }  # fmt: skip


def value_showings(
    parts: ShownParts,
    vectors: Mapping[str, Float32],
    category: Mapping[str, str],
    dimensions: Sequence[str],
    *,
    k: int,
    tests: int,
    shuffles: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Valued:
    """Value the assets of ``parts.train`` in ``dimensions`` on at most ``tests`` showings of ``parts.test``, spread evenly. ``vectors``:
    float32[d], of unit length, of every SKU that was shown. ``progress`` is told how many are done.
    """
    width = len(next(iter(vectors.values()), ()))
    window = EmbeddingNeighbours(max(1, len(parts.train)), max(1, width), asset_dimensions=len(SHOWN_DIMENSIONS))
    names: dict[str, dict[str, int]] = {dimension: {} for dimension in SHOWN_DIMENSIONS}
    for number, one in enumerate(parts.train):
        window.add(str(number), one.shopper, vectors[one.sku], one.taken, numbered(names, assets_of(one, parts.cut_ms, category)))
    registers = registers_of(window, names, dimensions, k, shuffles)
    places = np.unique(np.linspace(0, len(parts.test) - 1, min(tests, len(parts.test))).round().astype(int)) if parts.test else []
    hits = 0.0
    for done, place in enumerate(places, 1):
        test = parts.test[int(place)]
        found = window.neighbours(None, test.shopper, vectors[test.sku], test.taken)
        for register in registers.values():
            register.take(found)
        hits += float(found.match[:k].sum()) / k
        progress(done)
    return Valued(registers, len(places), len(window), hits / max(1, len(places)))
