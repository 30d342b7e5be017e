"""A refused record on its way to ``events.dead-letter``, whole, with the reason."""

from __future__ import annotations

import base64
from typing import Final

import orjson

from schemas.base import SCHEMA_VERSION
from schemas.topics import DEAD_LETTERS
from streams.runtime.processor import Output, Record

#: Raw bytes kept of a value: base64 makes them a third longer, and the whole must fit the 8 MiB that our topics take in one record.
MAX_RAW_BYTES: Final = 5 * 1_048_576
_MAX_KEY_BYTES: Final = 1_024
_MAX_MESSAGE: Final = 1_000


def dead_letter(record: Record, code: str, path: str, message: str) -> Output:
    """The dead letter of ``record`` (a ``schemas.operations.DeadLetter``). ``code`` is one of ``schemas.decoding.CODES``.

    Its key names the record's place, so a record refused twice by different readers is still told apart by place.
    """
    cut = 0
    letter: dict[str, object] = {
        "code": code,
        "path": path,
        "message": message[:_MAX_MESSAGE],
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "schema_version": SCHEMA_VERSION,
    }
    for name, raw, limit in (("key", record.key, _MAX_KEY_BYTES), ("value", record.value, MAX_RAW_BYTES)):
        if raw is not None:
            letter[name] = base64.b64encode(raw[:limit]).decode()
            cut += max(0, len(raw) - limit)
    letter["truncated_bytes"] = cut
    return Output(DEAD_LETTERS.name, f"{record.topic}-{record.partition}-{record.offset}".encode(), orjson.dumps(letter))
