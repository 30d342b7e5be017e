"""The value role: outcomes become event-time panes in each partition, panes become rolling records in one place an asset."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from models.metrics import CatalogueCoverage
from models.valuation import (
    ALL,
    TOTAL,
    UNCATEGORISED,
    AssetTable,
    OutcomeRow,
    PaneId,
    PaneRecord,
    PaneSums,
    is_kept,
    oldest_kept,
    pane_start,
    tally,
)
from models.valuation.messages import (
    WATERMARK,
    ExposureMessage,
    OutcomeMessage,
    PartialMessage,
    decode_source,
    encode_partial,
    milliseconds,
)
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL_S
from models.valuation.record import instant
from schemas.topics import OUTCOMES, PARTIALS
from streams.agents.clocks import happened_ms
from streams.agents.rolling import RollingProcessor
from streams.runtime.processor import Batch, Output, Record, State, Step
from streams.runtime.task import Task
from streams.settings import Settings

#: Changed panes are sent on about this often: a rolling number that is a second old is fresh, and a pane that changes
#: a hundred times a second then costs one record, not a hundred.
EMIT_MS: Final = 1_000

_META, _ASSETS, _DIRTY = b"meta", b"assets", b"dirty"
#: Key of a pane: "p", length, first minute, asset number; so a ring is one range, oldest first.
_PANE_KEY: Final = struct.Struct(">cBIH")
_LENGTHS: Final = (TOTAL_S, MINUTE_S, HOUR_S)


class Meta(msgspec.Struct):
    """What a partition knows beside its panes.

    ``watermark_ms``: largest outcome time; ``ring_ms``: how far the rings have moved (exposures count); ``emitted_ms``,
    ``emitted_ring_ms``: wall clock and ring at the last emission; ``served``: the newest exposure.
    """

    watermark_ms: int = 0
    ring_ms: int = 0
    emitted_ms: int = 0
    emitted_ring_ms: int = 0
    served: tuple[int, str, str, int] | None = None


_PACK: Final = msgspec.msgpack.Encoder()
_META_DECODER: Final = msgspec.msgpack.Decoder(Meta)
_ASSETS_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str]])


class ValueProcessor:
    """Panes of one partition of ``outcomes``. Keeps nothing in memory: a batch reads the panes that it changes and writes them back.

    ``partitions``: how many ``valuation.partials`` has; each is told when the newest pane changed, so that the windows of
    assets that saw nothing new move on with those of the others.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def process(self, state: State, batch: Batch) -> Step:
        """Add the batch to its panes; send changed panes on when the last time was ``EMIT_MS`` ago."""
        step = Step()
        meta, assets, dirty = _load(state)
        known_assets = len(assets)
        changed, moved = _sums_of(batch.records, meta, assets)

        pairs = [(_pane_key(pane, number), sums) for (number, pane), sums in changed.items()]
        held = state.get_many([key for key, _ in pairs])
        for (key, sums), old in zip(pairs, held, strict=True):
            step.writes[key] = (PaneSums.merged([PaneSums.from_bytes(old), sums]) if old else sums).to_bytes()
        if pane_start(moved.ring_ms, MINUTE_S) > pane_start(meta.ring_ms, MINUTE_S):
            step.writes.update(_leaving(state, moved.ring_ms))
        if len(assets) > known_assets:
            step.writes[_ASSETS] = _PACK.encode(assets.pairs)

        dirty |= {key for key, _ in pairs}
        if not 0 <= batch.now_ms - meta.emitted_ms < EMIT_MS:  # below 0: the clock was set back
            self._emit(state, step, batch.partition, batch.now_ms, moved, assets, dirty)
        else:
            step.writes[_DIRTY] = b"".join(sorted(dirty))
            step.writes[_META] = _PACK.encode(moved)
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Send on what changed since the last time."""
        meta, assets, dirty = _load(state)
        if not dirty or 0 <= now_ms - meta.emitted_ms < EMIT_MS:
            return None
        step = Step()
        self._emit(state, step, partition, now_ms, meta, assets, dirty)
        return step

    def opened(self, state: State, partition: int) -> None:
        """Nothing is cached."""

    def lost(self, partition: int) -> None:
        """Nothing is cached."""

    def _emit(self, state: State, step: Step, partition: int, now_ms: int, meta: Meta, assets: AssetTable, dirty: set[bytes]) -> None:
        """Send the changed panes of each asset, and the watermark to all when the newest pane changed."""
        keys = sorted(dirty)
        by_asset: dict[int, dict[str, PaneRecord | None]] = {}
        for key, stored in zip(keys, state.get_many(keys), strict=True):
            _, code, minute, number = _PANE_KEY.unpack(key)
            data = step.writes.get(key, stored)
            pane = PaneId(_LENGTHS[code], minute * 60_000)
            if data is None or not is_kept(pane, meta.ring_ms):
                continue
            record = PaneSums.from_bytes(data).record()
            if pane == TOTAL:
                record.served = meta.served
            by_asset.setdefault(number, {})[str(pane)] = record
        watermark = instant(meta.ring_ms)
        for number, panes in by_asset.items():
            dimension, asset = assets.pairs[number]
            message = PartialMessage(dimension, asset, partition, watermark, panes)
            step.outputs.append(Output(PARTIALS.name, f"{dimension}|{asset}".encode(), encode_partial(message)))
        if pane_start(meta.ring_ms, MINUTE_S) > pane_start(meta.emitted_ring_ms, MINUTE_S):
            value = encode_partial(PartialMessage(WATERMARK, "", partition, watermark, {}))
            step.outputs += [Output(PARTIALS.name, WATERMARK.encode(), value, partition=target) for target in range(self._partitions)]
        step.writes[_DIRTY] = None
        step.writes[_META] = _PACK.encode(msgspec.structs.replace(meta, emitted_ms=now_ms, emitted_ring_ms=meta.ring_ms))


def _load(state: State) -> tuple[Meta, AssetTable, set[bytes]]:
    meta, assets, dirty = state.get_many([_META, _ASSETS, _DIRTY])
    width = _PANE_KEY.size
    return (
        _META_DECODER.decode(meta) if meta else Meta(),
        AssetTable(_ASSETS_DECODER.decode(assets) if assets else ()),
        {dirty[i : i + width] for i in range(0, len(dirty), width)} if dirty else set(),
    )


def _pane_key(pane: PaneId, number: int) -> bytes:
    return _PANE_KEY.pack(b"p", _LENGTHS.index(pane.length_s), pane.start_ms // 60_000, number)


def _sums_of(records: Iterable[Record], meta: Meta, assets: AssetTable) -> tuple[dict[tuple[int, PaneId], PaneSums], Meta]:
    """The batch alone, by asset and pane, and what the partition then knows. Numbers new assets in ``assets``."""
    rows: list[OutcomeRow] = []
    exposures: list[tuple[int, int, ExposureMessage]] = []
    combinations: dict[tuple[str, str, str | None, str | None, str | None], tuple[int, ...]] = {}
    for record in records:
        try:
            message = decode_source(record.value or b"")
        except msgspec.DecodeError as error:
            place = f"{record.topic}/{record.partition} offset {record.offset}"
            raise ValueError(f"{place} is neither outcome nor exposure: {error}") from error
        at_ms = happened_ms(record, milliseconds(message.occurred_at))
        if isinstance(message, ExposureMessage):
            exposures.append((record.offset, at_ms, message))
            continue
        combination = (message.channel, message.type, message.category, message.country, message.segment)
        if combination not in combinations:
            combinations[combination] = _asset_numbers(message, assets)
        rows.append(
            OutcomeRow(
                record.offset,
                at_ms,
                message.type,
                combinations[combination],
                message.list_size > 0 and message.sku is not None,
                message.rank or 0,
                message.rank_after or 0,
                message.popularity_rank or 0,
                message.attributed,
                message.revenue,
                message.currency,
            )
        )

    served = max((at, m.encoder, m.model, m.catalogue_size) for _, at, m in exposures) if exposures else None
    ring_ms = max([meta.ring_ms, *(at for _, at, _ in exposures)])
    watermark_ms = meta.watermark_ms
    sums: dict[tuple[int, PaneId], PaneSums] = {}
    if rows:
        result = tally(rows, watermark_ms, ring_ms)
        sums, watermark_ms = result.sums, result.watermark_ms
    ring_ms = max(ring_ms, watermark_ms)
    overall = assets.number("overall", ALL)
    for offset, at_ms, message in exposures:
        _add_exposure(sums, overall, offset, at_ms, message, ring_ms)
    if served and (meta.served is None or served > meta.served):
        meta = msgspec.structs.replace(meta, served=served)
    return sums, msgspec.structs.replace(meta, watermark_ms=watermark_ms, ring_ms=ring_ms)


def _asset_numbers(message: OutcomeMessage, assets: AssetTable) -> tuple[int, ...]:
    """The numbers of the assets that an outcome belongs to, one a dimension that it names."""
    named = (
        ("overall", ALL),
        ("channel", message.channel),
        ("event_type", message.type),
        ("category", message.category or UNCATEGORISED),
        ("country", message.country),
        ("segment", message.segment),
    )
    return tuple(assets.number(dimension, asset) for dimension, asset in named if asset is not None)


def _add_exposure(
    sums: dict[tuple[int, PaneId], PaneSums], overall: int, offset: int, at_ms: int, message: ExposureMessage, ring_ms: int
) -> None:
    items = CatalogueCoverage().update(message.skus).to_bytes()
    part = PaneSums(
        items=items,
        offset_low=offset,
        offset_high=offset,
        first_ms=at_ms,
        served=(at_ms, message.encoder, message.model, message.catalogue_size),
    )
    for pane in (PaneId(MINUTE_S, pane_start(at_ms, MINUTE_S)), PaneId(HOUR_S, pane_start(at_ms, HOUR_S)), TOTAL):
        if is_kept(pane, ring_ms):
            known = sums.get((overall, pane))
            sums[overall, pane] = PaneSums.merged([known, part]) if known else part


def _leaving(state: State, ring_ms: int) -> Mapping[bytes, None]:
    """The stored panes that have left their ring."""
    gone: dict[bytes, None] = {}
    for code, length_s in enumerate(_LENGTHS):
        oldest = oldest_kept(length_s, ring_ms) // 60_000
        for key, _ in state.scan(_PANE_KEY.pack(b"p", code, 0, 0)[:2]):
            if _PANE_KEY.unpack(key)[2] >= oldest:
                break
            gone[key] = None
    return gone


def tasks(settings: Settings) -> list[Task]:
    """The two tasks of the role: ``value`` counts in each partition, ``rolling`` adds up over partitions."""
    return [
        Task("value", (OUTCOMES.name,), ValueProcessor(settings.partitions)),
        Task("rolling", (PARTIALS.name,), RollingProcessor()),
    ]
