"""Sessions to learn from and prefixes to be judged on, read from plain files that anybody can write."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

#: The target of a test whose item never occurred in training: nobody can recommend it, and it counts as a miss.
UNKNOWN: Final = -1


class DatasetError(ValueError):
    """A file is not what the protocol reads. Names the file, the line and what is expected."""


@dataclass(frozen=True, slots=True)
class Sequences:
    """n sequences of item rows, end to end: the i-th is ``rows[starts[i] : starts[i + 1]]``; int64[n + 1] and int32[total]."""

    starts: NDArray[np.int64]
    rows: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        return self.rows[self.starts[index] : self.starts[index + 1]]

    def slice(self, first: int, last: int) -> Self:
        """Sequences ``first`` up to ``last``, without a copy of the rows."""
        starts = self.starts[first : last + 1]
        return type(self)(starts - starts[0], self.rows[starts[0] : starts[-1]])

    @classmethod
    def of(cls, sequences: list[list[int]]) -> Self:
        """From lists of rows."""
        starts = np.zeros(len(sequences) + 1, dtype=np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=starts[1:])
        return cls(starts, np.fromiter((row for sequence in sequences for row in sequence), dtype=np.int32, count=int(starts[-1])))


@dataclass(frozen=True, slots=True)
class SessionDataset:
    """``train`` sessions, oldest first; ``prefixes`` and the item that came next, ``targets`` int32[n] (``UNKNOWN`` where training
    never saw it). ``names`` gives the item of a row.
    """

    names: tuple[str, ...]
    train: Sequences
    prefixes: Sequences
    targets: NDArray[np.int32]

    def tail(self, share: float) -> SessionDataset:
        """The same without its tests: the newest ``share`` of the training sessions become tests, each prefix of each, and leave training.

        This is what parameters are tuned on.
        """
        head, prefixes, targets = split_tail(self.train, share)
        return _dataset(self.names, head, prefixes, targets)


def split_tail(sessions: Sequences, share: float) -> tuple[Sequences, Sequences, NDArray[np.int32]]:
    """(all but the newest ``share`` of the sessions, every prefix of the rest, int32[n] the item that came next)."""
    kept = max(1, round(len(sessions) * (1.0 - share)))
    prefixes: list[list[int]] = []
    targets: list[int] = []
    for index in range(kept, len(sessions)):
        session = sessions[index].tolist()
        prefixes += [session[:length] for length in range(1, len(session))]
        targets += session[1:]
    return sessions.slice(0, kept), Sequences.of(prefixes), np.array(targets, dtype=np.int32)


def read_dataset(train: Path, test: Path | None) -> SessionDataset:
    """A training file (a session a line, its items by whitespace, oldest session first) and a test file (``prefix<TAB>target``, a line
    each; None: no tests); either may be gzipped (``.gz``). Raises ``DatasetError`` (also for a file that is not there), naming the line.
    """
    numbers: dict[str, int] = {}
    sessions: list[list[int]] = []
    for number, line in _lines(train):
        items = line.split()
        if not items:
            raise DatasetError(f"{train}, line {number}: an empty session; each line holds the items of one, by spaces")
        sessions.append([numbers.setdefault(item, len(numbers)) for item in items])
    if not sessions:
        raise DatasetError(f"{train} holds no session")
    prefixes: list[list[int]] = []
    targets: list[int] = []
    for number, line in _lines(test) if test is not None else ():
        prefix, tab, target = line.partition("\t")
        items = prefix.split()
        if not tab or not items or len(target.split()) != 1:
            raise DatasetError(f"{test}, line {number}: expected the items so far, by spaces, a tab, the one item that came next")
        prefixes.append([numbers.setdefault(item, len(numbers)) for item in items])
        targets.append(numbers.get(target.strip(), UNKNOWN))
    if test is not None and not prefixes:
        raise DatasetError(f"{test} holds no test")
    return _dataset(tuple(numbers), Sequences.of(sessions), Sequences.of(prefixes), np.array(targets, dtype=np.int32))


def _dataset(names: tuple[str, ...], train: Sequences, prefixes: Sequences, targets: NDArray[np.int32]) -> SessionDataset:
    """Targets that are not in ``train`` become ``UNKNOWN``."""
    known = np.zeros(len(names) + 1, dtype=np.bool_)  # the last entry is that of UNKNOWN
    known[train.rows] = True
    return SessionDataset(names, train, prefixes, np.where(known[targets], targets, np.int32(UNKNOWN)))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 text: {error}") from error
    except (OSError, EOFError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
