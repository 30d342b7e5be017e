"""What KNN-Shapley costs an outcome, beside pyDVL on the same rows, and how well it finds flipped labels.

Ours values one outcome at a time, as a stream brings them; pyDVL a batch. CPU time of one core on both sides, by stage: ``values``
has the order of the rows given, ``sort`` their distances, ``whole`` only the embeddings.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.valuation import PLAYER_LIMIT, asset_game, knn_shapley, leave_one_out, truncated
from models.valuation.appraisal import OVERALL, Appraiser, Happening, Rules
from models.valuation.panes import TOTAL
from tests.benchmarks.noise_triage import SETS, triage
from tests.benchmarks.peers import PYDVL_PYTHON, pydvl_command
from tests.benchmarks.report import Report, medians

SIZES: Final = (2_000, 10_000)
DIMENSIONS: Final = 64
CLASSES: Final = 10
K: Final = 10
HEAD: Final = 256
_OUTCOMES: Final = 2_000
#: Outcomes that pyDVL is given for each of ours: what it takes an outcome does not depend on their number.
_PEER_SHARE: Final = 40
#: Outcomes are taken in turn from this many.
_DISTINCT: Final = 50


@dataclass(frozen=True, slots=True)
class Rows:
    """``x`` [n, d] with labels ``y``, tests likewise, and what is known of them beforehand at later stages."""

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    x_test: NDArray[np.float64]
    y_test: NDArray[np.int64]

    @classmethod
    def random(cls, rows: int, seed: int) -> Rows:
        chance = np.random.default_rng(seed)
        return cls(
            chance.normal(size=(rows, DIMENSIONS)), chance.integers(0, CLASSES, rows),
            chance.normal(size=(_DISTINCT, DIMENSIONS)), chance.integers(0, CLASSES, _DISTINCT),
        )  # fmt: skip


def _ours(rows: int, repetition: int, outcomes: int) -> Iterator[dict[str, object]]:
    data = Rows.random(rows, repetition)
    x, y, x_test, y_test = data.x, data.y, data.x_test, data.y_test
    squares = (x**2).sum(axis=1)
    counts = np.bincount(y, minlength=CLASSES)

    def distances(test: int) -> NDArray[np.float64]:
        return squares - 2 * (x @ x_test[test])  # from the test, less a constant

    def exact(away: NDArray[np.float64], test: int) -> NDArray[np.float64]:
        return knn_shapley(y[np.argsort(away, kind="stable")] == y_test[test], K)

    def cut(away: NDArray[np.float64], test: int) -> object:
        head = np.argpartition(away, HEAD)[:HEAD]
        match = y[head[np.lexsort((head, away[head]))]] == y_test[test]
        return truncated(match, int(counts[y_test[test]] - match.sum()), rows - HEAD, K)

    known = [distances(test) for test in range(_DISTINCT)]
    match = np.array([y[np.argsort(away, kind="stable")] for away in known]) == y_test[:, None]
    stages: dict[tuple[str, str], Callable[[int], object]] = {
        ("exact", "values"): lambda test: knn_shapley(match[test], K),
        ("exact", "sort"): lambda test: exact(known[test], test),
        ("exact", "whole"): lambda test: exact(distances(test), test),
    }
    if rows == SIZES[-1]:
        stages["truncated", "values"] = lambda test: truncated(match[test, :HEAD], int(match[test, HEAD:].sum()), rows - HEAD, K)
        stages["truncated", "sort"] = lambda test: cut(known[test], test)
        stages["truncated", "whole"] = lambda test: cut(distances(test), test)
    for (job, stage), one in stages.items():
        yield _row("assay", job, stage, f"{rows:,} rows", _cpu_us(one, outcomes), "us an outcome")


def _games(repetition: int, outcomes: int) -> Iterator[dict[str, object]]:
    for function, sizes in ((asset_game, (3, 4, PLAYER_LIMIT)), (leave_one_out, (4, PLAYER_LIMIT, 64))):
        for assets in sizes:
            cost = _cpu_us(_game(function, assets, repetition), outcomes)
            yield _row("assay", function.__name__, "values", f"{assets} assets", cost, "us an outcome")


def _game(function: Callable[..., object], assets: int, seed: int) -> Callable[[int], object]:
    """``function`` of a head of ``HEAD`` rows, owned and matching at random, and some hundred rows of each asset beyond."""
    chance = np.random.default_rng(seed)
    owner, match = chance.integers(0, assets, (_DISTINCT, HEAD)), chance.integers(0, 2, (_DISTINCT, HEAD)).astype(np.float64)
    beyond = chance.integers(100, 1_000, assets)
    matching = chance.integers(0, beyond)
    return lambda test: function(owner[test], match[test], K, beyond, matching, assets)


def _window(repetition: int, outcomes: int) -> Iterator[dict[str, object]]:
    """The value worker's own: a window full of sessions, an event at a time, with its games in six dimensions and their sums."""
    appraiser, log = Appraiser(Rules(rows=SIZES[-1])), _visits(repetition)
    offset = 0
    while len(appraiser) < SIZES[-1]:
        offset += 1
        appraiser.take(offset, next(log))
        if offset % _OUTCOMES == 0:
            appraiser.sums()
            appraiser.changes()
    appraiser.sums()
    events = list(islice(log, outcomes))
    start = time.process_time()
    for number, event in enumerate(events, offset + 1):
        appraiser.take(number, event)
    tests = appraiser.sums()[TOTAL][OVERALL].tests
    yield _row(
        "assay", "window", "whole", f"{SIZES[-1]:,} rows, 6 dimensions", (time.process_time() - start) / tests * 1e6, "us an outcome"
    )


