"""Who was exposed to which arm, since when, and what came of it: user by user, exact, and additive over parts of the stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.valuation.money import EXACT, ZERO

#: Sums of the time before by the name of their metric, in order.
Covariates: TypeAlias = tuple[tuple[str, Decimal], ...]
#: As it is written: the user, the first exposure (or None before there was any), all arms seen, and the sums by metric.
UserRecord: TypeAlias = tuple[str, tuple[int, str, Covariates] | None, tuple[str, ...], dict[str, Decimal]]


class FirstExposure(NamedTuple):
    """When a user first saw what the experiment compares (ms since the epoch), in which arm, and the covariates as of then."""

    at_ms: int
    arm: str
    covariates: Covariates


class ExposureLog:
    """First exposures and sums of metrics by user.

    Sums are decimals that are never rounded, and of several first exposures the earliest counts, whichever comes in first. So the
    log of a stream is the same in whatever order its parts are added. What a user did before the first exposure is not for ``add``
    but for the covariates.

    >>> log = ExposureLog()
    >>> log.expose("ann", "new", 1_700_000_000_000, covariates={"margin": Decimal("12.50")})
    >>> log.add("ann", "margin", Decimal("3.10"))
    >>> log.add("ann", "margin", Decimal("0.90"))
    >>> log.arm("new").sums("margin").tolist(), log.arm("old").users
    ([4.0], 0)
    """

    def __init__(self) -> None:
        self._first: dict[str, FirstExposure] = {}
        self._arms: dict[str, frozenset[str]] = {}
        self._sums: dict[str, dict[str, Decimal]] = {}

    def expose(self, user: str, arm: str, at_ms: int, covariates: Mapping[str, Decimal] | None = None) -> None:
        """Note that ``user`` was shown ``arm``; ``covariates`` are the user's sums of before by metric, such as margin of the past."""
        exposure = FirstExposure(at_ms, arm, tuple(sorted((covariates or _NOTHING).items())))
        self._first[user] = min(self._first.get(user, exposure), exposure)
        self._arms[user] = self._arms.get(user, frozenset()) | {arm}

    def add(self, user: str, metric: str, amount: Decimal | int = 1) -> None:
        """Add to the sum of ``metric`` of ``user``."""
        sums = self._sums.setdefault(user, {})
        sums[metric] = EXACT.add(sums.get(metric, ZERO), Decimal(amount))

    def merge(self, other: ExposureLog) -> None:
        """Add a log of another part of the stream, which stays as it is."""
        for user, first in other._first.items():
            self._first[user] = min(self._first.get(user, first), first)
            self._arms[user] = self._arms.get(user, frozenset()) | other._arms[user]
        for user, sums in other._sums.items():
            for metric, amount in sums.items():
                self.add(user, metric, amount)

    @property
    def crossed(self) -> int:
        """How many users were seen in more than one arm. They belong to none."""
        return sum(len(arms) > 1 for arms in self._arms.values())

    def arm(self, name: str, until_ms: int | None = None) -> ArmUsers:
        """The users of one arm, first exposed before ``until_ms``, in the order of their names.

        An interval that may be looked at at any time takes users as they are complete: where a user's metrics go on for a week,
        ``until_ms`` is a week ago.
        """
        users = sorted(
            user
            for user, first in self._first.items()
            if first.arm == name and len(self._arms[user]) == 1 and (until_ms is None or first.at_ms < until_ms)
        )
        before: list[Mapping[str, Decimal]] = [dict(self._first[user].covariates) for user in users]
        return ArmUsers(len(users), before, [self._sums.get(user, _NOTHING) for user in users])

    def to_records(self) -> list[UserRecord]:
        """One plain tuple a user, in the order of their names, for msgspec."""
        users = sorted(self._arms.keys() | self._sums.keys())
        return [
            (
                user,
                self._first.get(user),
                tuple(sorted(self._arms.get(user, ()))),
                dict(sorted(self._sums.get(user, _NOTHING).items())),
            )
            for user in users
        ]

    @classmethod
    def from_records(cls, records: Iterable[UserRecord]) -> ExposureLog:
        """Read what ``to_records`` wrote."""
        log = cls()
        for user, first, arms, sums in records:
            if first is not None:
                log._first[user] = FirstExposure(*first)
                log._arms[user] = frozenset(arms)
            if sums:
                log._sums[user] = dict(sums)
        return log


_NOTHING: Final[Mapping[str, Decimal]] = {}


@dataclass(frozen=True, slots=True)
class ArmUsers:
    """The users of an arm, and by metric their sums of the time ``before`` and since, in the same order."""

    users: int
    before: list[Mapping[str, Decimal]]
    by_metric: list[Mapping[str, Decimal]]

    def covariates(self, metric: str) -> NDArray[np.float64]:
        """Float64, shape (users,): each user's sum of ``metric`` from before, 0 for those who have none."""
        return np.array([float(sums.get(metric, ZERO)) for sums in self.before])

    def sums(self, metric: str) -> NDArray[np.float64]:
        """Float64, shape (users,): each user's sum of ``metric``, 0 for those who have none."""
        return np.array([float(sums.get(metric, ZERO)) for sums in self.by_metric])
