"""Sessions to learn from and prefixes to be judged on, read from plain files that anybody can write."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from models.retrieval.session_lines import SESSION_LIMIT

#: The target of a test whose item never occurred in training: nobody can recommend it, and it counts as a miss.
UNKNOWN: Final = -1
#: What a gzipped file begins with, whatever its name.
_GZIP: Final = b"\x1f\x8b"


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
    never saw it). ``names`` gives the item of a row; ``warnings``: what was in the files and is not here, a sentence each.
    """

    names: tuple[str, ...]
    train: Sequences
    prefixes: Sequences
    targets: NDArray[np.int32]
    warnings: tuple[str, ...] = ()

    def tail(self, share: float) -> SessionDataset:
        """The same without its tests: the newest ``share`` of the training sessions become tests, each prefix of each, and leave training.

        This is what parameters are tuned on. Raises ``DatasetError`` where that leaves no test.
        """
        head, prefixes, targets = split_tail(self.train, share)
        if not len(prefixes):
            raise DatasetError(f"the newest {share:.3g} of {len(self.train):,} sessions hold none of two clicks: take a larger share")
        return _dataset(self.names, head, prefixes, targets, self.warnings)


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
    each; None: no tests); either may be gzipped. Blank lines are passed over. Of a session the first ``SESSION_LIMIT`` clicks are read, as
    the live index holds them; of a prefix the newest. Raises ``DatasetError`` (also for a file that is not there), naming the line.
    """
    numbers: dict[str, int] = {}
    counted: Counter[str] = Counter()
    sessions: list[list[int]] = []
    cut = f"sessions of more than {SESSION_LIMIT} clicks in {train}: the first {SESSION_LIMIT} of each are read"
    for _, line in _lines(train, counted):
        items = line.split()
        counted[cut] += len(items) > SESSION_LIMIT
        sessions.append([numbers.setdefault(item, len(numbers)) for item in items[:SESSION_LIMIT]])
    if not sessions:
        raise DatasetError(f"{train} holds no session")
    prefixes: list[list[int]] = []
    targets: list[int] = []
    cut = f"prefixes of more than {SESSION_LIMIT} clicks in {test}: the newest {SESSION_LIMIT} of each are read"
    for number, line in _lines(test, counted) if test is not None else ():
        prefix, tab, target = line.partition("\t")
        items = prefix.split()
        if not tab or not items or len(target.split()) != 1:
            raise DatasetError(f"{test}, line {number}: expected the items so far, by spaces, a tab, the one item that came next")
        counted[cut] += len(items) > SESSION_LIMIT
        prefixes.append([numbers.setdefault(item, len(numbers)) for item in items[-SESSION_LIMIT:]])
        targets.append(numbers.get(target.strip(), UNKNOWN))
    if test is not None and not prefixes:
        raise DatasetError(f"{test} holds no test")
    warnings = tuple(f"{count:,} {what}" for what, count in counted.items() if count)
    return _dataset(tuple(numbers), Sequences.of(sessions), Sequences.of(prefixes), np.array(targets, dtype=np.int32), warnings)


def _dataset(
    names: tuple[str, ...], train: Sequences, prefixes: Sequences, targets: NDArray[np.int32], warnings: tuple[str, ...]
) -> SessionDataset:
    """Targets that are not in ``train`` become ``UNKNOWN``."""
    known = np.zeros(len(names) + 1, dtype=np.bool_)  # the last entry is that of UNKNOWN
    known[train.rows] = True
    return SessionDataset(names, train, prefixes, np.where(known[targets], targets, np.int32(UNKNOWN)), warnings)


def _lines(path: Path, counted: Counter[str]) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                line.encode()  # a byte that is no text came as a lone surrogate, which this refuses
                if line.strip():
                    yield number, line
                else:
                    counted[f"blank lines in {path}: passed over"] += 1
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) - 0xDC00
        raise DatasetError(f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8 text; convert the file first") from error
    except (OSError, EOFError, zlib.error) as error:
        beyond = f" beyond line {number}" if number else ""
        raise DatasetError(f"{path} cannot be read{beyond}: {error}") from error


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    with path.open("rb") as raw:
        packed = path.suffix == ".gz" or raw.peek(len(_GZIP)).startswith(_GZIP)
        data = gzip.GzipFile(fileobj=raw) if packed else raw
        with io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape") as text:
            yield text
