"""The position marker: the record in a changelog that says how far the state beside it has read its sources.

It commits in the same transaction as the state, so the two never disagree. Its key begins with a zero byte, which state keys
may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson

from streams.runtime.errors import SourceRecreated, SourceTruncated

#: Key of the marker in the changelog and in RocksDB.
MARKER_KEY: Final = b"\x00position"
#: Key, in RocksDB alone, of the changelog offset up to which this copy is complete.
CHECKPOINT_KEY: Final = b"\x00checkpoint"
#: State keys that a processor may not use begin with this.
RESERVED: Final = b"\x00"
_MENDED_BY: Final = "`assay reset` forgets the state and reprocesses what the topic holds now"


@dataclass(frozen=True, slots=True)
class Marker:
    """``offsets``: source topic -> offset of the last record applied.

    ``topic_ids``: source topic -> the broker's id of it, where it gives one.

    ``resetting``: the command that began to forget the state and has not finished, so that the state beside this marker is a part.
    """

    offsets: Mapping[str, int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    resetting: str = ""

    def encode(self) -> bytes:
        """As a JSON object, keys sorted."""
        fields: dict[str, object] = {"offsets": dict(self.offsets), "topic_ids": dict(self.topic_ids)}
        if self.resetting:
            fields["resetting"] = self.resetting
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def decode(cls, value: bytes | None) -> Marker:
        """The marker in ``value``; nothing applied yet where it is None."""
        if value is None:
            return cls()
        data = orjson.loads(value)
        return cls(offsets=data["offsets"], topic_ids=data.get("topic_ids", {}), resetting=data.get("resetting", ""))


@dataclass(frozen=True, slots=True)
class SourceExtent:
    """What a source partition holds now: offsets ``earliest`` .. ``end`` - 1, and its topic's id ("" where the broker gives none)."""

    earliest: int
    end: int
    topic_id: str = ""


def contradiction(marker: Marker, topic: str, extent: SourceExtent) -> SourceRecreated | None:
    """Why ``marker`` cannot speak of this ``topic``, to be raised; None where it can.

    Records that retention removed before they were read are a loss to be reported, not a contradiction.
    """
    applied = marker.offsets.get(topic)
    if applied is None:
        return None
    known = marker.topic_ids.get(topic, "")
    if known and extent.topic_id and known != extent.topic_id:
        return SourceRecreated(
            f"topic {topic} was deleted and created again (its id was {known}, now {extent.topic_id}), so the state was made from records "
            f"that no longer exist: {_MENDED_BY}"
        )
    if applied < extent.end:
        return None
    shorter = f"offset {applied} of topic {topic} was applied, but the topic now ends at {extent.end}"
    if not known or not extent.topic_id:
        return SourceRecreated(
            f"{shorter}: it was deleted and created again, or lost its newest records, so the state was made from records that no longer "
            f"exist: {_MENDED_BY}"
        )
    # The id is that of the worker's start: a topic that was made anew since then looks the same until the next start.
    # No command moves the position alone: which of the records that are there now came after the loss cannot be known.
    return SourceTruncated(
        f"{shorter}, although it is the same by its id: it lost its newest records ({applied + 1 - extent.end} offsets, or more where new "
        "ones have come since), as it does when a broker goes down before they are on its disk and no replica has them. What was made of "
        f"them stands, but new records that take their offsets would be passed over: {_MENDED_BY}"
    )
