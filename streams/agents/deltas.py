"""Records of the broadcast topic ``sessions`` as what the live session index takes up."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from models.retrieval import SessionItems
from streams.runtime.processor import Record

_log = logging.getLogger(__name__)


class _Item(msgspec.Struct):
    sku: str
    at: int
    type: Literal["browse", "click", "add_to_cart", "purchase"]


class _Delta(msgspec.Struct):
    session: str
    shopper: str
    start: int
    items: list[_Item]
    erased: bool = False


_DECODER: Final = msgspec.json.Decoder(_Delta)


def read_deltas(records: Sequence[Record]) -> Iterator[SessionItems]:
    """Records of the topic ``sessions`` as ``SessionItems``. One that cannot be read is logged with its place and passed over:
    only our own workers write there, and a session less is no wrong answer.
    """
    for record in records:
        if record.value is None:
            continue
        try:
            delta = _DECODER.decode(record.value)
        except msgspec.DecodeError as error:
            _log.error("%s-%d offset %d is no session delta: %s", record.topic, record.partition, record.offset, error)
            continue
        items = delta.items
        yield SessionItems(
            delta.session, delta.shopper, delta.start,
            tuple([item.sku for item in items]), tuple([item.at for item in items]), tuple([item.type for item in items]), delta.erased,
        )  # fmt: skip
