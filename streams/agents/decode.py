"""Raw records of the recommend role into valid messages, and dead letters for the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import ValidationError

from models.attribution import Memory, ShownLists
from models.catalog.items import ItemTable
from models.profiles import Profile, ProfileError, from_description
from schemas.base import Message
from schemas.decoding import InvalidRecord, decode_event, from_validation_error, refuse_nan
from schemas.events import Event
from schemas.internal import ProfileMerge
from schemas.operations import Erasure
from schemas.topics import CATALOG, ERASURES, EVENTS, MERGES
from streams.runtime.dead_letter import dead_letter
from streams.runtime.processor import Batch, Output, Record
from streams.runtime.task import CatchUpNeeded

_Message = TypeVar("_Message", bound=Message)


@dataclass(slots=True)
class Decoded:
    """A batch by kind, each in source order."""

    events: list[tuple[Record, Event]] = field(default_factory=list)
    merges: list[tuple[Record, ProfileMerge, Profile, tuple[Memory, ShownLists]]] = field(default_factory=list)
    erasures: list[tuple[Record, Erasure]] = field(default_factory=list)
    dead_letters: list[Output] = field(default_factory=list)


def decode_batch(batch: Batch, items: ItemTable, *, refuse_unknown: bool, max_bytes: int) -> Decoded:
    """Validate every record. With ``refuse_unknown``, a SKU that a non-empty catalogue never held is a dead letter.

    Raises ``CatchUpNeeded`` when a SKU is unknown and the catalogue's topic has not been read to its end for this batch.
    """
    decoded = Decoded()
    for record in batch.records:
        table = batch.table_name(record.topic)
        try:
            if table == EVENTS.name:
                event = decode_event(record.key, record.value, received_ms=record.timestamp, max_bytes=max_bytes)
                sku: str | None = getattr(event, "sku", None)
                if (sku is not None and items.row(sku) < 0) or (refuse_unknown and sku is not None and not items.known(sku)):
                    _meet_unknown(sku, items, refuse_unknown, batch.caught_up)
                decoded.events.append((record, event))
            elif table == MERGES.name:
                merge = _decode(record, ProfileMerge)
                decoded.merges.append((record, merge, _profile_of(merge), _memory_of(merge)))
            elif table == ERASURES.name:
                erasure = _decode(record, Erasure)
                if record.key != erasure.user_id.encode():
                    raise InvalidRecord("key_mismatch", "", f"key {record.key!r}, the erasure's is {erasure.user_id!r}")
                decoded.erasures.append((record, erasure))
            else:
                raise ValueError(f"topic {record.topic} is none that the recommend role reads")
        except InvalidRecord as invalid:
            decoded.dead_letters.append(dead_letter(record, invalid.code, invalid.path, invalid.message))
    return decoded


def _meet_unknown(sku: str, items: ItemTable, refuse: bool, caught_up: bool) -> None:
    """A SKU that the catalogue never held: refused, or taken up as an item without a product."""
    if not refuse or items.version == 0:
        items.intern(sku)
        return
    if not caught_up:
        raise CatchUpNeeded(CATALOG.name)
    raise InvalidRecord("sku_unknown", "sku", f"the catalogue never held {sku!r}; publish the product, then replay this record")


def _decode(record: Record, model: type[_Message]) -> _Message:
    if record.value is None:
        raise InvalidRecord("value_missing", "", "null value")
    try:
        message = model.model_validate_json(record.value)
    except ValidationError as error:
        raise from_validation_error(error, record.value, tagged=False) from None
    refuse_nan(record.value)
    return message


def _profile_of(merge: ProfileMerge) -> Profile:
    try:
        return from_description(merge.profile)
    except ProfileError as error:
        raise InvalidRecord("field_invalid", "profile", str(error)) from None


def _memory_of(merge: ProfileMerge) -> tuple[Memory, ShownLists]:
    try:
        memory = Memory.from_hex(merge.lists_sent, merge.clicks, merge.views, merge.margins)
    except ValueError as error:
        raise InvalidRecord("field_invalid", "lists_sent", str(error)) from None
    try:
        return memory, ShownLists.from_hex(merge.lists_shown)
    except ValueError as error:
        raise InvalidRecord("field_invalid", "lists_shown", str(error)) from None
