"""What the recommend processor says became of its lists, as protocols read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from schemas.topics import OUTCOMES
from streams.runtime.processor import Output


def item_outcomes(outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Outcomes (``schemas.internal.Outcome``) of events on items among ``outputs``, in their order."""
    read = [orjson.loads(output.value) for output in outputs if output.topic == OUTCOMES.name and output.value is not None]
    return [outcome for outcome in read if outcome["kind"] == "outcome" and outcome.get("sku")]
