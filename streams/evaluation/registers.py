"""What each asset of the older part of a log did for predicting the newer: visits, their assets, and the register over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np

from models.profiles.profile import TYPE_CODES
from models.retrieval.session_votes import BLENDED
from models.valuation.assets import UNCATEGORISED
from models.valuation.neighbours import HEAD, EmbeddingNeighbours, Neighbours, SessionNeighbours
from models.valuation.register import Register
from streams.agents.shoppers import Shopper
from streams.evaluation.touches import read_touch
from streams.replay.record import ReplayEvent

#: A visit has one asset in each. ``age`` is that of its newest event when the tests begin; ``length`` its number of touches.
DIMENSIONS: Final = ("channel", "event_type", "category", "country", "segment", "age", "length")
UNKNOWN: Final = "unknown"
_MONTH_MS: Final = 30 * 86_400_000
_LENGTHS: Final = (2, 5, 10, 20, 50)


@dataclass(slots=True)
class Visit:
    """What one shopper touched without a pause longer than the session gap. ``kinds``: events by type; ``segment``: as the log says, or
    else anonymous, or the shopper's first visit, or a later one.
    """

    name: str
    shopper: str
    channel: str
    country: str
    segment: str
    skus: list[str] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)


def read_visits(events: Iterable[ReplayEvent], gap_ms: int) -> list[Visit]:
    """The visits of a log in the order in which they began. An item touched several times in a row counts once."""
    visits: list[Visit] = []
    current: dict[Shopper, Visit] = {}
    for event in events:
        found = read_touch(event.value, TYPE_CODES)
        if found is None:
            continue
        shopper, fields = found
        visit = current.get(shopper)
        if visit is None or event.at_ms - visit.at_ms[-1] > gap_ms:
            visit = current[shopper] = _begun(len(visits), shopper, fields, first=visit is None)
            visits.append(visit)
        visit.kinds[fields["type"]] += 1
        if not visit.skus or visit.skus[-1] != fields["sku"]:
            visit.skus.append(fields["sku"])
            visit.at_ms.append(event.at_ms)
        else:
            visit.at_ms[-1] = max(visit.at_ms[-1], event.at_ms)
    return visits


def _begun(number: int, shopper: Shopper, fields: Mapping[str, Any], *, first: bool) -> Visit:
    segment = fields.get("segment") or ("anonymous" if shopper.anonymous else "first visit" if first else "returning")
    return Visit(str(number), shopper.name, str(fields.get("channel") or UNKNOWN), str(fields.get("country") or UNKNOWN), str(segment))


@dataclass(frozen=True, slots=True)
class Parts:
    """``train``: visits that were over before the first of ``test`` began, at ``cut_ms``; those under way then are in neither."""

    train: list[Visit]
    test: list[Visit]
    cut_ms: int


def split_visits(visits: Sequence[Visit], share: float) -> Parts:
    """The newest ``share`` of the visits, by when they began, and what was over before."""
    ordered = sorted(visits, key=lambda visit: visit.at_ms[0])
    cut = len(ordered) - round(len(ordered) * share)
    cut_ms = ordered[cut].at_ms[0] if cut < len(ordered) else 0
    return Parts([visit for visit in ordered[:cut] if visit.at_ms[-1] < cut_ms], ordered[cut:], cut_ms)


def month_of(at_ms: int, cut_ms: int) -> str:
    """The name of an age when the tests begin: the first month is that before them.

    >>> month_of(0, 1), month_of(0, 31 * 86_400_000)
    ('month 1', 'month 2')
    """
    return f"month {(cut_ms - at_ms) // _MONTH_MS + 1}"


def assets_of(visit: Visit, cut_ms: int, category: Mapping[str, str]) -> dict[str, str]:
    """The asset of a visit in each of ``DIMENSIONS``: its most frequent type and category (the first to come of equal ones), the month of
    its age at ``cut_ms``. ``category`` is that of a SKU.
    """
    touches = len(visit.skus)
    bounds = [0, *_LENGTHS]
    length = next((f"{low + 1}-{high}" for low, high in pairwise(bounds) if touches <= high), f"over {bounds[-1]}")
    categories = Counter(category.get(sku, UNCATEGORISED) for sku in visit.skus)
    return {
        "channel": visit.channel, "event_type": visit.kinds.most_common(1)[0][0], "category": categories.most_common(1)[0][0],
        "country": visit.country, "segment": visit.segment, "age": month_of(visit.at_ms[-1], cut_ms), "length": length,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class NextItem:
    """A test: what ``visit`` had touched, newest first, and the item that came next, at a time in ms."""

    visit: Visit
    anchors: list[str]
    label: str
    at_ms: int


def next_items(visits: Sequence[Visit], most: int) -> Iterator[NextItem]:
    """In the order of the visits each item but the first; at most ``most`` tests, spread evenly."""
    places = [(number, place) for number, visit in enumerate(visits) for place in range(1, len(visit.skus))]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int)) if places else []
    for one in chosen:
        number, place = places[int(one)]
        visit = visits[number]
        yield NextItem(visit, visit.skus[place - 1 :: -1], visit.skus[place], visit.at_ms[place])


@dataclass(frozen=True, slots=True)
class Valued:
    """The registers, one a dimension, and the hit rate of the ``k`` nearest visits' vote beside that of popularity."""

    registers: dict[str, Register]
    tests: int
    rows: int
    hits: float


