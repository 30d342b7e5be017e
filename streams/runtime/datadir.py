"""A worker's folder on disk, which no second worker may use at the same time."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from streams.runtime.errors import DataDirTaken

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.25


class DataDir:
    """Locks ``path`` for this process (``flock``, so that the lock dies with its holder) and names the folders in it.

    Raises ``DataDirTaken`` where another worker holds it or where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataDirTaken(f"data dir {path} cannot be used: {error.strerror}; give this worker another one with --data-dir") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip()
            os.close(self._lock)
            raise DataDirTaken(
                f"data dir {path} is in use by another worker{f' (pid {holder})' if holder else ''}; "
                "each worker needs a folder of its own: pass --data-dir, or stop the other one"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def partition(self, task: str, partition: int) -> Path:
        """Where the state of one partition of ``task`` lives: ``<path>/<task>/<partition>``."""
        folder = self.path / task
        folder.mkdir(parents=True, exist_ok=True)
        return folder / str(partition)

    def member_id(self) -> str:
        """What this folder's worker is called in its consumer groups, the same in every life of it. A copy of the folder gets another."""
        path = self.path / "MEMBER"
        if path.exists():
            name, _, inode = path.read_text().partition(" ")
            if name and inode == str(path.stat().st_ino):
                return name
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch()
        name = uuid.uuid4().hex
        fresh.write_text(f"{name} {fresh.stat().st_ino}")
        fresh.replace(path)
        return name

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def wait_until_free(path: Path, seconds: float) -> bool:
    """Wait for up to ``seconds`` until no worker uses ``path``; whether one did.

    What is still wrong with it then, ``DataDir`` says.
    """
    deadline = time.monotonic() + seconds
    waited = False
    while True:
        try:
            DataDir(path).close()
        except DataDirTaken as taken:
            if not isinstance(taken.__cause__, BlockingIOError) or time.monotonic() >= deadline:
                return waited
            if not waited:
                logger.warning("%s; waiting up to %.0f s for it to end", taken, seconds)
                waited = True
            time.sleep(_POLL_S)
        else:
            return waited


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder to ``<name>.damaged-<ns>`` for later study, keeping only the newest such copy; where it went."""
    for older in folder.parent.glob(f"{folder.name}.damaged-*"):
        shutil.rmtree(older, ignore_errors=True)
    aside = folder.with_name(f"{folder.name}.damaged-{time.time_ns()}")
    folder.rename(aside)
    return aside
