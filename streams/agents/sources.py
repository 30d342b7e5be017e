"""Records of ``outcomes``, as the value role reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeAlias

import msgspec

from models.valuation.messages import (
    ExposureMessage,
    ForgottenMessage,
    OutcomeMessage,
    ResolutionMessage,
    check_source,
    decode_source,
    milliseconds,
    shown_items,
)
from streams.agents.clocks import happened_ms
from streams.runtime.processor import Record

Message: TypeAlias = OutcomeMessage | ExposureMessage | ResolutionMessage | ForgottenMessage
#: Offset, time in ms and what was read of one record of ``outcomes``.
Source: TypeAlias = tuple[int, int, Message]


def read_sources(records: Iterable[Record], *, shown: bool = False) -> Iterator[Source]:
    """Decode records of ``outcomes``. Raises ``ValueError``, naming the record, for one that cannot be read or counted: the worker's
    becomes a dead letter, whose absence changes nothing of what others come to (``readable``). ``shown``: of resolutions too, which are
    passed over where rows are past sessions.
    """
    for record in records:
        try:
            message = decode_source(record.value or b"")
            if isinstance(message, ForgottenMessage):
                yield record.offset, 0, message
                continue
            if isinstance(message, ResolutionMessage) and not shown:
                continue
            check_source(message)
            if isinstance(message, ResolutionMessage):
                shown_items(message)
                yield record.offset, happened_ms(record, milliseconds(message.watermark)), message
                continue
        except (msgspec.DecodeError, ValueError) as error:
            place = f"{record.topic}/{record.partition} offset {record.offset}"
            raise ValueError(f"{place} is neither outcome nor exposure nor resolution: {error}") from error
        yield record.offset, happened_ms(record, milliseconds(message.occurred_at)), message


def readable(records: Iterable[Record], *, shown: bool = False) -> Iterator[Source]:
    """The same without those that cannot be read or counted: what the books rest on of a log that holds such records."""
    for record in records:
        with suppress(ValueError):
            yield from read_sources([record], shown=shown)
