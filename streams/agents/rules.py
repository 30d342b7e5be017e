"""The file of business rules, read again when it changes: a worker never stops for it, and never goes on without rules."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from models.rules import BusinessRules, Fault, RulesError, read_rules
from models.rules.reading import SIZE_LIMIT
from models.watching import WatchedFile
from streams.runtime import metrics
from streams.runtime.errors import RulesWrong

_LOG: Final = logging.getLogger(__name__)


class RulesFile:
    """The rules of the file at ``path``. Raises ``RulesWrong`` where it holds none that are valid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = WatchedFile(path)
        try:
            self.rules = self._read()
        except RulesError as error:
            raise RulesWrong(_complaint(path, error) + "\n`assay rules check` looks at it without a worker") from error
        _LOG.info("business rules %s of %s are in force (%d rules)", self.rules.digest, path, self.rules.count)

    def poll(self) -> BusinessRules | None:
        """The new rules if the file has changed to other valid ones, else None. Call it between batches, at most about once a second.

        A file that is gone or invalid is said once in the log (and by ``assay_business_rules_refused``); the former rules stay.
        """
        if not self._file.changed():
            return None
        try:
            rules = self._read()
        except RulesError as error:
            _LOG.error("business rules %s stay in force: %s", self.rules.digest, _complaint(self._path, error))
            return None
        if rules.digest == self.rules.digest:
            return None
        _LOG.info("business rules %s are in force in place of %s (%d rules)", rules.digest, self.rules.digest, rules.count)
        self.rules = rules
        return rules

    def _read(self) -> BusinessRules:
        try:
            rules = load_rules(self._path)
        except RulesError:
            metrics.RULES_READ.labels("refused").inc()
            metrics.RULES_REFUSED.set(1)
            raise
        metrics.RULES_READ.labels("taken").inc()
        metrics.RULES_REFUSED.set(0)
        return rules


def load_rules(path: Path) -> BusinessRules:
    """The rules of the file at ``path``. Raises ``RulesError``, also where it cannot be read."""
    try:
        # A little more than is read anyway, so that neither an endless nor a huge file fills memory.
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise RulesError([Fault(0, 0, "", f"cannot be read: {error.strerror}; correct its name or its rights")]) from error
    return read_rules(data)


def _complaint(path: Path, error: RulesError) -> str:
    return f"{path} holds no valid business rules:\n" + "\n".join(f"  {fault}" for fault in error.faults)
