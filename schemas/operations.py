"""Messages of the operator's side: what was refused, and who is to be forgotten."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from schemas.base import SCHEMA_VERSION, Identifier, Message, SchemaVersion, UserId, ZonedTime


class DeadLetter(Message):
    """A record that could not be taken, whole, with the reason (topic ``events.dead-letter``, key ``topic-partition-offset``).

    ``code`` is stable and listed in ``schemas.decoding``; ``path`` names the field (``unit_price``), empty for the whole record.
    ``key`` and ``value`` are the raw bytes in base64, absent where the record had none. A later record without a value under the
    same key, in the same partition, says that the record was sent to its topic again (``assay dead-letters replay``).
    """

    code: Identifier
    path: str
    message: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: str | None = None
    value: str | None = None
    truncated_bytes: Annotated[int, Field(ge=0)] = 0
    schema_version: SchemaVersion = SCHEMA_VERSION


class Erasure(Message):
    """A request to forget a user (topic ``privacy.erasures``, key ``user_id``). Anonymous sessions are forgotten by themselves."""

    user_id: UserId
    requested_at: ZonedTime
    request_id: Identifier
    schema_version: SchemaVersion = SCHEMA_VERSION


class ErasureReceipt(Message):
    """What was removed, where (topic ``privacy.receipts``, key ``user_id``).

    ``expiring`` names the topics that may still hold raw records of the shopper, with the days of their retention: nothing is
    derived from those records again, and Kafka deletes them once that time has passed.
    """

    user_id: UserId
    request_id: Identifier
    completed_at: AwareDatetime
    removed: dict[str, int]
    expiring: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    schema_version: SchemaVersion = SCHEMA_VERSION
