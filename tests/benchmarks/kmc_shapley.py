"""Values of past sessions: ours in closed form beside KMC-Shapley, the Monte Carlo estimate on the same neighbours, on Diginetica.

KMC-Shapley (Kersbergen et al., Illoominate, 2025) goes through random orders of the training sessions. For each test the sessions that
share an item with it are offered one by one, in that order, to its K nearest so far; only one that gets in changes the utility, and is
credited with the change. From 100 orders on, every 10, it stops where the running means of the last 100 differ from the newest by less
than a tenth on average (``_error``, as published). It is written here for this comparison, on the utility of ours (the share of the K
that hold what came next), which costs it less than the lists of its own: its loop is compiled, like ours, and runs on one thread.
"""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from models.compilation import compiled
from models.evaluation.dataset import Sequences, read_dataset
from models.evaluation.methods import SESSION_STEP
from models.retrieval.session_votes import BLENDED
from models.valuation.knn_shapley import knn_shapley
from models.valuation.neighbours import HEAD, Neighbours, SessionNeighbours
from models.valuation.truncation import truncated
from tests.benchmarks.peers import PeerUnavailable
from tests.benchmarks.report import Report

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

SESSIONS = 100_000
TESTS = 5_000
K = 10
_LEAST_ORDERS = 100
_MOST_ORDERS = 1_000
_EVERY = 10
_TOLERANCE = 0.1
#: After that many seconds Monte Carlo ends, converged or not.
_PATIENCE_S = 420.0


class Asked(NamedTuple):
    """t tests end to end: the sessions near to test i, nearest first, are ``rows[starts[i] : starts[i + 1]]``; ``match``: they hold its
    label.
    """

    starts: Int64
    rows: Int64
    match: NDArray[np.bool_]


def asked(train: Sequences, later: Sequences, tests: int, head: int) -> Iterator[Neighbours]:
    """The neighbours of the next clicks of ``later`` sessions, ``tests`` of them spread evenly, among the ``train`` sessions."""
    window = SessionNeighbours(len(train), BLENDED, head=head)
    for number in range(len(train)):
        window.add(str(number), str(number), train[number].tolist(), number * SESSION_STEP)
    places = [(number, place) for number in range(len(later)) for place in range(1, len(later[number]))]
    for one in np.linspace(0, len(places) - 1, min(tests, len(places))).astype(int).tolist():
        number, place = places[one]
        session = later[number].tolist()
        yield window.neighbours(None, None, session[place - 1 :: -1], session[place], (len(train) + number) * SESSION_STEP)


def joined(found: list[Neighbours]) -> Asked:
    """As arrays for Monte Carlo."""
    starts = np.cumsum([0, *(len(one.rows) for one in found)])
    return Asked(starts, np.concatenate([one.rows for one in found]), np.concatenate([one.match for one in found]))


def monte_carlo(
    tests: Asked, sessions: int, k: int, *, seed: int = 0, tolerance: float = _TOLERANCE, most: int = _MOST_ORDERS,
    patience_s: float = _PATIENCE_S,
) -> tuple[Float64, int, float]:  # fmt: skip
    """(values float64[sessions], orders gone through, the error at which it ended). Values are per test."""
    chance = np.random.default_rng(seed)
    total = np.zeros(sessions)
    means: list[Float64] = []
    error, began = float("inf"), time.perf_counter()
    for orders in range(1, most + 1):
        gained = np.zeros(sessions)
        _one_order(chance.permutation(sessions), *tests, k, gained)
        total += gained / (len(tests.starts) - 1)
        means = [*means[-99:], total / orders]
        if orders >= _LEAST_ORDERS and orders % _EVERY == 0:
            error = _error(means)
            if error < tolerance or time.perf_counter() - began > patience_s:
                break
    return total / orders, orders, error


def _error(means: list[Float64]) -> float:
    """The largest, over the last 100 running means, of the mean relative distance to the newest."""
    newest = means[-1]
    scale = np.maximum(np.abs(newest), 1e-12)
    return max(float(np.mean(np.abs((one - newest) / scale + 1e-12))) for one in means)


@compiled
def _one_order(place, starts, rows, match, k, gained):  # type: ignore[no-untyped-def]
    """Into ``gained`` what each session changes when the sessions come in the order of their ``place``."""
    best = np.empty(k, np.int64)
    for i in range(len(starts) - 1):
        first = starts[i]
        count = starts[i + 1] - first
        order = np.argsort(place[rows[first : starts[i + 1]]])
        held = 0
        worst = 0
        for n in range(count):
            # A session's number among the near ones says how near it is.
            near = order[n]
            change = 0.0
            if held < k:
                best[held] = near
                held += 1
                change = match[first + near] / k
            elif near < best[worst]:
                change = (np.float64(match[first + near]) - np.float64(match[first + best[worst]])) / k
                best[worst] = near
            else:
                continue
            gained[rows[first + near]] += change
            worst = 0
            for j in range(1, held):
                if best[j] > best[worst]:
                    worst = j
            if held == k and best[worst] == k - 1:
                break  # the nearest of all are in: nothing gets in any more


def exact(found: list[Neighbours], sessions: int, k: int) -> Float64:
    """The values that Monte Carlo estimates, in closed form."""
    values = np.zeros(sessions)
    for one in found:
        values[one.rows] += knn_shapley(one.match, k)
    return values / len(found)


