"""Reading delimited text, plain or gzipped, row by row, without losing the bytes of what turns out to be no row."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from streams.replay.record import ReplayError

#: Bytes that are not text in the file's encoding survive decoding as lone surrogates, and come back by ``Row.raw``.
_ERRORS = "surrogateescape"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its number (from 1, the header not counted), its cells, and the bytes of its last line."""

    number: int
    cells: list[str]
    raw: bytes


def _open(path: Path, encoding: str) -> Iterator[str]:
    if not path.is_file():
        raise ReplayError(f"{path} is not a file")
    number = 0
    with (
        gzip.open(path, "rt", encoding=encoding, errors=_ERRORS, newline="")
        if path.suffix == ".gz"
        else path.open(encoding=encoding, errors=_ERRORS, newline="") as file
    ):
        try:
            for number, line in enumerate(file, 1):  # noqa: B007 - the number is for the error
                yield line
        except (EOFError, OSError, zlib.error) as error:
            raise ReplayError(f"{path} is damaged after line {number} ({error}); download it again") from error


class _Remembering(Iterator[str]):
    """An iterator of lines that knows the newest, because ``csv`` does not tell which lines a row came from."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.newest = ""

    def __next__(self) -> str:
        self.newest = next(self._lines)
        return self.newest


def lines(path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> Iterator[tuple[int, bytes]]:
    """Non-empty lines with their numbers (from 1), without the line end. Raises ``ReplayError``."""
    for count, (number, line) in enumerate(((n, text) for n, text in enumerate(_open(path, encoding), 1) if text.strip()), 1):
        if limit is not None and count > limit:
            return
        yield number, line.rstrip("\r\n").encode(encoding, _ERRORS)


def rows(
    path: Path, *, header: tuple[str, ...] | None = None, limit: int | None = None, encoding: str = "utf-8", delimiter: str = ","
) -> Iterator[Row]:
    """Rows after the header line, at most ``limit``.

    ``header``: the columns that the first line must name, in this order; an empty tuple says that there is no header
    line, None that its names do not matter. Raises ``ReplayError`` when the header is another one.
    """
    source = _Remembering(_open(path, encoding))
    reader = csv.reader(source, delimiter=delimiter)
    if header is None or header:
        found = next(reader, None)
        if found is None:
            raise ReplayError(f"{path} is empty")
        found[0] = found[0].removeprefix("\ufeff")
        if header is not None and tuple(found) != header:
            raise ReplayError(f"{path}: the header is {','.join(found)[:200]!r}, expected {','.join(header)!r}")
    number = 0
    while limit is None or number < limit:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ReplayError(f"{path}: row {number + 1} cannot be split into cells: {error}") from error
        if cells:
            number += 1
            yield Row(number, cells, source.newest.rstrip("\r\n").encode(encoding, _ERRORS))


def header(path: Path, *, encoding: str = "utf-8", delimiter: str = ",") -> list[str]:
    """The names in the first line. Raises ``ReplayError`` when there is none."""
    found = next(csv.reader(_open(path, encoding), delimiter=delimiter), None)
    if not found:
        raise ReplayError(f"{path} is empty")
    found[0] = found[0].removeprefix("\ufeff")
    return found


def find(folder: Path, name: str) -> Path:
    """``name`` or ``name.gz`` in ``folder``. Raises ``ReplayError``."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise ReplayError(f"{folder} holds no {name} or {name}.gz")
