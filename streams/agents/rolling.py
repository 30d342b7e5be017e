"""What the partitions of ``outcomes`` have counted, added up in one place a dimension, as rolling valuation records."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from models.valuation import (
    WINDOWS,
    AssetBound,
    AssetPanes,
    PaneId,
    PaneSums,
    WindowSums,
    closed_until,
    is_kept,
    pane_start,
    rolling_record,
)
from models.valuation.appraisal import Rules
from models.valuation.arms import ArmSums, added
from models.valuation.costs import Costs
from models.valuation.messages import WATERMARK, PartialMessage, check_partial, decode_partial, milliseconds
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL_S
from models.valuation.record import Status, instant
from models.valuation.windows import PaneRing, WorthPanes, WorthWindow
from models.valuation.worth import from_bytes as worth_from_bytes
from models.valuation.worth import to_bytes as worth_to_bytes
from models.valuation.worth_record import value_register
from schemas.topics import OUTCOMES, PARTIALS, REGISTER, VALUATION
from schemas.valuation import AssetValue, ValueRegister
from streams.agents.value_gauges import ValueGauges
from streams.agents.yardsticks import check_neighbours
from streams.runtime.processor import Batch, Output, Record, State, Step

#: Changed assets are published about this often.
EMIT_MS: Final = 1_000
#: Panes changed after which they are published at once: in a replay minutes pass by the hundred in a second, and each that is over is a
#: record of its own, so a step that published all of a second's would hold up everything else.
UNPUBLISHED_LIMIT: Final = 2_000

#: Suffixes of keys have a fixed width, so any asset name will do: source, length and minute of a pane; a minute.
_PANE_SUFFIX: Final = struct.Struct(">HBI")
_DIRTY_SUFFIX: Final = struct.Struct(">I")
_LENGTHS: Final = (TOTAL_S, MINUTE_S, HOUR_S)
_PROGRESS: Final = b"w"
#: What the arms of experiments brought, over all partitions; behind it the dimension, of which each has it from the same messages as its
#: panes, so that what is shared out is of the same outcomes as what it is shared out by.
_ARMS: Final = b"x"


class _Kind(NamedTuple):
    """Where the panes of one kind of record are kept, by its name. Prefixes of keys: ``pane``; ``dirty``, changed and not yet published,
    the name and minute 0, or a minute that was closed before; ``empty``, which windows were last published empty.
    """

    pane: bytes
    dirty: bytes
    empty: bytes
    topic: str

    def pane_key(self, name: bytes, source: int, pane: PaneId) -> bytes:
        """Key of a pane as one partition has it."""
        return self.pane + name + _PANE_SUFFIX.pack(source, _LENGTHS.index(pane.length_s), pane.start_ms // 60_000)

    def dirty_key(self, name: bytes, minute: PaneId | None = None) -> bytes:
        """Key of the mark that says: to be published."""
        return self.dirty + name + _DIRTY_SUFFIX.pack(minute.start_ms // 60_000 if minute else 0)

    def panes(self, state: State) -> Iterator[tuple[bytes, int, PaneId, bytes]]:
        """Name, source, pane and value of all that is kept."""
        for key, value in state.scan(self.pane):
            source, code, minute = _PANE_SUFFIX.unpack(key[-_PANE_SUFFIX.size :])
            yield key[len(self.pane) : -_PANE_SUFFIX.size], source, PaneId(_LENGTHS[code], minute * 60_000), value

    def mark(self, step: Step, name: bytes, source: int, pane: PaneId, value: bytes, closed_ms: int) -> None:
        """A pane changed."""
        step.writes[self.pane_key(name, source, pane)] = value
        step.writes[self.dirty_key(name)] = b""
        if pane.length_s == MINUTE_S and pane.start_ms < closed_ms:
            step.writes[self.dirty_key(name, pane)] = b""


_ASSETS: Final = _Kind(b"p", b"d", b"e", VALUATION.name)
_REGISTERS: Final = _Kind(b"v", b"c", b"n", REGISTER.name)


class Progress(msgspec.Struct):
    """How far event time has come, in ms: the watermark by source partition; the largest of them at the last publication, up to
    which the rings have moved; the end of the newest minute that was closed by then. ``neighbours``: by which all was valued.
    """

    sources: dict[int, int] = {}
    published_ms: int = 0
    closed_ms: int = 0
    neighbours: Literal["sessions", "embeddings"] = "sessions"

    @property
    def watermark_ms(self) -> int:
        """The largest event time known."""
        return max(self.sources.values(), default=0)


_PACK: Final = msgspec.msgpack.Encoder()
_ARMS_DECODER: Final = msgspec.msgpack.Decoder(dict[str, ArmSums])
_PROGRESS_DECODER: Final = msgspec.msgpack.Decoder(Progress)


@dataclass(slots=True)
class _Owned:
    """The cache of one partition: its assets by ``dimension|asset``, what its dimensions were worth, what arms of experiments brought
    by dimension, which assets are told apart, the last publication, and how many panes changed since.
    """

    assets: dict[bytes, AssetPanes] = field(default_factory=dict)
    worths: dict[bytes, WorthPanes] = field(default_factory=dict)
    arms: dict[bytes, dict[str, ArmSums]] = field(default_factory=dict)
    bound: AssetBound = field(default_factory=AssetBound)
    published_ms: int = 0
    unpublished: int = 0
    gauges: ValueGauges = field(default_factory=ValueGauges)


class RollingProcessor:
    """All panes of the dimensions that it owns, by (asset, source partition); decides which assets of them are told apart.

    The cache holds what the state holds. Partials add up, so a step must count once: one that never happened is forgotten
    by reading the state back (``opened``). ``costs``: what data costs. ``rules``: those that tests are valued by.
    """

    def __init__(self, costs: Costs | None = None, rules: Rules | None = None) -> None:
        self._costs = costs or Costs()
        self._rules = rules or Rules()
        self._owned: dict[int, _Owned] = {}

    def opened(self, state: State, partition: int) -> None:
        """Read all panes back; those that left their ring meanwhile are deleted with the next records published. Raises ``ValuationWrong``
        where they were valued by other neighbours.
        """
        check_neighbours(f"partition {partition} of {PARTIALS.name}", _progress(state, self._rules).neighbours, self._rules)
        owned = _Owned()
        # Every asset that is told apart has a total, which stays for ever; so the panes say which ones those are.
        for name, source, pane, value in _ASSETS.panes(state):
            owned.bound.kept(*_parsed(name))
            owned.assets.setdefault(name, AssetPanes()).add(source, pane, PaneSums.from_bytes(value))
        for name, source, pane, value in _REGISTERS.panes(state):
            worth = worth_from_bytes(value)
            for asset in worth.credits:
                owned.bound.kept(name.decode(), asset)
            owned.worths.setdefault(name, WorthPanes()).add(source, pane, worth)
        owned.arms = {key[len(_ARMS) :]: _ARMS_DECODER.decode(arms) for key, arms in state.scan(_ARMS)}
        self._owned[partition] = owned

    def lost(self, partition: int) -> None:
        """Drop the partition's panes."""
        owned = self._owned.pop(partition, None)
        if owned is not None:
            owned.gauges.clear()

    def process(self, state: State, batch: Batch) -> Step:
        """Take in partials; publish what changed when the last time was ``EMIT_MS`` ago, or when it is much. Raises ``ValuationWrong`` for
        one that a worker sent which values by other neighbours.
        """
        # All are decoded before any is added: a record that cannot be read must leave the cache as it is.
        messages = list(_decoded(batch.records, self._rules))
        try:
            return self._taken_in(state, batch, messages)
        except Exception:
            self.opened(state, batch.partition)
            raise

    def _taken_in(self, state: State, batch: Batch, messages: Iterable[PartialMessage]) -> Step:
        step = Step()
        owned, progress = self._owned[batch.partition], _progress(state, self._rules)
        touched: dict[tuple[bytes, int, PaneId], None] = {}
        valued: dict[tuple[bytes, int, PaneId], None] = {}
        for message in messages:
            source, watermark_ms = message.source_partition, milliseconds(message.watermark)
            progress.sources[source] = max(progress.sources.get(source, 0), watermark_ms)
            if message.dimension != WATERMARK:
                touched.update(dict.fromkeys(_add(owned, message)))
                valued.update(dict.fromkeys(_add_worth(owned, message)))
            if message.arms:
                name = message.dimension.encode()
                # What an experiment that is over had booked was taken back: nobody is left in its books.
                left = {book: sums for book, sums in added(owned.arms.get(name, {}), message.arms).items() if sums.shoppers}
                owned.arms[name] = left
                step.writes[_ARMS + name] = _PACK.encode(left)
        for name, source, pane in touched:
            value = owned.assets[name].held(source, pane).to_bytes()
            _ASSETS.mark(step, name, source, pane, value, progress.closed_ms)
        for name, source, pane in valued:
            value = worth_to_bytes(owned.worths[name].held(source, pane))
            _REGISTERS.mark(step, name, source, pane, value, progress.closed_ms)
        step.writes[_PROGRESS] = _PACK.encode(progress)
        owned.unpublished += len(touched) + len(valued)
        # A difference below 0: the clock was set back.
        if not 0 <= batch.now_ms - owned.published_ms < EMIT_MS or owned.unpublished > UNPUBLISHED_LIMIT:
            _Publication(owned, state, step, progress, self._costs, self._rules).run(batch.now_ms)
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Publish the assets that changed since the last time."""
        owned = self._owned[partition]
        if 0 <= now_ms - owned.published_ms < EMIT_MS:
            return None
        step = Step()
        _Publication(owned, state, step, _progress(state, self._rules), self._costs, self._rules).run(now_ms)
        return step if step.outputs or step.writes else None


class _Publication:
    """One publication: closes minutes, corrects closed ones, lets go of old panes, and publishes the windows that changed."""

    def __init__(self, owned: _Owned, state: State, step: Step, progress: Progress, costs: Costs, rules: Rules) -> None:
        self._costs = costs
        self._rules = rules
        self._owned = owned
        self._state = state
        self._step = step
        self._progress = progress
        self._watermark_ms = progress.watermark_ms
        self._closed_ms = max(closed_until(progress.sources.values()), progress.closed_ms) if progress.sources else 0

    def run(self, now_ms: int) -> None:
        """Add it to the step."""
        self._owned.published_ms = now_ms
        self._owned.unpublished = 0
        progress = self._progress
        registers = _Registers(self._owned, self._watermark_ms, self._rules)
        # An asset's record quotes the register, whose windows must have moved on first.
        self._publish(registers)
        self._publish(_Assets(self._owned.assets, registers, self._watermark_ms, self._costs))
        if self._watermark_ms > progress.published_ms or self._closed_ms > progress.closed_ms:
            moved = msgspec.structs.replace(progress, published_ms=self._watermark_ms, closed_ms=self._closed_ms)
            self._step.writes[_PROGRESS] = _PACK.encode(moved)

    def _publish(self, records: _Records) -> None:
        step, progress, kind = self._step, self._progress, records.kind
        marks = {key for key, _ in self._state.scan(kind.dirty)} | {key for key in step.writes if key.startswith(kind.dirty)}
        changed: dict[bytes, list[PaneId]] = {}
        for key in sorted(marks):
            (minute,) = _DIRTY_SUFFIX.unpack(key[-_DIRTY_SUFFIX.size :])
            late = changed.setdefault(key[1 : -_DIRTY_SUFFIX.size], [])
            if minute:
                late.append(PaneId(MINUTE_S, minute * 60_000))
        # Step 1. What came too late for a minute's final record.
        for name, late in changed.items():
            for pane in late:
                # A minute that was let go of holds nothing now but what came since.
                self._minute(records, name, pane, "correction" if is_kept(pane, progress.published_ms) else "addition")
        # Step 2. The final records of the minutes that all have left since the last time.
        if self._closed_ms > progress.closed_ms:
            for name, panes in records.rings.items():
                for pane in panes.closed(progress.closed_ms, self._closed_ms):
                    self._minute(records, name, pane, "final")
        # Step 3. Let go of what left its ring: a minute that can no longer be corrected leaves the compacted topic too.
        for name, panes in records.rings.items():
            gone = panes.advance(self._watermark_ms)
            for source, pane in gone:
                step.writes[kind.pane_key(name, source, pane)] = None
            for pane in sorted({pane for _, pane in gone if pane.length_s == MINUTE_S}):
                step.outputs.append(Output(kind.topic, _minute_key(name, pane), None))
        # Step 4. The windows that changed; all when the newest minute did, because every window then moves on.
        moved = pane_start(self._watermark_ms, MINUTE_S) > pane_start(progress.published_ms, MINUTE_S)
        names = sorted(records.rings) if moved else list(changed)
        for name, flags in zip(names, self._state.get_many([kind.empty + name for name in names]), strict=True):
            before = flags[0] if flags else 0
            now_empty = self._windows(records, name, before)
            if now_empty != before:
                step.writes[kind.empty + name] = bytes([now_empty])
        step.writes.update(dict.fromkeys(marks))

    def _minute(self, records: _Records, name: bytes, pane: PaneId, status: Status) -> None:
        self._step.outputs.append(Output(records.kind.topic, _minute_key(name, pane), records.minute(name, pane, status)))

    def _windows(self, records: _Records, name: bytes, empty_before: int) -> int:
        """Add one record a window, but a window that was published empty and still is; returns which are empty, a bit each."""
        empty = 0
        for bit, window in enumerate(WINDOWS):
            if not records.rings[name].panes_of(window):
                empty |= 1 << bit
                if empty_before & 1 << bit:
                    continue
            self._step.outputs.append(Output(records.kind.topic, name + b"|" + window.encode(), records.window(name, window)))
        return empty


class _Records(Protocol):
    """Records of one kind, made from ``rings`` by name: ``dimension|asset``, or ``dimension``."""

    kind: _Kind
    rings: Mapping[bytes, PaneRing[Any]]

    def minute(self, name: bytes, pane: PaneId, status: Status) -> bytes:
        """The record of a minute that is over."""
        ...

    def window(self, name: bytes, window: str) -> bytes:
        """The record of a window that moves on."""
        ...


class _Registers:
    """What dimensions were worth."""

    kind = _REGISTERS

    def __init__(self, owned: _Owned, watermark_ms: int, rules: Rules) -> None:
        self._rules = rules
        self.rings: Mapping[bytes, WorthPanes] = owned.worths
        self._arms = owned.arms
        self._gauges = owned.gauges
        self._watermark_ms = watermark_ms
        self._windows: dict[tuple[bytes, str], ValueRegister] = {}

    def minute(self, name: bytes, pane: PaneId, status: Status) -> bytes:
        """See ``_Records``."""
        record = self._windows[name, str(pane)] = self._record(name, self.rings[name].minute(pane), status)
        return record.to_json()

    def window(self, name: bytes, window: str) -> bytes:
        """See ``_Records``. What is published shows in the gauges, too."""
        record = self._of_window(name, window)
        self._gauges.show(record, window)
        return record.to_json()

    def value(self, dimension: str, asset: str, window: str | PaneId) -> AssetValue | None:
        """What an asset was worth, None where no test could draw on it, or its minute is held no more."""
        name = dimension.encode()
        if name not in self.rings:
            return None
        if isinstance(window, str):
            return self._of_window(name, window).assets.get(asset)
        if window not in self.rings[name].held_panes():
            return None
        known = self._windows.get((name, str(window)))
        if known is None:
            known = self._windows[name, str(window)] = self._record(name, self.rings[name].minute(window), "open")
        return known.assets.get(asset)

    def _of_window(self, name: bytes, window: str) -> ValueRegister:
        known = self._windows.get((name, window))
        if known is None:
            arms = self._arms.get(name) if window == "total" else None
            known = self._windows[name, window] = self._record(name, self.rings[name].window(window), "open", arms)
        return known

    def _record(self, name: bytes, window: WorthWindow, status: Status, arms: Mapping[str, ArmSums] | None = None) -> ValueRegister:
        return value_register(name.decode(), window, self._watermark_ms, status, OUTCOMES.name, self._rules, arms)


class _Assets:
    """What assets did."""

    kind = _ASSETS

    def __init__(self, rings: Mapping[bytes, AssetPanes], registers: _Registers, watermark_ms: int, costs: Costs) -> None:
        self._costs = costs
        self.rings = rings
        self._registers = registers
        self._watermark_ms = watermark_ms

    def minute(self, name: bytes, pane: PaneId, status: Status) -> bytes:
        """See ``_Records``."""
        return self._record(name, self.rings[name].minute(pane), pane, status)

    def window(self, name: bytes, window: str) -> bytes:
        """See ``_Records``."""
        return self._record(name, self.rings[name].window(window), window, "open")

    def _record(self, name: bytes, sums: WindowSums, window: str | PaneId, status: Status) -> bytes:
        dimension, asset = _parsed(name)
        value = self._registers.value(dimension, asset, window)
        cost = self._costs.find(dimension, asset)
        return rolling_record(dimension, asset, sums, self._watermark_ms, status, OUTCOMES.name, value, cost).to_json()


def _add(owned: _Owned, message: PartialMessage) -> list[tuple[bytes, int, PaneId]]:
    """Add a partial to the cache; which panes it changed."""
    touched = []
    for asset, panes in message.assets.items():
        name = f"{message.dimension}|{owned.bound.kept(message.dimension, asset)}".encode()
        held = owned.assets.setdefault(name, AssetPanes())
        for text, record in panes.items():
            pane = PaneId.parse(text)
            held.add(message.source_partition, pane, PaneSums.from_record(record))
            touched.append((name, message.source_partition, pane))
    return touched


def _add_worth(owned: _Owned, message: PartialMessage) -> list[tuple[bytes, int, PaneId]]:
    """The same for what the dimension was worth."""
    touched = []
    name = message.dimension.encode()
    for text, worth in message.worth.items():
        pane = PaneId.parse(text)
        renamed = worth.renamed(lambda asset: owned.bound.kept(message.dimension, asset))
        owned.worths.setdefault(name, WorthPanes()).add(message.source_partition, pane, renamed)
        touched.append((name, message.source_partition, pane))
    return touched


def _progress(state: State, rules: Rules) -> Progress:
    stored = state.get_many([_PROGRESS])[0]
    return _PROGRESS_DECODER.decode(stored) if stored else Progress(neighbours=rules.neighbours)


def _parsed(name: bytes) -> tuple[str, str]:
    dimension, asset = name.decode().split("|", 1)
    return dimension, asset


def _minute_key(name: bytes, pane: PaneId) -> bytes:
    """The window of a minute that is over is ``1m@START``: a key of its own, so that the next minute does not take its place."""
    return name + f"|1m@{instant(pane.start_ms):%Y-%m-%dT%H:%M:%SZ}".encode()


def _decoded(records: Iterable[Record], rules: Rules) -> Iterator[PartialMessage]:
    for record in records:
        place = f"{record.topic}/{record.partition} offset {record.offset}"
        try:
            message = decode_partial(record.value or b"")
            check_partial(message)
        except (msgspec.DecodeError, ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{place} is not a pane partial: {error}") from error
        check_neighbours(f"{place}, of partition {message.source_partition} of {OUTCOMES.name},", message.neighbours, rules)
        yield message