def teach(
    train: Sequence[Visit], cut_ms: int, category: Mapping[str, str], head: int = HEAD
) -> tuple[SessionNeighbours, dict[str, list[str]]]:
    """A window of all ``train`` visits, and by dimension the names of their assets, by number. ``head``: nearest ones put in order."""
    window = SessionNeighbours(max(1, len(train)), BLENDED, head=head, dimensions=len(DIMENSIONS))
    names: dict[str, dict[str, int]] = {dimension: {} for dimension in DIMENSIONS}
    for visit in train:
        numbers = numbered(names, assets_of(visit, cut_ms, category))
        window.add(visit.name, visit.shopper, visit.skus, visit.at_ms[-1], numbers)
    return window, {dimension: list(its) for dimension, its in names.items()}


def numbered(names: Mapping[str, dict[str, int]], assets: Mapping[str, str]) -> list[int]:
    """The numbers of a row's ``assets``, in the order of the dimensions of ``names``, which gets those that are new."""
    return [numbers.setdefault(assets[dimension], len(numbers)) for dimension, numbers in names.items()]


def registers_of(
    window: SessionNeighbours | EmbeddingNeighbours, names: Mapping[str, Iterable[str]], dimensions: Sequence[str], k: int, shuffles: int
) -> dict[str, Register]:
    """Registers over the rows of a window that is taught, in ``dimensions``. ``names``: the assets of all its dimensions, by number."""
    ids = window.ids
    owners = window.assets(ids)
    places = list(names)
    return {one: Register(one, ids, owners[:, places.index(one)], list(names[one]), k, shuffles=shuffles) for one in dimensions}


def value_visits(
    parts: Parts,
    category: Mapping[str, str],
    dimensions: Sequence[str],
    *,
    k: int,
    tests: int,
    shuffles: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Valued:
    """Value the assets of ``parts.train`` in ``dimensions`` on at most ``tests`` items that came next in ``parts.test``. ``progress`` is
    told how many are done.
    """
    window, names = teach(parts.train, parts.cut_ms, category)
    registers = registers_of(window, names, dimensions, k, shuffles)
    hits, done = 0.0, 0
    for test in next_items(parts.test, tests):
        found = neighbours_of(window, test)
        for register in registers.values():
            register.take(found)
        hits += float(found.match[:k].sum()) / k
        done += 1
        progress(done)
    return Valued(registers, done, len(window), hits / max(1, done))


def neighbours_of(window: SessionNeighbours, test: NextItem) -> Neighbours:
    """What ``window`` says of one test."""
    return window.neighbours(test.visit.name, test.visit.shopper, test.anchors, test.label, test.at_ms)
