"""The value role: each partition counts its outcomes by event-time pane, one place a dimension adds up what they have counted."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from models.metrics import CatalogueCoverage
from models.valuation import (
    ALL,
    TOTAL,
    UNCATEGORISED,
    AssetNumbers,
    OutcomeRow,
    PaneId,
    PaneRecord,
    PaneSums,
    pane_start,
    tally,
)
from models.valuation.messages import (
    WATERMARK,
    ExposureMessage,
    OutcomeMessage,
    PartialMessage,
    ResolutionMessage,
    check_source,
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

#: What was counted is sent on about this often: a rolling number that is a second old is fresh, and a pane that changes
#: a hundred times a second then costs one sum, not a hundred.
EMIT_MS: Final = 1_000
#: Panes that wait to be sent; with more than that they are sent at once, which bounds the state whatever the events name.
UNSENT_LIMIT: Final = 5_000
#: Panes in one message, of one asset at least: some 100 KB, below any broker's limit.
MESSAGE_PANES: Final = 500

#: Of partials in one step: some ten messages, each of up to ``MESSAGE_PANES`` panes that are published one by one.
ROLLING_STEP_BYTES: Final = 1024 * 1024

_META, _ASSETS, _UNSENT = b"meta", b"assets", b"unsent"
#: Key of a pane that waits to be sent: "p", length, first minute, asset number.
_PANE_KEY: Final = struct.Struct(">cBII")
_LENGTHS: Final = (TOTAL_S, MINUTE_S, HOUR_S)


class Meta(msgspec.Struct):
    """What a partition knows beside what it has counted.

    ``watermark_ms``: largest outcome time; ``ring_ms``: largest time, of exposures too; ``emitted_ms``, ``emitted_ring_ms``:
    wall clock and ``ring_ms`` at the last emission; ``served``: the newest exposure.
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
    """Counts one partition of ``outcomes``, and sends on what it has counted since the last time: each outcome is in one message.

    That the sums are those of a second, not all that ever were, keeps its state as small as its input, whatever assets the
    events name: which of them are told apart is decided where all partitions come together. Keeps nothing in memory.
    ``partitions``: how many ``valuation.partials`` has; each is told when the newest minute changed, so that the windows of
    dimensions that saw nothing new move on with those of the others.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def process(self, state: State, batch: Batch) -> Step:
        """Count the batch; send on what was counted when the last time was ``EMIT_MS`` ago, or when it is much."""
        step = Step()
        meta, assets, unsent = _load(state)
        known_assets = len(assets)
        changed, moved = _sums_of(batch.records, meta, assets)

        pairs = [(_pane_key(pane, number), sums) for (number, pane), sums in changed.items()]
        held = state.get_many([key for key, _ in pairs])
        for (key, sums), old in zip(pairs, held, strict=True):
            step.writes[key] = (PaneSums.merged([PaneSums.from_bytes(old), sums]) if old else sums).to_bytes()

        unsent |= {key for key, _ in pairs}
        # A difference below 0: the clock was set back.
        if not 0 <= batch.now_ms - meta.emitted_ms < EMIT_MS or len(unsent) > UNSENT_LIMIT:
            self._emit(state, step, batch.partition, batch.now_ms, moved, assets, unsent)
        else:
            if len(assets) > known_assets:
                step.writes[_ASSETS] = _PACK.encode(assets.pairs)
            step.writes[_UNSENT] = b"".join(sorted(unsent))
            step.writes[_META] = _PACK.encode(moved)
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Send on what was counted since the last time."""
        meta, assets, unsent = _load(state)
        if not unsent or 0 <= now_ms - meta.emitted_ms < EMIT_MS:
            return None
        step = Step()
        self._emit(state, step, partition, now_ms, meta, assets, unsent)
        return step

    def opened(self, state: State, partition: int) -> None:
        """Nothing is cached."""

    def lost(self, partition: int) -> None:
        """Nothing is cached."""

    def _emit(self, state: State, step: Step, partition: int, now_ms: int, meta: Meta, assets: AssetNumbers, unsent: set[bytes]) -> None:
        """Send on and forget what was counted, and tell all the watermark when the newest minute changed."""
        keys = sorted(unsent)
        counted: dict[str, dict[str, dict[str, PaneRecord]]] = {}
        for key, stored in zip(keys, state.get_many(keys), strict=True):
            data = step.writes.pop(key, stored)
            if stored is not None:
                step.writes[key] = None
            if data is None:
                raise ValueError(f"partition {partition}: the sums of a pane that waits to be sent are missing: {key!r}")
            _, code, minute, number = _PANE_KEY.unpack(key)
            pane = PaneId(_LENGTHS[code], minute * 60_000)
            record = PaneSums.from_bytes(data).record()
            if pane == TOTAL:
                record.served = meta.served
            dimension, asset = assets.pairs[number]
            counted.setdefault(dimension, {}).setdefault(asset, {})[str(pane)] = record
        before, now = instant(meta.emitted_ring_ms), instant(meta.ring_ms)
        for dimension in sorted(counted):
            parts = list(_parts(counted[dimension]))
            for place, part in enumerate(parts, 1):
                # A watermark says that all before it has been said, so the last part alone may move it.
                message = PartialMessage(dimension, partition, now if place == len(parts) else before, part)
                step.outputs.append(Output(PARTIALS.name, dimension.encode(), encode_partial(message)))
        if pane_start(meta.ring_ms, MINUTE_S) > pane_start(meta.emitted_ring_ms, MINUTE_S):
            value = encode_partial(PartialMessage(WATERMARK, partition, now, {}))
            step.outputs += [Output(PARTIALS.name, WATERMARK.encode(), value, partition=target) for target in range(self._partitions)]
        step.writes[_ASSETS] = step.writes[_UNSENT] = None
        step.writes[_META] = _PACK.encode(msgspec.structs.replace(meta, emitted_ms=now_ms, emitted_ring_ms=meta.ring_ms))


