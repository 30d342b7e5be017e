"""What lists would have shown before each event of a log, and what of it was taken up next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from models.evaluation.responses import Shown
from models.ranking.candidates import NAMES
from streams.evaluation.shop import InProcessShop
from streams.evaluation.snapshots import Snapshot, snapshots
from streams.replay.record import ReplayEvent


def collect_shown(
    shop: InProcessShop,
    events: Iterable[ReplayEvent],
    types: Sequence[str],
    *,
    batch: int,
    lists: int,
    listed: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Shown:
    """The newest ``lists`` snapshots (see ``snapshots.snapshots``), of each the first ``listed`` candidates: in the order of the blend, as
    a list would show them but for its rules and its diversity.
    """
    found: deque[Snapshot] = deque(maxlen=lists)
    for one in snapshots(shop, events, types, batch=batch, progress=progress):
        # A part of an array would keep all of it.
        found.append(one._replace(features=one.features[:listed].copy(), right=one.right[:listed].copy()))
    newest = sorted(found, key=lambda one: one.at_ms)
    sizes = [len(one.right) for one in newest]
    return Shown(
        np.array([one.at_ms for one in newest], np.int64),
        np.cumsum([0, *sizes]).astype(np.int64),
        np.concatenate([np.empty((0, len(NAMES)), np.float32), *(one.features for one in newest)]),
        np.concatenate([np.empty(0, np.bool_), *(one.right for one in newest)]),
    )