def _visits(seed: int) -> Iterator[Happening]:
    """Visits of two to five events, 200 of them at a time, about one of 3,000 bundles of related items each."""
    chance = random.Random(seed)
    at_ms, open_visits = 0, dict[int, tuple[str, list[str]]]()
    while True:
        at_ms += chance.choice([0, 200, 1_000, 4_000])
        place = chance.randrange(200)
        if not open_visits.get(place, ("", []))[1]:
            base = int(20 * chance.paretovariate(1.1)) % 3_000
            items = [f"s{base + int(chance.paretovariate(1.0)) % 60}" for _ in range(chance.randrange(2, 6))]
            open_visits[place] = f"u{chance.randrange(20_000)}", items
        shopper, items = open_visits[place]
        kind, sku = chance.choices(["browse", "click", "add_to_cart", "purchase"], [5, 4, 1, 2])[0], items.pop()
        names = (
            chance.choice(["web", "app", "store"]), kind, f"c{int(sku[1:]) % 17}", chance.choice(["GB"] * 8 + ["FR", "DE", "NL", "ES"]),
            chance.choice(["new", "returning", None]),
        )  # fmt: skip
        money = (Decimal("9.50"), "GBP") if kind == "purchase" else (None, None)
        yield Happening(at_ms, kind, shopper, sku, names, *money)


def _peer(rows: int, repetition: int, outcomes: int) -> Iterator[dict[str, object]]:
    data = Rows.random(rows, repetition)
    count = max(10, min(_DISTINCT, outcomes // _PEER_SHARE))
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, x=data.x, y=data.y, x_test=data.x_test[:count], y_test=data.y_test[:count], k=K)
        subprocess.run(pydvl_command(source, target), check=True, env=dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"))
        seconds = np.load(target)
        for stage in ("values", "sort", "whole"):
            yield _row("pyDVL", "exact", stage, f"{rows:,} rows", float(seconds[f"{stage}_s"]) / count * 1e6, "us an outcome")


def _triage(repetition: int) -> Iterator[dict[str, object]]:
    for name in SETS:
        for k in (5, K, 100):
            start = time.process_time()
            found = triage(name, k, repetition)
            seconds = time.process_time() - start
            for value, unit in ((100 * found.auroc, "AUROC, %"), (100 * found.f1, "F1, %"), (seconds, "s in all")):
                yield _row("assay", "noise triage", name, f"K = {k}", value, unit)


def _cpu_us(one: Callable[[int], object], outcomes: int) -> float:
    """CPU time of one call in us, the mean of ``outcomes``; one goes before, which compiles."""
    one(0)
    start = time.process_time()
    for number in range(outcomes):
        one(number % _DISTINCT)
    return (time.process_time() - start) / outcomes * 1e6


def _row(system: str, job: str, stage: str, size: str, value: float, unit: str) -> dict[str, object]:
    per_second = 1e6 / value if unit == "us an outcome" else None
    return {"system": system, "job": job, "stage": stage, "size": size, "value": value, "unit": unit, "per_second": per_second}


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """Measure; ``events`` is the number of outcomes a row and repetition. Needs no broker."""
    outcomes = events or _OUTCOMES
    rows: list[dict[str, object]] = []
    with threadpool_limits(1):
        for repetition in range(repetitions):
            for size in SIZES:
                rows += _ours(size, repetition, outcomes)
                if PYDVL_PYTHON in os.environ:
                    rows += _peer(size, repetition, outcomes)
            rows += _games(repetition, outcomes)
            rows += _window(repetition, outcomes)
            rows += _triage(repetition)
    results = medians(rows, ("system", "job", "stage", "size", "unit"))
    return Report("valuation", results, (*_ratios(results), "K = 10 and a head of 256 rows unless said otherwise"))


def _ratios(results: list[dict[str, object]]) -> Iterator[str]:
    """How many times as long pyDVL takes as our exact values, by stage and size."""
    if PYDVL_PYTHON not in os.environ:
        yield f"pyDVL was not measured: set {PYDVL_PYTHON} to the python of an environment with it"
    cost = {(row["system"], row["job"], row["stage"], row["size"]): float(str(row["value"])) for row in results}
    for (system, job, stage, size), value in cost.items():
        if system == "pyDVL":
            yield f"{job}, {stage}, {size}: pyDVL takes {value / cost['assay', job, stage, size]:.1f} times as long"
