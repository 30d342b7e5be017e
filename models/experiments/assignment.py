"""Which arm of an experiment a user is in: a function of the user and the experiment's salt, so nothing has to be remembered."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Final

import xxhash

_DRAWS: Final = 1 << 64
#: Shares that were written as decimals need not add up to the last bit.
_TOLERANCE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment with ``arms``: the share of users (0..1) of each arm by its name, in order.

    The draw of a user depends on ``salt`` alone. Experiments of different salts are independent of each other; with the same salt
    they draw alike, so when the share of the first arm grows, the users who were in it stay in it. ``name`` is for people.
    Raises ``ValueError`` for arms without a name, shares outside 0..1, and shares that do not add up to 1.

    >>> experiment = Experiment("hold-out 2026", "h1", {"hold_out": 0.05, "treated": 0.95})
    >>> experiment.arm("user-7"), [experiment.arm(f"user-{n}") for n in range(1000)].count("hold_out")
    ('treated', 55)
    """

    name: str
    salt: str
    arms: Mapping[str, float]
    _seed: int = field(init=False, repr=False, compare=False)
    _names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _ends: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.salt:
            raise ValueError(f"experiment {self.name!r} needs a salt")
        if not self.arms or not all(self.arms):
            raise ValueError(f"experiment {self.name!r} needs arms with names, got {list(self.arms)}")
        if not all(0 <= share <= 1 for share in self.arms.values()):
            raise ValueError(f"experiment {self.name!r}: shares must lie in 0..1, got {dict(self.arms)}")
        total = math.fsum(self.arms.values())
        if abs(total - 1) > _TOLERANCE:
            raise ValueError(f"experiment {self.name!r}: shares must add up to 1, got {total:g}")
        arms = {name: share for name, share in self.arms.items() if share}
        ends = [round(end * _DRAWS) for end in accumulate(arms.values())]
        for name, value in (
            ("arms", MappingProxyType(dict(self.arms))),
            ("_seed", xxhash.xxh3_64_intdigest(self.salt.encode())),
            ("_names", tuple(arms)),
            ("_ends", tuple(ends[:-1])),  # the last arm takes the rest, rounding included
        ):
            object.__setattr__(self, name, value)

    @property
    def identity(self) -> str:
        """Sixteen digits, others for another salt or other shares: what was learned under the one says nothing of the other.

        >>> Experiment("", "h1", {"a": 0.5, "b": 0.5}).identity == Experiment("other name", "h1", {"a": 0.5, "b": 0.5}).identity
        True
        """
        drawn = "\0".join([self.salt, *(f"{arm}\0{share!r}" for arm, share in self.arms.items())])
        return f"{xxhash.xxh3_64_intdigest(drawn.encode()):016x}"

    def arm(self, user: str) -> str:
        """The arm of ``user``: the one whose part of 0..1 holds the user's hash (xxh3 under a seed made from the salt)."""
        return self._names[bisect_right(self._ends, xxhash.xxh3_64_intdigest(user.encode(), self._seed))]
