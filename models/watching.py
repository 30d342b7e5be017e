"""Files under watch, and a trained model's folder: what is new in it is loaded beside the one in use, which stays where the new one is
none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final, Generic, TypeVar

_log: Final = logging.getLogger(__name__)
_Model = TypeVar("_Model")
#: How often files that do not fit together are looked at once more at the start, and after which pause: they may be about to be replaced.
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2


class WatchedFile:
    """Tells when the file at ``path`` is another one, or has come or gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether it has since the last call, or since the beginning. Costs a look at its time, size and inode: a file that is renamed
        into place may be as old and long.
        """
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


class WatchedFolder(Generic[_Model]):
    """``load`` makes a model of ``folder``, raising ``fault`` where there is none; ``marker`` is the file that is written last."""

    def __init__(
        self,
        folder: Path,
        marker: str,
        load: Callable[[Path], _Model],
        fault: type[Exception],
        executor: Executor | None = None,
    ) -> None:
        """Loads at once: raises ``fault`` if there is no model to begin with, for a second at least where ``marker`` is there. Later ones
        are loaded by ``executor``, or by the caller.
        """
        self._folder = folder
        self._marker = WatchedFile(folder / marker)
        self._load = load
        self._fault = fault
        self._executor = executor
        self._loading: Future[_Model] | None = None
        self.current = self._load_first(folder / marker)

    def _load_first(self, marker: Path) -> _Model:
        attempts = 1
        while True:
            try:
                return self._load(self._folder)
            except self._fault:
                if attempts == _ATTEMPTS or not marker.exists():
                    raise
            attempts += 1
            time.sleep(_PAUSE_S)

    def poll(self) -> _Model | None:
        """The new model once there is one, else None. Costs a look at a file's time."""
        if self._loading is None:
            if not self._marker.changed():
                return None
            self._loading = self._begin()
        if not self._loading.done():
            return None
        finished, self._loading = self._loading, None
        try:
            self.current = finished.result()
        except self._fault as error:
            _log.error("%s; the one read before stays in use", error)
            return None
        _log.warning("%s has changed; what it brings is in use now", self._folder)
        return self.current

    def _begin(self) -> Future[_Model]:
        if self._executor is not None:
            return self._executor.submit(self._load, self._folder)
        future: Future[_Model] = Future()
        try:
            future.set_result(self._load(self._folder))
        except self._fault as error:
            future.set_exception(error)
        return future
