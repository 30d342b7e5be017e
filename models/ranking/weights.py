"""Weights of the sources as a file, and how they are found on snapshots of lists."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.files import write_whole
from models.ranking.fusion import DEFAULTS, Parameters
from models.ranking.lists import SOURCES
from models.ranking.tuning import tune
from models.watching import WatchedFolder

Weight = Annotated[float, Field(ge=0, le=1000)]
_K: Final = 20
#: Part of the snapshots, the newest, that says what tuning was worth.
_HELD_OUT: Final = 0.2


class WeightsError(ValueError):
    """A file that holds no weights."""


class Weights(BaseModel):
    """What each source counts, relative to the others (``fusion.Parameters``)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    similar: Weight = DEFAULTS.similar
    together: Weight = DEFAULTS.together
    sessions: Weight = DEFAULTS.sessions
    trending: Weight = DEFAULTS.trending
    again: Weight = DEFAULTS.again
    sequence: Weight = DEFAULTS.sequence
    query: Weight = DEFAULTS.query
    factors: Weight = DEFAULTS.factors

    @model_validator(mode="after")
    def _one_counts(self) -> Self:
        if not any(self.model_dump().values()):
            raise ValueError("at least one weight must be above 0")
        return self

    @property
    def parameters(self) -> Parameters:
        """The defaults, with these weights."""
        return DEFAULTS._replace(**self.model_dump())

    @property
    def digest(self) -> str:
        """Says in every record which weights made it: equal weights, equal digests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def save(self, path: Path) -> None:
        """As JSON, in one go."""
        write_whole(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """As ``save`` wrote it. Raises ``WeightsError`` that says what is wrong where."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
            raise WeightsError(f"{path} holds no weights of sources ({faults}); make one with: assay tune --out {path}") from None


def watch_weights(path: Path) -> WatchedFolder[Weights]:
    """The weights of the file ``path``, and those that come after them. Raises ``WeightsError`` if there are none to begin with."""
    return WatchedFolder(path.parent, path.name, lambda folder: Weights.load(folder / path.name), WeightsError)


def reciprocal_ranks(starts: NDArray[np.int64], scores: NDArray[np.floating], right: NDArray[np.bool_], k: int = _K) -> NDArray[np.float64]:
    """float64[n] of n lists by falling score, 0 where the right candidate is missing or beyond ``k``. Equal scores count as ranked before
    it.

    ``starts`` int64[n + 1]: candidates of list i are ``scores[starts[i] : starts[i + 1]]``, of which at most one is ``right``.
    """
    lists = len(starts) - 1
    owner = np.repeat(np.arange(lists), np.diff(starts))
    target = np.full(lists, np.inf)
    target[owner[right]] = scores[right]
    ranks = np.bincount(owner, weights=scores >= target[owner], minlength=lists)
    found = np.isfinite(target) & (ranks <= k)
    return np.divide(1.0, ranks, out=np.zeros(lists), where=found)


def mean_reciprocal_rank(starts: NDArray[np.int64], scores: NDArray[np.floating], right: NDArray[np.bool_], k: int = _K) -> float:
    """The mean of ``reciprocal_ranks``."""
    return float(reciprocal_ranks(starts, scores, right, k).sum()) / max(1, len(starts) - 1)


def tune_weights(
    starts: NDArray[np.int64], features: NDArray[np.float32], right: NDArray[np.bool_], trials: int, seed: int = 0
) -> tuple[Weights, dict[str, Any]]:
    """Weights of the highest MRR at 20 on n snapshots (``candidates.NAMES``, taken under the default weights), oldest first, and what the
    newest fifth, which had no say, says of them and of the defaults. A source that says nothing on the others (``not_tuned``) keeps its
    default; the weights of those that do sum to what their defaults sum to. Raises ``ValueError`` if no list holds what came next.
    """
    lists = len(starts) - 1
    border = lists - round(lists * _HELD_OUT)
    end = int(starts[border])
    given = np.array([getattr(DEFAULTS, source) for source in SOURCES], dtype=np.float32)
    # A share is the source's value times its weight: what is left is the value.
    values = features[:, : len(SOURCES)] / given
    # Whatever a silent source weighs, these lists stay the same: its tuned weight would be chance.
    speaks = np.asarray(values[:end].any(axis=0))
    if not right[:end].any() or not speaks.any() or border == lists:
        raise ValueError("no list to learn from holds what came next: there is nothing to tune by")

    def judged(part: slice, bounds: NDArray[np.int64], weights: NDArray[np.float32]) -> float:
        return mean_reciprocal_rank(bounds, values[part] @ weights, right[part])

    def with_silent(weights: NDArray[np.float32]) -> NDArray[np.float32]:
        everything = given.copy()
        everything[speaks] = weights
        return everything

    names = [source for source, says in zip(SOURCES, speaks, strict=True) if says]
    learned, held = slice(0, end), slice(end, None)
    best = tune(names, lambda weights: judged(learned, starts[: border + 1], with_silent(weights)), trials=trials, seed=seed)
    found = np.array([best[source] for source in names], dtype=np.float32)
    chosen = with_silent(found * given[speaks].sum() / found.sum())
    bounds = starts[border:] - end
    weights = Weights(**{source: round(weight, 4) for source, weight in zip(SOURCES, chosen.tolist(), strict=True)})
    return weights, {
        "lists": lists,
        "held_out": lists - border,
        "mrr_at_20": round(judged(held, bounds, chosen), 4),
        "mrr_at_20_before": round(judged(held, bounds, given), 4),
        "not_tuned": [source for source in SOURCES if source not in names],
    }
