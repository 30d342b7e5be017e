"""Every method that can be judged, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from models.evaluation.ensembles import FusedMethod, RankedMethod
from models.evaluation.methods import (
    Method,
    PopularityMethod,
    RepeatMethod,
    ReturnsMethod,
    RulesMethod,
    SessionIndexMethod,
    SessionPopularityMethod,
    Source,
)
from models.evaluation.neural import SequenceMethod
from models.sequence import Epoch, SequenceOptions

#: A window that no session outgrows.
_WHOLE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Training:
    """Where and how methods train what takes long: ``folder`` keeps trained sequence models (None: a temporary one), ``threads`` are for
    learning alone.
    """

    folder: Path | None = None
    device: str = "cpu"
    threads: int = 1
    options: SequenceOptions = field(default_factory=SequenceOptions)
    progress: Callable[[str, Epoch], None] = lambda part, epoch: None

    def sequence(self) -> SequenceMethod:
        """The sequence model."""
        return SequenceMethod(self.folder, options=self.options, device=self.device, progress=self.progress)


#: Known as association rules.
_cooccurrence = partial(RulesMethod, "co-occurrence", window=_WHOLE, both_ways=True, by_distance=False, recent=1)
_sequential = partial(RulesMethod, "sequential-rules", window=10, both_ways=False, by_distance=True, recent=1)
_decayed = partial(RulesMethod, "decayed-rules", window=10, both_ways=False, by_distance=True, recent=10, decay=0.6)


def _suggesting() -> list[Source]:
    """Learned in one pass, click by click."""
    return [SessionIndexMethod(), _decayed(), _sequential()]


def _live() -> list[Source]:
    """The same, and what the session itself says."""
    return [*_suggesting(), ReturnsMethod()]


_BASELINES: Final[dict[str, Callable[[Training], Method]]] = {
    "popularity": lambda _: PopularityMethod(),
    "session-popularity": lambda _: SessionPopularityMethod(),
    "repeat-only": lambda _: RepeatMethod(),
    "co-occurrence": lambda _: _cooccurrence(),
    "sequential-rules": lambda _: _sequential(),
    "decayed-rules": lambda _: _decayed(),
}
_FACTORIES: Final[dict[str, Callable[[Training], Method]]] = _BASELINES | {
    "session-index": lambda _: SessionIndexMethod(),
    "returns": lambda _: ReturnsMethod(),
    "fused": lambda _: FusedMethod("fused", _suggesting(), ReturnsMethod()),
    "ranked-live": lambda training: RankedMethod("ranked-live", _live(), training.threads),
    "sequence": lambda training: training.sequence(),
    "ranked": lambda training: RankedMethod("ranked", [*_live(), training.sequence()], training.threads),
}
#: Names of the methods: baselines, what is learned live, what is trained.
METHODS: Final = tuple(_FACTORIES)
BASELINES: Final = tuple(_BASELINES)


def create_method(name: str, training: Training | None = None) -> Method:
    """One of ``METHODS``, untaught. Raises ``KeyError`` for any other name."""
    return _FACTORIES[name](training or Training())
