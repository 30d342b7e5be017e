"""Value feedback: what the value role publishes on ``valuation.register`` becomes what data assets count in lists.

It acts where lists are made, never where anything is kept: the topic ``sessions``, the live index and every profile hold the same with it
and without, a function of the log alone, and each list says what counted (``versions.feedback``). So a weight holds at once for all that
came before it, an asset that does no more harm counts again with its whole history, and a worker that begins anew is as good as one
that did not. Beside the sums of pairs and of what is popular, which no weight touches, each worker keeps what of them counts now,
and reckons that anew from the items that it holds when weights change. What it costs: sessions that count nothing still take their places
among the newest 256 that are held of each item, and their pairs among its 64.

Registers arrive when they arrive, so two workers may use different ones for a moment; and as what a weight was is not written down, one
that begins anew takes the upper end of what the register allows (``models.valuation.feedback``), which others may have been below.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from pydantic import ValidationError

from models.valuation.feedback import FeedbackRule, SourceWeights
from schemas.valuation import ValueRegister
from streams.runtime import metrics
from streams.runtime.processor import Record
from streams.settings import Settings

_log: Final = logging.getLogger(__name__)


class Feedback:
    """The weights in force by the registers of the settings' window and dimensions. ``changed`` is told them, now and when they change."""

    def __init__(self, settings: Settings, changed: Callable[[SourceWeights], None]) -> None:
        dimensions = settings.feedback_dimensions.split(",")
        self._rule = FeedbackRule(dimensions)
        self._keys = {f"{dimension}|{settings.feedback_window}".encode() for dimension in dimensions}
        self._shown: dict[str, set[str]] = {}
        self._changed = changed
        changed(self._rule.weights)

    def apply(self, records: Sequence[Record]) -> None:
        """Records of ``valuation.register``, in order: of each register the newest counts. One that cannot be read is logged with its
        place and passed over: the former weights stay.
        """
        newest = {record.key: record for record in records if record.key in self._keys and record.value is not None}
        registers = []
        for record in newest.values():
            try:
                registers.append(ValueRegister.model_validate_json(record.value or b""))
            except ValidationError as error:
                _log.error("%s-%d offset %d is no register: %s", record.topic, record.partition, record.offset, error)
        self.take(registers)

    def take(self, registers: Sequence[ValueRegister]) -> None:
        """The same with what was read."""
        before = self._rule.weights
        for register in registers:
            for change in self._rule.take(register):
                metrics.FEEDBACK_CHANGES.labels(register.dimension).inc()
                _log.info("value feedback: %s", change)
            self._show(register)
        if self._rule.weights is not before:
            self._changed(self._rule.weights)

    def _show(self, register: ValueRegister) -> None:
        dimension, below = register.dimension, self._rule.weights.below[register.dimension]
        for asset in register.assets:
            metrics.FEEDBACK_WEIGHT.labels(dimension, asset).set(below.get(asset, 1.0))
        for gone in self._shown.get(dimension, set()) - register.assets.keys():
            with suppress(KeyError):  # several in one process, as in tests, may have shown the same
                metrics.FEEDBACK_WEIGHT.remove(dimension, gone)
        self._shown[dimension] = set(register.assets)
