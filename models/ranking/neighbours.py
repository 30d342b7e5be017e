"""Which past sessions stand behind an item: named by a hash, with their parts of what the session neighbours say of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.retrieval.session_votes import Carriers

_DIGEST_BYTES = 8


class NeighbourSessions(NamedTuple):
    """Of the items of n lists: ``digests`` uint64[n, k, c] of sessions (0: no more), those that count most first, and their ``millionths``
    int32[n, k, c] of the score.
    """

    digests: NDArray[np.uint64]
    millionths: NDArray[np.int32]


def session_digest(session: str, salt: str) -> int:
    """What a session, the key of its records on the topic ``sessions``, is called in explanations: 64 bits, as 16 hexadecimal digits there.

    BLAKE2b keyed by the salt: who does not have it cannot try out shoppers.

    Example:
        >>> f"{session_digest('17850@1291191960000', 'assay'):016x}"
        'da2e380d296006bf'

    """
    digest = hashlib.blake2b(session.encode(), digest_size=_DIGEST_BYTES, key=salt.encode()[: hashlib.blake2b.MAX_KEY_SIZE])
    return int.from_bytes(digest.digest(), "big")


def attribute(
    carriers: Carriers, shares: NDArray[np.int32], names_of: Callable[[Iterable[int]], dict[int, str]], salt: str
) -> NeighbourSessions:
    """``shares`` int32[n, k], the millionths of the session neighbours, divided by the votes of each. What is not told, the parts of others
    and what rounding down leaves, is what the told parts lack to the whole share.
    """
    portions = carriers.values / np.maximum(carriers.totals, np.float32(1e-30))[:, :, None]
    millionths = np.floor(portions.astype(np.float64) * shares[:, :, None]).astype(np.int32)
    numbers, places = np.unique(np.where(millionths > 0, carriers.sessions, -1), return_inverse=True)
    names = names_of(number for number in numbers.tolist() if number >= 0)
    known = np.array([session_digest(names[number], salt) if number in names else 0 for number in numbers.tolist()], dtype=np.uint64)
    digests = known[places].reshape(millionths.shape)
    return NeighbourSessions(digests, np.where(digests > 0, millionths, np.int32(0)))