def ours(found: list[Neighbours], sessions: int, k: int) -> Float64:
    """The values that go into the books: of all sessions, those that are not near in no known order, centred on popularity."""
    values, common = np.zeros(sessions), 0.0
    for one in found:
        beyond, few = sessions - len(one.rows), len(one.beyond)
        part = truncated(one.match, few, beyond, k)
        common += part.unmatched - (int(one.match.sum()) + few) / sessions**2
        values[one.rows] += part.head - part.unmatched
        values[one.beyond] += part.matched - part.unmatched
    return (values + common) / len(found)


class Spent(NamedTuple):
    """Seconds on the clock and of the processor."""

    wall_s: float
    cpu_s: float


def _timed(work: Callable[[], Any]) -> tuple[Any, Spent]:
    began, busy = time.perf_counter(), time.process_time()
    result = work()
    return result, Spent(time.perf_counter() - began, time.process_time() - busy)


def _peak_mb(work: Callable[[], Any]) -> float:
    """Of what ``work`` allocates. Not timed: counting takes time."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return peak


def run(repetitions: int = 3, events: int | None = None, bootstrap_servers: str | None = None) -> Report:
    """See ``streams.cli.bench``: ``events`` sessions (100,000). Needs no broker, and Diginetica at ``ASSAY_DATA`` (see README)."""
    folder = Path(os.environ.get("ASSAY_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "diginetica"
    file = folder / "train_sessions.txt.gz"
    if not file.is_file():
        raise PeerUnavailable(f"{file} is missing; set ASSAY_DATA to the folder of the public data sets (README says where they are)")
    sequences = read_dataset(file, None).train
    sessions = min(events or SESSIONS, len(sequences) - 1_000)
    train, later = sequences.slice(0, sessions), sequences.slice(sessions, min(len(sequences), sessions + 5_000))

    whole, found = _timed(lambda: list(asked(train, later, TESTS, head=sessions)))
    head = list(asked(train, later, TESTS, head=HEAD))
    tests = joined(whole)
    # Once each before anything is timed: loops are compiled on their first call.
    monte_carlo(joined(whole[:2]), sessions, K, most=1)
    exact(whole[:2], sessions, K), ours(head[:2], sessions, K)

    closed = [_timed(lambda: exact(whole, sessions, K)) for _ in range(repetitions)]
    booked = [_timed(lambda: ours(head, sessions, K)) for _ in range(repetitions)]
    (estimated, orders, error), spent = _timed(lambda: monte_carlo(tests, sessions, K))
    in_closed_form, exact_spent = closed[0][0], _median([one for _, one in closed])
    in_the_books, books_spent = booked[0][0], _median([one for _, one in booked])
    kmc_mb = _peak_mb(lambda: monte_carlo(tests, sessions, K, most=_LEAST_ORDERS))
    near = np.unique(tests.rows)

    def row(method: str, values: Float64, took: Spent, peak_mb: float, **more: object) -> dict[str, object]:
        off = np.abs(values - in_closed_form)[near].max() / np.abs(in_closed_form).max()
        return {
            "system": "assay" if not more else "KMC-Shapley", "method": method, "sessions": sessions, "tests": len(whole),
            "cpu_s": round(took.cpu_s, 3), "wall_s": round(took.wall_s, 3), "cpu_ms_per_test": 1e3 * took.cpu_s / len(whole),
            "peak_mb": round(peak_mb, 1), "spearman_with_exact": round(float(spearmanr(values[near], in_closed_form[near]).statistic), 4),
            "largest_error_pct": 100 * float(off), "orders": more.get("orders"), "error": more.get("error"),
        }  # fmt: skip

    rows = [
        row("closed form, same game", in_closed_form, exact_spent, _peak_mb(lambda: exact(whole, sessions, K))),
        row(f"truncated at {HEAD}, centred", in_the_books, books_spent, _peak_mb(lambda: ours(head, sessions, K))),
        row("Monte Carlo, same game", estimated, spent, kmc_mb, orders=orders, error=error),
    ]  # fmt: skip
    least = spent.cpu_s * min(1.0, _LEAST_ORDERS / orders)
    return Report(
        "kmc", rows,
        (
            f"Diginetica, first {sessions:,} sessions, K = {K}; {len(near):,} sessions are near to one of the {len(whole):,} tests, "
            f"{len(tests.rows) / len(whole):.0f} a test; to fill the window and find them took {found.cpu_s:.1f} s of CPU, once for all",
            f"KMC-Shapley takes {spent.cpu_s / exact_spent.cpu_s:,.0f} times the CPU of the closed form of the same game "
            f"({least / exact_spent.cpu_s:,.0f} at its least of {_LEAST_ORDERS} orders), {spent.cpu_s / books_spent.cpu_s:,.0f} times that "
            f"of the books; with the finding of neighbours {(spent.cpu_s + found.cpu_s) / (exact_spent.cpu_s + found.cpu_s):,.1f} times",
            f"Monte Carlo ended at {orders:,} orders, "
            + (
                "converged" if error < _TOLERANCE
                else f"its error, {error:.2f}, above the goal of {_TOLERANCE}: it is relative, and sessions worth next to nothing rule it"
            ),
        ),
    )  # fmt: skip


def _median(spent: list[Spent]) -> Spent:
    return Spent(*(float(np.median(part)) for part in zip(*spent, strict=True)))
