"""What data assets are worth, as gauges for Prometheus."""

from __future__ import annotations

from contextlib import suppress

from prometheus_client import Gauge

from schemas.valuation import ValueRegister
from streams.runtime.metrics import VALUE_LIFT, VALUE_POINTS, VALUE_RESIDUAL


class ValueGauges:
    """The registers of one partition's dimensions as they were last published. What is in none any more is said no more."""

    def __init__(self) -> None:
        self._shown: dict[tuple[str, str], set[str]] = {}

    def show(self, record: ValueRegister, window: str) -> None:
        """Set those of a register of a window that moves on."""
        labels = (record.dimension, window)
        VALUE_LIFT.labels(*labels).set(record.game.lift)
        VALUE_RESIDUAL.labels(*labels).set(record.checks.efficiency_residual)
        for asset, value in record.assets.items():
            VALUE_POINTS.labels(record.dimension, asset, window).set(value.points)
        for gone in self._shown.get(labels, set()) - record.assets.keys():
            _remove(VALUE_POINTS, record.dimension, gone, window)
        self._shown[labels] = set(record.assets)

    def clear(self) -> None:
        """The dimensions are another worker's now."""
        for (dimension, window), assets in self._shown.items():
            _remove(VALUE_LIFT, dimension, window)
            _remove(VALUE_RESIDUAL, dimension, window)
            for asset in assets:
                _remove(VALUE_POINTS, dimension, asset, window)
        self._shown.clear()


def _remove(gauge: Gauge, *labels: str) -> None:
    """Several processors in one process, as in tests, may have shown the same."""
    with suppress(KeyError):
        gauge.remove(*labels)
