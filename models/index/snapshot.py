"""An index on disk: one file, written aside and moved into place, with a checksum over all of it.

Layout: the main part as FAISS writes it; the arrays, raw; a JSON footer that names them; then ``_TAIL``: the length of the
footer, xxh3-128 over everything before the tail, and the format's name and version. A reader starts from the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.index.base import SnapshotError
from models.index.structure import MainPart, Structure

_NAME: Final = b"ASSAYIX1"
_TAIL: Final = struct.Struct("<Q16s8s")
_CHUNK: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class IndexImage:
    """What a snapshot holds. Its arrays are copies and its main part is immutable, so ``write`` may run in another thread."""

    dimensions: int
    generation: int
    main: MainPart | None
    arrays: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]

    def write(self, path: Path) -> None:
        """Write the file atomically: a crash leaves the former snapshot or this one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with aside.open("wb") as file:
                sink = _Digesting(file)
                if self.main is not None:
                    self.main.write(sink)
                footer = json.dumps(
                    {
                        "kind": None if self.main is None else self.main.kind,
                        "main_bytes": sink.written,
                        "dimensions": self.dimensions,
                        "generation": self.generation,
                        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in self.arrays.items()],
                        "metadata": dict(self.metadata),
                    }
                ).encode()
                for array in self.arrays.values():
                    sink.write(np.ascontiguousarray(array).tobytes())
                sink.write(footer)
                file.write(_TAIL.pack(len(footer), sink.digest.digest(), _NAME))
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                aside.unlink()


def read_image(path: Path, structure: Structure) -> IndexImage:
    """Load and check a snapshot.

    Raises ``SnapshotError`` when it is damaged or of another format, ``OSError`` when it cannot be read.
    """
    with path.open("rb") as file:
        footer = _checked_footer(file, path)
        file.seek(0)
        main = structure.read(footer["kind"], file) if footer["kind"] is not None else None
        file.seek(footer["main_bytes"])
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype, shape in footer["arrays"]:
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.fromfile(file, dtype=np.dtype(dtype), count=count).reshape(shape)
        return IndexImage(footer["dimensions"], footer["generation"], main, arrays, footer["metadata"])


def _checked_footer(file: BinaryIO, path: Path) -> dict[str, Any]:
    size = file.seek(0, os.SEEK_END)
    if size < _TAIL.size:
        raise SnapshotError(f"{path}: not an index snapshot ({size} bytes); delete the file")
    file.seek(size - _TAIL.size)
    length, expected, name = _TAIL.unpack(file.read(_TAIL.size))
    if name != _NAME:
        raise SnapshotError(f"{path}: not an index snapshot of format {_NAME.decode()}; delete the file")
    file.seek(0)
    digest = xxhash.xxh3_128()
    left = size - _TAIL.size
    while left:
        chunk = file.read(min(left, _CHUNK))
        digest.update(chunk)
        left -= len(chunk)
    if digest.digest() != expected or length > size - _TAIL.size:
        raise SnapshotError(f"{path}: damaged (checksum differs); delete the file")
    file.seek(size - _TAIL.size - length)
    footer: dict[str, Any] = json.loads(file.read(length))
    return footer


class _Digesting:
    """A sink that counts and digests what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = xxhash.xxh3_128()
        self.written = 0

    def write(self, data: bytes) -> int:
        """Pass ``data`` on."""
        self.digest.update(data)
        self.written += len(data)
        return self._file.write(data)
