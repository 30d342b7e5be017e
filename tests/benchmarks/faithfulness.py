"""Do the values in the records say what the lists would lose? A vote of ten equal neighbours beside the vote that lists are made by.

The records value past sessions by the share of the K = 10 nearest that hold the item that came next; lists are made by up to 500 nearest,
whose votes are weighed by similarity and by how near the item stands. The assets of a log's older part are valued on its newer part by
votes of 10, 100 and 500, and each is left out of the session index that serves, whose lists of 20 are then judged on the same items: hit
rate and MRR with it, less those without. Reported are the rank correlations of the assets of each dimension between these.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from models.profiles.interest import ANCHOR_LIMIT, POSITION_DECAY
from models.retrieval.session_index import SessionIndex
from models.retrieval.session_votes import BLENDED
from models.simulation.storefront import Storefront, StorefrontOptions
from models.valuation.register import Register, fold
from streams.evaluation.registers import DIMENSIONS, NextItem, Parts, Visit, neighbours_of, next_items, read_visits, split_visits, teach
from streams.replay import open_dataset
from streams.replay.record import ReplayEvent
from tests.benchmarks.report import Report

Float64 = NDArray[np.float64]

EVENTS = 60_000
TESTS = 2_000
VOTES = (10, 100, 500)
SHARE = 0.2
_LISTED = 20
_GAP_MS = 30 * 60_000
#: Fewer assets than these have no order to speak of.
_LEAST_ASSETS = 4


class Faithfulness(NamedTuple):
    """Of one dimension with g assets, float64[g] each: ``points`` and ``leave_one_out`` by the K of the vote, and ``hits`` and ``mrr``:
    what the lists of 20 served lose without the asset's visits.
    """

    assets: list[str]
    points: dict[int, Float64]
    leave_one_out: dict[int, Float64]
    hits: Float64
    mrr: Float64


def compare(
    parts: Parts, category: Mapping[str, str], tests: int = TESTS, votes: Sequence[int] = VOTES, dimensions: Sequence[str] = DIMENSIONS
) -> dict[str, Faithfulness]:
    """By dimension, of those with four assets or more. Assets beyond the eleven of most visits count as one, as in the register."""
    window, names = teach(parts.train, parts.cut_ms, category, head=max(votes))
    ids = window.ids
    owners = window.assets(ids)
    judged = list(next_items(parts.test, tests))
    dimensions = [one for one in dimensions if len(names[one]) >= _LEAST_ASSETS]
    columns = {one: owners[:, DIMENSIONS.index(one)] for one in dimensions}
    registers = {(one, k): Register(one, ids, columns[one], names[one], k, shuffles=0) for one in dimensions for k in votes}
    for test in judged:
        found = neighbours_of(window, test)
        for register in registers.values():
            register.take(found)
    rows = _numbered(parts.train)
    whole = served(parts.train, judged, rows)
    result = {}
    for one in dimensions:
        owner, assets = fold(columns[one], names[one])
        lines = {k: {line.asset: line for line in registers[one, k].lines()} for k in votes}
        lost = np.array(
            [
                whole - served([visit for visit, own in zip(parts.train, owner, strict=True) if own != asset], judged, rows)
                for asset in range(len(assets))
            ]
        )
        result[one] = Faithfulness(
            assets,
            {k: np.array([lines[k][asset].points for asset in assets]) for k in votes},
            {k: np.array([lines[k][asset].leave_one_out for asset in assets]) for k in votes},
            *lost.T,
        )
    return result


def _numbered(visits: Sequence[Visit]) -> dict[str, int]:
    return {sku: row for row, sku in enumerate(dict.fromkeys(sku for visit in visits for sku in visit.skus))}


def served(train: Sequence[Visit], judged: Sequence[NextItem], rows: Mapping[str, int]) -> Float64:
    """float64[2]: hit rate and MRR at 20 of the lists that the serving session index makes for the tests, having learned ``train``."""
    index = SessionIndex(BLENDED)
    sizes = [len(visit.skus) for visit in train]
    index.add(
        np.repeat(np.arange(len(train)), sizes),
        np.array([rows[sku] for visit in train for sku in visit.skus], np.int32),
        np.array([at_ms for visit in train for at_ms in visit.at_ms], np.int64),
    )
    anchors = np.full((len(judged), ANCHOR_LIMIT), -1, np.int32)
    weights = np.zeros((len(judged), ANCHOR_LIMIT), np.float32)
    for place, test in enumerate(judged):
        # An anchor that no visit holds meets nobody, and keeps its place in the decay: as in the window of neighbours.
        known = [
            (rows[sku], POSITION_DECAY**age) for age, sku in enumerate(list(dict.fromkeys(test.anchors))[:ANCHOR_LIMIT]) if sku in rows
        ]
        for column, (row, weight) in enumerate(known):
            anchors[place, column], weights[place, column] = row, weight
    labels = np.array([rows.get(test.label, -2) for test in judged])
    now_ms = np.array([test.at_ms for test in judged], np.int64)
    voted = index.vote(anchors, weights, np.full(len(judged), -1, np.int64), now_ms, _LISTED)
    hit = voted.rows == labels[:, None]
    return np.array([hit.any(axis=1).mean(), (hit / np.arange(1, hit.shape[1] + 1)).sum(axis=1).mean()])


def agreement(found: Faithfulness, k: int = VOTES[0]) -> list[dict[str, object]]:
    """Rank correlations, -1..1, of the assets' points, and of what leaving them out costs, in a vote of ``k`` with each other yardstick
    that tells them apart.
    """
    others = {f"points, K = {votes}": (found.points[k], points) for votes, points in found.points.items() if votes != k}
    others |= {
        f"leave one out, K = {votes}": (found.leave_one_out[k], absent) for votes, absent in found.leave_one_out.items() if votes != k
    }
    for what, lost in (("hit rate", found.hits), ("MRR", found.mrr)):
        others[f"points with {what} lost by served lists"] = found.points[k], lost
        others[f"leave one out with {what} lost by served lists"] = found.leave_one_out[k], lost
    return [
        {"beside": name, "spearman": float(spearmanr(ours, theirs).statistic), "kendall": float(kendalltau(ours, theirs).statistic)}
        for name, (ours, theirs) in others.items()
        if np.ptp(ours) and np.ptp(theirs)  # what is all alike has no order
    ]


def _simulated(events: int) -> tuple[Iterable[ReplayEvent], dict[str, str]]:
    shop = Storefront(options=StorefrontOptions(fault_share=0.0))
    records = islice(shop.records(), events)
    categories = {product.sku: product.category_path[0] for product in shop.catalogue.products}
    return (ReplayEvent(one.key or b"", one.value or b"", one.occurred_ms, "") for one in records), categories


def _recorded(name: str, path: Path, events: int) -> tuple[Iterable[ReplayEvent], dict[str, str]]:
    log = open_dataset(name, path, limit=events)
    return log.events(), {product.sku: product.category_path[0] for product in log.catalogue().products if product.category_path}


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``: the first ``events`` (60,000) of a simulated storefront, and where ``ASSAY_DATA`` is set of the public
    data sets in it. Nothing is drawn by chance and nothing is timed, so once is enough. Needs no broker.
    """
    size = events or EVENTS
    logs = {"simulated storefront": _simulated(size)}
    if "ASSAY_DATA" in os.environ:
        folder = Path(os.environ["ASSAY_DATA"])
        paths = {"online-retail": folder / "online_retail" / "online_retail.csv.gz", "diginetica": folder / "diginetica"}
        logs |= {name: _recorded(name, path, size) for name, path in paths.items() if path.exists()}
    rows: list[dict[str, object]] = []
    remarks = []
    for log, (told, category) in logs.items():
        parts = split_visits(read_visits(told, _GAP_MS), SHARE)
        for dimension, found in compare(parts, category).items():
            rows += [{"log": log, "dimension": dimension, "assets": len(found.assets), **row} for row in agreement(found)]
        remarks.append(f"{log}: {len(parts.train):,} visits are valued, the next items of {len(parts.test):,} are the tests")
    return Report("faithfulness", rows, remarks)
