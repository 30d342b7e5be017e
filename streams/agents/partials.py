"""What one partition has counted since it last said so: kept by pane, and sent on as partials."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeVar

import msgspec

from models.valuation import TOTAL, AssetNumbers, PaneId, PaneRecord, PaneSums, pane_start
from models.valuation.appraisal import WORTH_DIMENSIONS, Rules
from models.valuation.arms import ArmSums
from models.valuation.messages import WATERMARK, PartialMessage, encode_partial
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL_S
from models.valuation.record import instant
from models.valuation.worth import Worth, merged
from models.valuation.worth import from_bytes as worth_from_bytes
from models.valuation.worth import to_bytes as worth_to_bytes
from schemas.topics import PARTIALS
from streams.agents.counts import Meta
from streams.runtime.processor import Output, State, Step

#: What was counted is sent on about this often: a rolling number that is a second old is fresh, and a pane that changes
#: a hundred times a second then costs one sum, not a hundred.
EMIT_MS: Final = 1_000
#: Panes that wait to be sent; with more than that they are sent at once, which bounds the state whatever the events name.
UNSENT_LIMIT: Final = 5_000
#: Panes in one message, of one asset at least: some 100 KB, below any broker's limit.
MESSAGE_PANES: Final = 500
_PANE_BYTES: Final = 200

#: Of what waits to be sent: the assets, the keys of their panes, and what panes were worth.
_META, _ASSETS, _UNSENT, _WORTH = b"meta", b"assets", b"unsent", b"worth"
#: Key of a pane that waits to be sent: "p", length, first minute, asset number, or that of the dimension whose worth it is.
_PANE_KEY: Final = struct.Struct(">cBII")
_LENGTHS: Final = (TOTAL_S, MINUTE_S, HOUR_S)

_PACK: Final = msgspec.msgpack.Encoder()
_META_DECODER: Final = msgspec.msgpack.Decoder(Meta)
_ASSETS_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str]])

T = TypeVar("T")


class Unsent:
    """What waits to be sent of one partition, as its state has it. ``meta``: what is known beside it; ``assets``: those that it is of, by
    number. ``rules``: those that it is valued by.
    """

    def __init__(self, state: State, rules: Rules) -> None:
        meta, assets, keys = state.get_many([_META, _ASSETS, _UNSENT])
        width = _PANE_KEY.size
        self.meta = _META_DECODER.decode(meta) if meta else Meta(neighbours=rules.neighbours)
        self.assets = AssetNumbers(_ASSETS_DECODER.decode(assets) if assets else ())
        self._state = state
        self._known_assets = len(self.assets)
        self._keys = {keys[i : i + width] for i in range(0, len(keys), width)} if keys else set[bytes]()

    @property
    def waits(self) -> bool:
        """Whether there is anything. What lists came to may wait where nothing was counted."""
        return bool(self._keys) or next(self._state.scan(_WORTH), None) is not None

    def is_due(self, now_ms: int) -> bool:
        """Whether it is to be sent: the last time was ``EMIT_MS`` ago, or it is much."""
        # A difference below 0: the clock was set back.
        return not 0 <= now_ms - self.meta.emitted_ms < EMIT_MS or len(self._keys) > UNSENT_LIMIT

    def add(self, step: Step, changed: Mapping[tuple[int, PaneId], PaneSums]) -> None:
        """What was counted by asset number and pane waits, too."""
        pairs = [(_pane_key(pane, number), sums) for (number, pane), sums in changed.items()]
        held = self._state.get_many([key for key, _ in pairs])
        for (key, sums), old in zip(pairs, held, strict=True):
            step.writes[key] = (PaneSums.merged([PaneSums.from_bytes(old), sums]) if old else sums).to_bytes()
        self._keys |= {key for key, _ in pairs}

    def add_worths(self, step: Step, sums: Mapping[PaneId, Mapping[str, Worth]]) -> None:
        """What tests were worth by pane and dimension waits, too."""
        parts = {
            _WORTH + _pane_key(pane, WORTH_DIMENSIONS.index(dimension)): worth
            for pane, worths in sums.items()
            for dimension, worth in worths.items()
        }
        for (key, worth), held in zip(parts.items(), self._state.get_many(list(parts)), strict=True):
            step.writes[key] = worth_to_bytes(merged([worth_from_bytes(held), worth]) if held else worth)

    def keep(self, step: Step) -> None:
        """It goes on waiting."""
        if len(self.assets) > self._known_assets:
            step.writes[_ASSETS] = _PACK.encode(self.assets.pairs)
        step.writes[_UNSENT] = b"".join(sorted(self._keys))
        step.writes[_META] = _PACK.encode(self.meta)

    def send(self, step: Step, partition: int, partitions: int, now_ms: int, arms: dict[str, ArmSums]) -> None:
        """Send on and forget it, with what the books of ``arms`` moved by, and tell all ``partitions`` the watermark when the newest minute
        changed.
        """
        meta = self.meta
        counted = self._counted(step, partition)
        worths = self._worths(step)
        before, now = instant(meta.emitted_ring_ms), instant(meta.ring_ms)
        for dimension in sorted(counted.keys() | worths.keys()):
            parts: list[tuple[dict[str, dict[str, PaneRecord]], dict[str, Worth]]] = [
                *((part, {}) for part in _parts(counted.get(dimension, {}), len)),
                *(({}, part) for part in _parts(worths.get(dimension, {}), _size)),
            ]
            for place, (part, worth) in enumerate(parts, 1):
                # A watermark says that all before it has been said, so the last part alone may move it.
                last = place == len(parts)
                moved = arms if last and dimension in WORTH_DIMENSIONS else {}
                message = PartialMessage(dimension, partition, now if last else before, part, worth, moved, meta.neighbours)
                step.outputs.append(Output(PARTIALS.name, dimension.encode(), encode_partial(message)))
        if pane_start(meta.ring_ms, MINUTE_S) > pane_start(meta.emitted_ring_ms, MINUTE_S):
            value = encode_partial(PartialMessage(WATERMARK, partition, now, {}, neighbours=meta.neighbours))
            step.outputs += [Output(PARTIALS.name, WATERMARK.encode(), value, partition=target) for target in range(partitions)]
        step.writes[_ASSETS] = step.writes[_UNSENT] = None
        step.writes[_META] = _PACK.encode(msgspec.structs.replace(meta, emitted_ms=now_ms, emitted_ring_ms=meta.ring_ms))

    def _counted(self, step: Step, partition: int) -> dict[str, dict[str, dict[str, PaneRecord]]]:
        """By dimension, asset and pane, what is added by this step included; it is forgotten by the step."""
        keys = sorted(self._keys)
        counted: dict[str, dict[str, dict[str, PaneRecord]]] = {}
        for key, stored in zip(keys, self._state.get_many(keys), strict=True):
            data = step.writes.pop(key, stored)
            if stored is not None:
                step.writes[key] = None
            if data is None:
                raise ValueError(f"partition {partition}: the sums of a pane that waits to be sent are missing: {key!r}")
            _, code, minute, number = _PANE_KEY.unpack(key)
            pane = PaneId(_LENGTHS[code], minute * 60_000)
            record = PaneSums.from_bytes(data).record()
            if pane == TOTAL:
                record.served = self.meta.served
            dimension, asset = self.assets.pairs[number]
            counted.setdefault(dimension, {}).setdefault(asset, {})[str(pane)] = record
        return counted

    def _worths(self, step: Step) -> dict[str, dict[str, Worth]]:
        """The same of what tests were worth, by dimension and pane."""
        stored = dict(self._state.scan(_WORTH))
        written = {key: step.writes.pop(key) for key in list(step.writes) if key.startswith(_WORTH)}
        step.writes.update(dict.fromkeys(stored))
        worths: dict[str, dict[str, Worth]] = {}
        for key, data in sorted({**stored, **written}.items()):
            if data is not None:
                _, code, minute, number = _PANE_KEY.unpack(key[len(_WORTH) :])
                pane = PaneId(_LENGTHS[code], minute * 60_000)
                worths.setdefault(WORTH_DIMENSIONS[number], {})[str(pane)] = worth_from_bytes(data)
        return worths


def _parts(held: Mapping[str, T], size_of: Callable[[T], int]) -> Iterator[dict[str, T]]:
    """What is held of one dimension, cut into messages of at most ``MESSAGE_PANES`` panes of one asset, counted by ``size_of``."""
    part: dict[str, T] = {}
    size = 0
    for name, one in held.items():
        if part and size + size_of(one) > MESSAGE_PANES:
            yield part
            part, size = {}, 0
        part[name] = one
        size += size_of(one)
    if part:
        yield part


def _size(worth: Worth) -> int:
    """In panes of one asset (``MESSAGE_PANES``)."""
    replicates = (sums for credit in worth.credits.values() for sums in credit.replicates.values())
    return len(worth.credits) + sum(len(sums.gains) + len(sums.losses) for sums in replicates) // _PANE_BYTES


def _pane_key(pane: PaneId, number: int) -> bytes:
    return _PANE_KEY.pack(b"p", _LENGTHS.index(pane.length_s), pane.start_ms // 60_000, number)
