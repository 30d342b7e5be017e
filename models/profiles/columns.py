"""A micro-batch of profiles as flat arrays: what the compiled loops of retrieval and ranking read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from models.profiles.profile import ITEM_TYPES, RECENT_SIZE, SEEN, TYPE_BITS, UNTOLD, Profile

_BOUGHT_DTYPE = np.dtype([("purchases", "<u4"), ("units", "<u4"), ("at", "<i8")])

Rows = Callable[[Sequence[str]], NDArray[np.int32]]
#: What a recent item counts, 0..1, by its source: the channel that its event came by, and the event's type.
Trust = Callable[[tuple[str, str]], float]


@dataclass(frozen=True, slots=True)
class ProfileColumns:
    """n profiles; entries of profile i are at ``*_start[i]:*_start[i + 1]``. Rows are int32, -1 where the item table has none.

    ``now_ms`` int64[n] is the shopper's newest event time: age is measured on the clock of the events, so that an old log replays
    like a live one. ``affinity_category`` holds codes of the item table's categories. ``recent_trust``: what the source of each recent item
    counts, 0..1; empty: all alike.
    """

    now_ms: NDArray[np.int64]
    recent_start: NDArray[np.int64]
    recent_row: NDArray[np.int32]
    recent_at: NDArray[np.int64]
    recent_type: NDArray[np.int8]
    recent_trust: NDArray[np.float32]
    bought_start: NDArray[np.int64]
    bought_row: NDArray[np.int32]
    bought_purchases: NDArray[np.uint32]
    bought_at: NDArray[np.int64]
    seen_start: NDArray[np.int64]
    seen_row: NDArray[np.int32]
    affinity_start: NDArray[np.int64]
    affinity_category: NDArray[np.int32]
    affinity_weight: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.now_ms)


def columns_of(
    profiles: Sequence[Profile],
    rows: Rows,
    categories_named: Callable[[str], Sequence[int]],
    with_seen: bool = False,
    trust: Trust | None = None,
) -> ProfileColumns:
    """Join ``profiles`` (n >= 0). ``rows`` maps SKUs to rows; ``categories_named`` a category page's name to category codes;
    ``with_seen`` false leaves the seen items out, which only one repeats policy reads. ``trust`` says what a recent item counts by
    its channel ("": not known) and type; None: all alike.
    """
    packed = np.frombuffer(b"".join([profile.recent for profile in profiles]), dtype="<i8")
    recent_type = (packed & ((1 << TYPE_BITS) - 1)).astype(np.int8)
    bought = np.frombuffer(b"".join([profile.bought for profile in profiles]), dtype=_BOUGHT_DTYPE)
    recent_row = rows(list(chain.from_iterable([profile.recent_skus for profile in profiles])))
    bought_row = rows(list(chain.from_iterable([profile.bought_skus for profile in profiles])))
    seen_row = rows(list(chain.from_iterable([profile.seen_skus for profile in profiles]))) if with_seen else np.empty(0, np.int32)
    codes: list[int] = []
    weights: list[float] = []
    affinity_counts: list[int] = []
    for profile in profiles:
        before = len(codes)
        for name, weight in zip(profile.categories, profile.affinities, strict=True):
            named = categories_named(name)
            codes.extend(named)
            weights.extend([weight / max(1, len(named))] * len(named))
        affinity_counts.append(len(codes) - before)
    return ProfileColumns(
        now_ms=np.array([profile.last_ms for profile in profiles], dtype=np.int64),
        recent_start=_starts([len(profile.recent) // RECENT_SIZE for profile in profiles]),
        recent_row=recent_row,
        recent_at=packed >> TYPE_BITS,
        recent_type=recent_type,
        recent_trust=np.empty(0, np.float32) if trust is None else _trusted(profiles, recent_type, trust),
        bought_start=_starts([len(profile.bought) // _BOUGHT_DTYPE.itemsize for profile in profiles]),
        bought_row=bought_row,
        bought_purchases=bought["purchases"].copy(),
        bought_at=bought["at"].copy(),
        seen_start=_starts([len(profile.seen) // SEEN.size if with_seen else 0 for profile in profiles]),
        seen_row=seen_row,
        affinity_start=_starts(affinity_counts),
        affinity_category=np.array(codes, dtype=np.int32),
        affinity_weight=np.array(weights, dtype=np.float32),
    )


def _trusted(profiles: Sequence[Profile], types: NDArray[np.int8], trust: Trust) -> NDArray[np.float32]:
    """float32[r] of the r recent items. Bytes are translated profile by profile, all else is done once for all of them."""
    numbers: dict[str, int] = {"": 0}
    codes: list[NDArray[np.int32]] = []
    for profile in profiles:
        own = np.zeros(UNTOLD + 1, np.int32)
        own[: len(profile.channels)] = [numbers.setdefault(name, len(numbers)) for name in profile.channels]
        codes.append(np.zeros(len(profile.recent_skus) - len(profile.recent_channels), np.int32))
        codes.append(own[np.frombuffer(profile.recent_channels, np.uint8)])
    table = np.array([[trust((channel, kind)) for kind in ITEM_TYPES] for channel in numbers], np.float32)
    channels: NDArray[np.int32] = np.concatenate(codes) if codes else np.empty(0, np.int32)
    trusted: NDArray[np.float32] = table[channels, types]
    return trusted


def _starts(counts: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(accumulate(counts, initial=0), dtype=np.int64, count=len(counts) + 1)
