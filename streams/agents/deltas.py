"""Records of the broadcast topic ``sessions`` as what the live session index takes up."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from models.retrieval import LiveSessions, SessionItems
from schemas.base import LATEST
from schemas.topics import SESSIONS
from streams.agents.clocks import happened_ms
from streams.runtime.processor import Record
from streams.runtime.task import Broadcast

_log = logging.getLogger(__name__)

#: Bounds that the indexes' columns hold. The contract (``SessionDelta``) knows no such numbers, nor does a worker ever write them.
_LATEST_MS: Final = int(LATEST.timestamp() * 1000)
_FARTHEST: Final = 2**31 - 1


_Label: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)] | None


class _Item(msgspec.Struct):
    sku: Annotated[str, Meta(min_length=1, max_length=128)]
    at: Annotated[int, Meta(ge=0, lt=_LATEST_MS)]
    type: Literal["browse", "click", "add_to_cart", "purchase"]


class _Delta(msgspec.Struct):
    session: Annotated[str, Meta(min_length=1, max_length=256)]
    shopper: Annotated[str, Meta(min_length=1, max_length=256)]
    start: Annotated[int, Meta(ge=0, le=_FARTHEST)]
    items: list[_Item]
    erased: bool = False
    channel: _Label = None
    country: _Label = None
    segment: _Label = None


_DECODER: Final = msgspec.json.Decoder(_Delta)


#: Offsets that surely hold an item that a reader keeps. A delta has one item at least, and a transaction adds one marker to a partition for
#: the deltas it writes there, so two are enough; a quarter more is for repeats and for what was aborted.
_OFFSETS_AN_ITEM: Final = 2.5


def sessions_broadcast(sessions: LiveSessions) -> Broadcast:
    """The topic ``sessions`` read into ``sessions``: no more of it than they can hold."""
    return Broadcast(
        SESSIONS.name, lambda records: sessions.apply(read_deltas(records)), newest=round(_OFFSETS_AN_ITEM * sessions.item_limit)
    )


def read_deltas(records: Sequence[Record]) -> Iterator[SessionItems]:
    """Records of the topic ``sessions`` as ``SessionItems``. One that cannot be read is logged with its place and passed over:
    only our own workers write there, and a session less is no wrong answer.
    """
    for record in records:
        if record.value is None:
            continue
        try:
            delta = _DECODER.decode(record.value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:  # the latter two escape msgspec as they are
            _log.error("%s-%d offset %d is no session delta: %s", record.topic, record.partition, record.offset, error)
            continue
        items = delta.items
        yield SessionItems(
            delta.session, delta.shopper, delta.start, tuple([item.sku for item in items]),
            tuple([happened_ms(record, item.at) for item in items]), tuple([item.type for item in items]), delta.erased,
            delta.channel or "", delta.country or "", delta.segment or "",
        )  # fmt: skip