def _parts(assets: Mapping[str, dict[str, PaneRecord]]) -> Iterator[dict[str, dict[str, PaneRecord]]]:
    """The assets of one dimension, cut into messages."""
    part: dict[str, dict[str, PaneRecord]] = {}
    size = 0
    for asset, panes in assets.items():
        if part and size + len(panes) > MESSAGE_PANES:
            yield part
            part, size = {}, 0
        part[asset] = panes
        size += len(panes)
    yield part


def _load(state: State) -> tuple[Meta, AssetNumbers, set[bytes]]:
    """What is known, the numbers of the assets that wait to be sent, and the keys of their panes."""
    meta, assets, unsent = state.get_many([_META, _ASSETS, _UNSENT])
    width = _PANE_KEY.size
    return (
        _META_DECODER.decode(meta) if meta else Meta(),
        AssetNumbers(_ASSETS_DECODER.decode(assets) if assets else ()),
        {unsent[i : i + width] for i in range(0, len(unsent), width)} if unsent else set(),
    )


def _pane_key(pane: PaneId, number: int) -> bytes:
    return _PANE_KEY.pack(b"p", _LENGTHS.index(pane.length_s), pane.start_ms // 60_000, number)


def _sums_of(records: Iterable[Record], meta: Meta, assets: AssetNumbers) -> tuple[dict[tuple[int, PaneId], PaneSums], Meta]:
    """The batch alone, by asset and pane, and what the partition then knows. Numbers new assets in ``assets``."""
    rows: list[OutcomeRow] = []
    exposures: list[tuple[int, int, ExposureMessage]] = []
    combinations: dict[tuple[str, str, str | None, str | None, str | None], tuple[int, ...]] = {}
    for record in records:
        try:
            message = decode_source(record.value or b"")
            if isinstance(message, ResolutionMessage):
                continue
            check_source(message)
        except (msgspec.DecodeError, ValueError) as error:
            place = f"{record.topic}/{record.partition} offset {record.offset}"
            raise ValueError(f"{place} is neither outcome nor exposure nor resolution: {error}") from error
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
        result = tally(rows, watermark_ms)
        sums, watermark_ms = result.sums, result.watermark_ms
    ring_ms = max(ring_ms, watermark_ms)
    overall = assets.number("overall", ALL)
    for offset, at_ms, message in exposures:
        _add_exposure(sums, overall, offset, at_ms, message)
    if served and (meta.served is None or served > meta.served):
        meta = msgspec.structs.replace(meta, served=served)
    return sums, msgspec.structs.replace(meta, watermark_ms=watermark_ms, ring_ms=ring_ms)


def _asset_numbers(message: OutcomeMessage, assets: AssetNumbers) -> tuple[int, ...]:
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


def _add_exposure(sums: dict[tuple[int, PaneId], PaneSums], overall: int, offset: int, at_ms: int, message: ExposureMessage) -> None:
    items = CatalogueCoverage().update(message.skus).to_bytes()
    part = PaneSums(
        items=items,
        offset_low=offset,
        offset_high=offset,
        first_ms=at_ms,
        served=(at_ms, message.encoder, message.model, message.catalogue_size),
    )
    for pane in (PaneId(MINUTE_S, pane_start(at_ms, MINUTE_S)), PaneId(HOUR_S, pane_start(at_ms, HOUR_S)), TOTAL):
        known = sums.get((overall, pane))
        sums[overall, pane] = PaneSums.merged([known, part]) if known else part


def tasks(settings: Settings) -> list[Task]:
    """The two tasks of the role: ``value`` counts in each partition, ``rolling`` adds up over partitions, a dimension in one place."""
    return [
        Task("value", (OUTCOMES.name,), ValueProcessor(settings.partitions)),
        Task("rolling", (PARTIALS.name,), RollingProcessor(), step_bytes=ROLLING_STEP_BYTES),
    ]
