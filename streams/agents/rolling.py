"""Panes of every partition of ``outcomes``, added up in one place an asset, as rolling valuation records."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from models.valuation import WINDOWS, AssetPanes, PaneId, PaneSums, pane_start, rolling_record
from models.valuation.messages import WATERMARK, PartialMessage, decode_partial, milliseconds
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL_S
from schemas.topics import OUTCOMES, VALUATION
from streams.runtime.processor import Batch, Output, Record, State, Step

#: Changed assets are published about this often.
EMIT_MS: Final = 1_000

#: Keys: "p" asset source length minute = a pane; "w" = the watermark, and that of the last publication; "d" asset = changed and
#: not yet published; "e" asset = which windows were last published empty. The suffix has a fixed width, so any asset name will do.
_PANE, _WATERMARK, _DIRTY, _EMPTY = b"p", b"w", b"d", b"e"
_PANE_SUFFIX: Final = struct.Struct(">HBI")
_TIMES: Final = struct.Struct(">qq")
_LENGTHS: Final = (TOTAL_S, MINUTE_S, HOUR_S)


class RollingProcessor:
    """Latest panes by (asset, source partition).

    The cache holds what the state holds: partials are absolute, so applying one twice, or again after a step that never
    happened, changes nothing.
    """

    def __init__(self) -> None:
        self._owned: dict[int, dict[bytes, AssetPanes]] = {}
        self._published_ms: dict[int, int] = {}

    def opened(self, state: State, partition: int) -> None:
        """Read all panes back; those that left their ring meanwhile are deleted with the next records published."""
        assets: dict[bytes, AssetPanes] = {}
        for key, value in state.scan(_PANE):
            name, suffix = key[1 : -_PANE_SUFFIX.size], key[-_PANE_SUFFIX.size :]
            source, code, minute = _PANE_SUFFIX.unpack(suffix)
            assets.setdefault(name, AssetPanes()).replace(source, PaneId(_LENGTHS[code], minute * 60_000), PaneSums.from_bytes(value))
        self._owned[partition] = assets
        self._published_ms[partition] = 0

    def lost(self, partition: int) -> None:
        """Drop the partition's panes."""
        self._owned.pop(partition, None)
        self._published_ms.pop(partition, None)

    def process(self, state: State, batch: Batch) -> Step:
        """Take in partials; publish what changed when the last time was ``EMIT_MS`` ago."""
        step = Step()
        # All are decoded before any is applied: a record that cannot be read must leave the cache as it is.
        messages = list(_decoded(batch.records))
        watermark_ms, published_watermark_ms = _times(state, step)
        for message in messages:
            watermark_ms = max(watermark_ms, milliseconds(message.watermark))
            if message.dimension != WATERMARK:
                self._apply(batch.partition, message, step)
        step.writes[_WATERMARK] = _TIMES.pack(watermark_ms, published_watermark_ms)
        if not 0 <= batch.now_ms - self._published_ms[batch.partition] < EMIT_MS:  # below 0: the clock was set back
            self._publish(state, step, batch.partition, batch.now_ms)
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Publish the assets that changed since the last time."""
        if 0 <= now_ms - self._published_ms[partition] < EMIT_MS:
            return None
        step = Step()
        self._publish(state, step, partition, now_ms)
        return step if step.outputs or step.writes else None

    def _apply(self, partition: int, message: PartialMessage, step: Step) -> None:
        name = f"{message.dimension}|{message.asset}".encode()
        panes = self._owned[partition].setdefault(name, AssetPanes())
        source = message.source_partition
        for text, record in message.panes.items():
            pane = PaneId.parse(text)
            sums = None if record is None else PaneSums.from_record(record)
            panes.replace(source, pane, sums)
            step.writes[_pane_key(name, source, pane)] = None if sums is None else sums.to_bytes()
        step.writes[_DIRTY + name] = b""

    def _publish(self, state: State, step: Step, partition: int, now_ms: int) -> None:
        """Publish the assets that changed; all of them when the newest pane did, because every window then moves on."""
        self._published_ms[partition] = now_ms
        watermark_ms, published_watermark_ms = _times(state, step)
        for name, panes in self._owned[partition].items():
            for source, pane in panes.advance(watermark_ms):
                step.writes[_pane_key(name, source, pane)] = None
        marks = {key for key, _ in state.scan(_DIRTY)} | {key for key in step.writes if key.startswith(_DIRTY)}
        changed = {key[1:] for key in marks}
        if pane_start(watermark_ms, MINUTE_S) > pane_start(published_watermark_ms, MINUTE_S):
            changed = set(self._owned[partition])
        names = sorted(changed)
        for name, flags in zip(names, state.get_many([_EMPTY + name for name in names]), strict=True):
            before = flags[0] if flags else 0
            now_empty = self._records_of(partition, name, before, step)
            if now_empty != before:
                step.writes[_EMPTY + name] = bytes([now_empty])
        step.writes.update(dict.fromkeys(marks))
        if watermark_ms > published_watermark_ms:
            step.writes[_WATERMARK] = _TIMES.pack(watermark_ms, watermark_ms)

    def _records_of(self, partition: int, name: bytes, empty_before: int, step: Step) -> int:
        """Add one record a window, but a window that was published empty and still is; returns which are empty, a bit each."""
        panes = self._owned[partition][name]
        dimension, asset = name.decode().split("|", 1)
        empty = 0
        for bit, window_name in enumerate(WINDOWS):
            window = panes.window(window_name)
            if not window.offsets:
                empty |= 1 << bit
                if empty_before & 1 << bit:
                    continue
            record = rolling_record(dimension, asset, window, panes.watermark_ms, OUTCOMES.name)
            step.outputs.append(Output(VALUATION.name, f"{dimension}|{asset}|{window_name}".encode(), record.to_json()))
        return empty


def _times(state: State, step: Step) -> tuple[int, int]:
    """The watermark in ms, and the watermark of the last publication."""
    stored = step.writes.get(_WATERMARK) or state.get_many([_WATERMARK])[0]
    watermark_ms, published_ms = _TIMES.unpack(stored) if stored else (0, 0)
    return watermark_ms, published_ms


def _pane_key(name: bytes, source: int, pane: PaneId) -> bytes:
    return _PANE + name + _PANE_SUFFIX.pack(source, _LENGTHS.index(pane.length_s), pane.start_ms // 60_000)


def _decoded(records: Iterable[Record]) -> Iterator[PartialMessage]:
    for record in records:
        try:
            yield decode_partial(record.value or b"")
        except msgspec.DecodeError as error:
            raise ValueError(f"{record.topic}/{record.partition} offset {record.offset} is not a pane partial: {error}") from error
