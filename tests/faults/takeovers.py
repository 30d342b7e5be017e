"""Who takes over the partitions of a worker that went, and how much of them they had to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.faults.fleet import Opening, Worker


@dataclass(frozen=True, slots=True)
class _Absence:
    owned: frozenset[int]
    #: Of every worker, how many openings there were when it went.
    before: tuple[int, ...]


class Takeovers:
    """Follows every absence of a worker by what all of them log: which partitions it had, and whether others opened those before it was
    back. ``changelogged`` tells how many records the changelogs of partitions hold.
    """

    def __init__(self, workers: Sequence[Worker], changelogged: Callable[[Iterable[int]], int]) -> None:
        self._workers = workers
        self._changelogged = changelogged
        self._away: dict[int, _Absence] = {}
        #: Absences in which others opened every partition that the absent one had, of which there was one at least.
        self.count = 0
        #: Changelog records that they read for it, and that there were to be read by one who had followed nothing.
        self.restored = 0
        self.held = 0

    def gone(self, number: int) -> None:
        """This worker was killed, stopped or put to sleep just now."""
        self._away[number] = _Absence(self.owned(number), tuple(len(worker.openings) for worker in self._workers))

    def owned(self, number: int) -> frozenset[int]:
        """The partitions that this worker was the last to open."""
        newest: dict[int, tuple[str, int]] = {}
        for worker, made in enumerate(worker.openings for worker in self._workers):
            for opening in made:
                newest[opening.partition] = max(newest.get(opening.partition, ("", -1)), (opening.at, worker))
        return frozenset(partition for partition, (_, worker) in newest.items() if worker == number)

    def taken(self, number: int) -> bool:
        """Whether others have by now opened all that this absent worker had."""
        return self._away[number].owned <= self._by_others(number).keys()

    def back(self, number: int) -> None:
        """It is started again, or awake."""
        absence = self._away.get(number)
        if absence is not None and absence.owned and self.taken(number):
            openings = self._by_others(number)
            self.count += 1
            self.restored += sum(openings[partition].restored for partition in absence.owned)
            self.held += self._changelogged(absence.owned)
        self._away.pop(number, None)

    def _by_others(self, number: int) -> dict[int, Opening]:
        """The first opening of each partition by somebody else since it went."""
        before = self._away[number].before
        since: dict[int, Opening] = {}
        for other, worker in enumerate(self._workers):
            for opening in worker.openings[before[other] :] if other != number else ():
                since[opening.partition] = min(since.get(opening.partition, opening), opening)
        return since
