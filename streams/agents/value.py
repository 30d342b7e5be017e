"""The value role: each partition counts its outcomes by event-time pane and values the data behind them, one place a dimension adds up
what they have counted.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Final

import msgspec

from models.catalog.catalogue import Catalogue
from models.valuation.appraisal import Line, RowAppraiser, Rules
from models.valuation.messages import ResolutionMessage, shown_items
from models.valuation.shown_appraisal import ShownAppraiser
from schemas.topics import EMBEDDINGS, OUTCOMES, PARTIALS
from streams.agents.appraisers import PlacementOf, appraiser_of, placements, value_source
from streams.agents.books import book, clear, closing, take_moved
from streams.agents.counts import sums_of
from streams.agents.partials import Unsent
from streams.agents.rolling import RollingProcessor
from streams.agents.sources import Source, read_sources
from streams.agents.value_rehearsal import placement_of, rehearse
from streams.agents.yardsticks import check_neighbours, costs_of, rules_of
from streams.runtime import metrics
from streams.runtime.processor import Batch, Record, State, Step
from streams.runtime.task import Broadcast, CatchUpNeeded, Task
from streams.settings import Settings

#: Of partials in one step: some ten messages, each of up to ``partials.MESSAGE_PANES`` panes that are published one by one.
ROLLING_STEP_BYTES: Final = 1024 * 1024

#: Of the window: the names of assets, and its lines by number.
_NAMES, _LINE = b"names", b"line"
#: What the purchases of a line were credited with, which only a refund asks for.
_POINTS: Final = b"paid"
_PURCHASE: Final = struct.Struct(">QH")
_NUMBER: Final = struct.Struct(">Q")

_PACK: Final = msgspec.msgpack.Encoder()
_LINE_DECODER: Final = msgspec.msgpack.Decoder(Line)
_NAMES_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str]])


class ValueProcessor:
    """Counts one partition of ``outcomes``, and sends on what it has counted since the last time: each outcome is in one message.

    That the sums are those of a second, not all that ever were, keeps its state as small as its input, whatever assets the
    events name: which of them are told apart is decided where all partitions come together. In memory it keeps the window of past
    sessions, or of items shown, that tests are valued against (``Appraiser``, ``ShownAppraiser``), which is in the state, too.
    ``partitions``: how many ``valuation.partials`` has; each is told when the newest minute changed, so that the windows of
    dimensions that saw nothing new move on with those of the others. ``placement_of``: where items shown stand.
    """

    def __init__(self, partitions: int, rules: Rules | None = None, placement_of: PlacementOf | None = None) -> None:
        self._partitions = partitions
        self._rules = rules or Rules()
        self._placement_of = placement_of
        self._appraisers: dict[int, RowAppraiser] = {}

    def process(self, state: State, batch: Batch) -> Step:
        """Count the batch; send on what was counted when the last time was ``EMIT_MS`` ago, or when it is much.

        Raises ``CatchUpNeeded`` where rows are items shown and one has no vector, unless all were read that there are.
        """
        # All are decoded before any is valued: a record that cannot be read must leave the window as it is.
        sources = list(read_sources(batch.records, shown=self._placement_of is not None))
        self._ask_for_vectors(batch, sources)
        try:
            return self._counted(state, batch, sources)
        except Exception:
            self.opened(state, batch.partition)
            raise

    def _ask_for_vectors(self, batch: Batch, sources: Iterable[Source]) -> None:
        if self._placement_of is None or batch.caught_up:
            return
        for _, _, message in sources:
            if isinstance(message, ResolutionMessage) and any(self._placement_of(item.sku) is None for item in shown_items(message)):
                raise CatchUpNeeded(EMBEDDINGS.name)

    def _counted(self, state: State, batch: Batch, sources: Sequence[Source]) -> Step:
        step, unsent = Step(), Unsent(state, self._rules)
        changed, unsent.meta = sums_of(sources, unsent.meta, unsent.assets)
        entries = book(state, step, sources, self._rules.margins)
        self._value(state, step, unsent, batch.partition, sources, closing(entries))
        unsent.add(step, changed)
        if unsent.is_due(batch.now_ms):
            unsent.send(step, batch.partition, self._partitions, batch.now_ms, take_moved(state, step))
        else:
            unsent.keep(step)
        return step

    def tick(self, state: State, partition: int, now_ms: int) -> Step | None:
        """Send on what was counted since the last time, and go on deleting accounts that are kept no more."""
        step, unsent = Step(), Unsent(state, self._rules)
        clear(state, step)
        if unsent.waits and unsent.is_due(now_ms):
            unsent.send(step, partition, self._partitions, now_ms, take_moved(state, step))
        return step if step.writes else None

    def opened(self, state: State, partition: int) -> None:
        """Read the window back. Raises ``ValuationWrong`` where the partition was valued by other neighbours."""
        check_neighbours(f"partition {partition} of {OUTCOMES.name}", Unsent(state, self._rules).meta.neighbours, self._rules)
        appraiser = self._appraisers[partition] = appraiser_of(self._rules, self._placement_of)
        names = state.get_many([_NAMES])[0]
        lines = [(_NUMBER.unpack(key[len(_LINE) :])[0], _LINE_DECODER.decode(value)) for key, value in state.scan(_LINE)]
        appraiser.load(_NAMES_DECODER.decode(names) if names else (), lines)

    def lost(self, partition: int) -> None:
        """Drop the window."""
        self._appraisers.pop(partition, None)

    def _value(self, state: State, step: Step, unsent: Unsent, partition: int, sources: Iterable[Source], closed: Collection[int]) -> None:
        """Value the item events of the batch, one after another; what they were worth is added to what waits to be sent."""
        appraiser = self._appraisers[partition]
        appraiser.stored = lambda key: state.get_many([_POINTS + _PURCHASE.pack(*key)])[0]
        for offset, at_ms, message in sources:
            value_source(appraiser, offset, at_ms, message, closes=offset in closed)
        if isinstance(appraiser, ShownAppraiser):
            metrics.VALUE_UNPLACED.inc(appraiser.unplaced)
            appraiser.unplaced = 0
        names, lines, points = appraiser.changes()
        if names is not None:
            step.writes[_NAMES] = _PACK.encode(names)
        for number, line in lines.items():
            step.writes[_LINE + _NUMBER.pack(number)] = None if line is None else _PACK.encode(line)
        step.writes.update((_POINTS + _PURCHASE.pack(*key), packed) for key, packed in points.items())
        unsent.add_worths(step, appraiser.sums())


def tasks(settings: Settings) -> list[Task]:
    """The two tasks of the role: ``value`` counts in each partition, ``rolling`` adds up over partitions, a dimension in one place."""
    rules = rules_of(settings)
    rehearse(ValueProcessor(1, rules, None if rules.neighbours == "sessions" else placement_of))
    rolling = Task("rolling", (PARTIALS.name,), RollingProcessor(costs_of(settings), rules), step_bytes=ROLLING_STEP_BYTES)
    if rules.neighbours == "sessions":
        return [Task("value", (OUTCOMES.name,), ValueProcessor(settings.partitions, rules)), rolling]
    # It is told of no products, so its index stays empty: what is asked for is the vector of an item that was shown, on sale or not.
    catalogue = Catalogue("flat", "cpu")

    def vectors(records: Sequence[Record]) -> None:
        catalogue.apply_embeddings((record.key, record.value) for record in records)

    value = Task(
        "value",
        (OUTCOMES.name,),
        ValueProcessor(settings.partitions, rules, placements(catalogue)),
        broadcasts=(Broadcast(EMBEDDINGS.name, vectors),),
        background=lambda: catalogue.background(int(time.monotonic() * 1000)),
        close=catalogue.close,
    )
    return [value, rolling]
