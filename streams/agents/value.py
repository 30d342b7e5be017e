"""The value role: each partition counts its outcomes by event-time pane and values the data behind them, one place a dimension adds up
what they have counted.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Final, TypeAlias, TypeVar

import msgspec

from models.catalog.catalogue import Catalogue
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
from models.valuation.accounts import (
    Account,
    Brought,
    Ended,
    Entry,
    Forgotten,
    Lapsed,
    Running,
    Spending,
    booked,
    period_of,
)
from models.valuation.appraisal import WORTH_DIMENSIONS, Appraiser, Happening, Line, RowAppraiser, Rules
from models.valuation.arms import HOLDOUT, ArmSums, added
from models.valuation.costs import Costs, CostsError
from models.valuation.margins import ClickMargins, MarginsError, MarginShares
from models.valuation.messages import (
    WATERMARK,
    ExposureMessage,
    ForgottenMessage,
    OutcomeMessage,
    PartialMessage,
    ResolutionMessage,
    ShownMessage,
    check_source,
    decode_source,
    encode_partial,
    milliseconds,
    shown_items,
)
from models.valuation.money import amounts_of
from models.valuation.panes import HOUR_S, MINUTE_S, TOTAL_S
from models.valuation.record import instant
from models.valuation.shown_appraisal import Placement, Receipt, ShownAppraiser, ShownItem
from models.valuation.worth import Worth, merged
from models.valuation.worth import from_bytes as worth_from_bytes
from models.valuation.worth import to_bytes as worth_to_bytes
from schemas.topics import EMBEDDINGS, OUTCOMES, PARTIALS
from streams.agents.clocks import happened_ms
from streams.agents.rolling import RollingProcessor
from streams.runtime import metrics
from streams.runtime.errors import ValuationWrong
from streams.runtime.processor import Batch, Output, Record, State, Step
from streams.runtime.task import Broadcast, CatchUpNeeded, Task
from streams.settings import Settings

#: What was counted is sent on about this often: a rolling number that is a second old is fresh, and a pane that changes
#: a hundred times a second then costs one sum, not a hundred.
EMIT_MS: Final = 1_000
#: Panes that wait to be sent; with more than that they are sent at once, which bounds the state whatever the events name.
UNSENT_LIMIT: Final = 5_000
#: Panes in one message, of one asset at least: some 100 KB, below any broker's limit.
MESSAGE_PANES: Final = 500
_PANE_BYTES: Final = 200

#: Of partials in one step: some ten messages, each of up to ``MESSAGE_PANES`` panes that are published one by one.
ROLLING_STEP_BYTES: Final = 1024 * 1024

_META, _ASSETS, _UNSENT = b"meta", b"assets", b"unsent"
#: Of the window: the names of assets, and its lines by number. Of the panes that wait to be sent: what they were worth.
_NAMES, _LINE, _WORTH = b"names", b"line", b"worth"
#: What the purchases of a line were credited with, which only a refund asks for.
_POINTS: Final = b"paid"
_PURCHASE: Final = struct.Struct(">QH")
#: Of experiments (shoppers' accounts have keys of their own, ``account_key`` and ``past_key``): which have books, what was booked in them,
#: and by what that moved since it was sent.
_RUNNING, _BOOKS, _ARMS = b"running", b"books", b"moved"
_NUMBER: Final = struct.Struct(">Q")
#: Key of a pane that waits to be sent: "p", length, first minute, asset number, or that of the dimension whose worth it is.
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
_ACCOUNT_DECODER: Final = msgspec.msgpack.Decoder(Account)
_ARMS_DECODER: Final = msgspec.msgpack.Decoder(dict[str, ArmSums])
_RUNNING_DECODER: Final = msgspec.msgpack.Decoder(Running)
_LINE_DECODER: Final = msgspec.msgpack.Decoder(Line)
_ASSETS_DECODER: Final = msgspec.msgpack.Decoder(list[tuple[str, str]])

T = TypeVar("T")
Message: TypeAlias = OutcomeMessage | ExposureMessage | ResolutionMessage | ForgottenMessage
#: Finds the vector of a SKU, None where it has none.
PlacementOf: TypeAlias = Callable[[str], Placement | None]
#: Offset, time in ms and what was read of one record of ``outcomes``.
Source: TypeAlias = tuple[int, int, Message]
#: The place of the source that it comes of, and what is to be booked.
PlacedEntry: TypeAlias = tuple[int, Entry]


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
        step = Step()
        meta, assets, unsent = _load(state)
        known_assets = len(assets)
        changed, moved = sums_of(sources, meta, assets)
        entries = self._compare(state, step, sources)
        self._value(state, step, batch.partition, sources, closing(entries))

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
        # What lists came to may wait where nothing was counted.
        waits = bool(unsent) or next(state.scan(_WORTH), None) is not None
        if not waits or 0 <= now_ms - meta.emitted_ms < EMIT_MS:
            return None
        step = Step()
        self._emit(state, step, partition, now_ms, meta, assets, unsent)
        return step

    def opened(self, state: State, partition: int) -> None:
        """Read the window back. Raises ``ValuationWrong`` for one of the other kind of neighbours."""
        appraiser = self._appraisers[partition] = appraiser_of(self._rules, self._placement_of)
        names = state.get_many([_NAMES])[0]
        lines = [(_NUMBER.unpack(key[len(_LINE) :])[0], _LINE_DECODER.decode(value)) for key, value in state.scan(_LINE)]
        if any(bool(line.vector) != isinstance(appraiser, ShownAppraiser) for _, line in lines):
            raise ValuationWrong(
                f"partition {partition} was valued by other neighbours than value_neighbours={self._rules.neighbours}, and their sums do "
                "not add up: set it back, or begin anew with `assay reset --roles value --yes`"
            )
        appraiser.load(_ASSETS_DECODER.decode(names) if names else (), lines)

    def lost(self, partition: int) -> None:
        """Drop the window."""
        self._appraisers.pop(partition, None)

    def _compare(self, state: State, step: Step, sources: Sequence[Source]) -> list[PlacedEntry]:
        """Book what shoppers of experiments spent, and what those in no arm brought; by what the sums of the books moved is added to what
        waits to be sent.
        """
        known, booked_before, waiting = state.get_many([_RUNNING, _BOOKS, _ARMS])
        running = _RUNNING_DECODER.decode(known) if known else Running()
        placed = list(entries_of(sources, running, self._rules.margins))
        if (packed := _PACK.encode(running)) != known:
            step.writes[_RUNNING] = packed
        if not placed:
            return placed
        entries = [entry for _, entry in placed]
        held = _accounts_for(state, entries)
        accounts = dict(held)
        books = _ARMS_DECODER.decode(booked_before) if booked_before else {}
        moved = booked(accounts, books, entries)
        step.writes.update(
            (key, None if account is None else _PACK.encode(account)) for key, account in accounts.items() if account is not held.get(key)
        )
        if moved:
            step.writes[_BOOKS] = _PACK.encode(dict(sorted(books.items())))
            step.writes[_ARMS] = _PACK.encode(added(_ARMS_DECODER.decode(waiting) if waiting else {}, moved))
        return placed

    def _value(self, state: State, step: Step, partition: int, sources: Iterable[Source], closing: Collection[int]) -> None:
        """Value the item events of the batch, one after another; what they were worth is added to what waits to be sent."""
        appraiser = self._appraisers[partition]
        appraiser.stored = lambda key: state.get_many([_POINTS + _PURCHASE.pack(*key)])[0]
        for offset, at_ms, message in sources:
            value_source(appraiser, offset, at_ms, message, closes=offset in closing)
        if isinstance(appraiser, ShownAppraiser):
            metrics.VALUE_UNPLACED.inc(appraiser.unplaced)
            appraiser.unplaced = 0
        names, lines, points = appraiser.changes()
        if names is not None:
            step.writes[_NAMES] = _PACK.encode(names)
        for number, line in lines.items():
            step.writes[_LINE + _NUMBER.pack(number)] = None if line is None else _PACK.encode(line)
        step.writes.update((_POINTS + _PURCHASE.pack(*key), packed) for key, packed in points.items())
        sums = appraiser.sums()
        parts = {
            _WORTH + _pane_key(pane, WORTH_DIMENSIONS.index(dimension)): worth
            for pane, worths in sums.items()
            for dimension, worth in worths.items()
        }
        for (key, worth), held in zip(parts.items(), state.get_many(list(parts)), strict=True):
            step.writes[key] = worth_to_bytes(merged([worth_from_bytes(held), worth]) if held else worth)

    def _emit(self, state: State, step: Step, partition: int, now_ms: int, meta: Meta, assets: AssetNumbers, unsent: set[bytes]) -> None:
        """Send on and forget what was counted, and tell all the watermark when the newest minute changed."""
        keys = sorted(unsent)
        counted: dict[str, dict[str, dict[str, PaneRecord]]] = {}
        worths = _unsent_worths(state, step)
        moved = step.writes.get(_ARMS) or state.get_many([_ARMS])[0]
        arms = _ARMS_DECODER.decode(moved) if moved else {}
        step.writes[_ARMS] = None
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
        for dimension in sorted(counted.keys() | worths.keys()):
            parts: list[tuple[dict[str, dict[str, PaneRecord]], dict[str, Worth]]] = [
                *((part, {}) for part in _parts(counted.get(dimension, {}), len)),
                *(({}, part) for part in _parts(worths.get(dimension, {}), _size)),
            ]
            for place, (part, worth) in enumerate(parts, 1):
                # A watermark says that all before it has been said, so the last part alone may move it.
                last = place == len(parts)
                message = PartialMessage(
                    dimension, partition, now if last else before, part, worth, arms if last and dimension in WORTH_DIMENSIONS else {}
                )
                step.outputs.append(Output(PARTIALS.name, dimension.encode(), encode_partial(message)))
        if pane_start(meta.ring_ms, MINUTE_S) > pane_start(meta.emitted_ring_ms, MINUTE_S):
            value = encode_partial(PartialMessage(WATERMARK, partition, now, {}))
            step.outputs += [Output(PARTIALS.name, WATERMARK.encode(), value, partition=target) for target in range(self._partitions)]
        step.writes[_ASSETS] = step.writes[_UNSENT] = None
        step.writes[_META] = _PACK.encode(msgspec.structs.replace(meta, emitted_ms=now_ms, emitted_ring_ms=meta.ring_ms))


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


def _unsent_worths(state: State, step: Step) -> dict[str, dict[str, Worth]]:
    """What waits to be sent, by dimension and pane, those of this step included; it is forgotten by the step."""
    stored = dict(state.scan(_WORTH))
    written = {key: step.writes.pop(key) for key in list(step.writes) if key.startswith(_WORTH)}
    step.writes.update(dict.fromkeys(stored))
    worths: dict[str, dict[str, Worth]] = {}
    for key, data in sorted({**stored, **written}.items()):
        if data is not None:
            _, code, minute, number = _PANE_KEY.unpack(key[len(_WORTH) :])
            pane = PaneId(_LENGTHS[code], minute * 60_000)
            worths.setdefault(WORTH_DIMENSIONS[number], {})[str(pane)] = worth_from_bytes(data)
    return worths


def _size(worth: Worth) -> int:
    """In panes of one asset (``MESSAGE_PANES``)."""
    replicates = (sums for credit in worth.credits.values() for sums in credit.replicates.values())
    return len(worth.credits) + sum(len(sums.gains) + len(sums.losses) for sums in replicates) // _PANE_BYTES


def _load(state: State) -> tuple[Meta, AssetNumbers, set[bytes]]:
    """What is known, the numbers of the assets that wait to be sent, and the keys of their panes."""
    meta, assets, unsent = state.get_many([_META, _ASSETS, _UNSENT])
    width = _PANE_KEY.size
    return (
        _META_DECODER.decode(meta) if meta else Meta(),
        AssetNumbers(_ASSETS_DECODER.decode(assets) if assets else ()),
        {unsent[i : i + width] for i in range(0, len(unsent), width)} if unsent else set(),
    )


def _accounts_for(state: State, entries: Sequence[Entry]) -> dict[bytes, Account | None]:
    """The accounts that booking the entries looks at, None where there is none."""

    def read(keys: Iterable[bytes]) -> dict[bytes, Account | None]:
        asked = list(dict.fromkeys(keys))
        return {key: _ACCOUNT_DECODER.decode(data) if data else None for key, data in zip(asked, state.get_many(asked), strict=True)}

    accounts = read(key for entry in entries for key in entry.keys)
    closed = [entry for entry in entries if isinstance(entry, Forgotten | Ended | Lapsed)]
    for entry in closed:
        accounts |= {
            key: _ACCOUNT_DECODER.decode(data) for key, data in state.scan(entry.prefix) if key not in accounts and entry.holds(key)
        }
    # Pasts are asked for where a shopper is, or in this batch may become, new to an experiment.
    spending = [entry for entry in entries if isinstance(entry, Spending) and (closed or accounts[entry.account] is None)]
    return accounts | read(key for entry in spending for key in entry.pasts if key not in accounts)


def entries_of(sources: Iterable[Source], running: Running, shares: MarginShares) -> Iterator[PlacedEntry]:
    """What is to be booked of experiments, in order: what shoppers in an arm did and those in none brought, who is to be forgotten, which
    experiments are over, and which periods are kept no more.

    ``running``, what is known of experiments before, is brought up to date.
    """
    for offset, at_ms, message in sources:
        if isinstance(message, ForgottenMessage):
            yield from ((offset, Forgotten(shopper, running.period)) for shopper in message.shoppers)
        elif isinstance(message, OutcomeMessage):
            yield from ((offset, Lapsed(period)) for period in running.lapsed(at_ms))
            yield from ((offset, Ended(experiment)) for experiment in running.ended(at_ms))
            if not message.consent:
                continue
            money = _money_of(message, shares)
            if message.arm is not None:
                experiment = message.experiment or ""
                running.heard(experiment, at_ms)
                yield offset, Spending(message.shopper, experiment, message.arm, at_ms, money, running.period)
            elif any(money.values()) and running.keeps(at_ms):
                yield offset, Brought(message.shopper, period_of(at_ms), money)


def _money_of(message: OutcomeMessage, shares: MarginShares) -> dict[str, Decimal]:
    if message.currency is None or message.revenue is None:
        return {}
    return amounts_of(message.currency, message.revenue, shares.margin(message.revenue, message.margin, message.category))


def closing(entries: Iterable[PlacedEntry]) -> frozenset[int]:
    """Offsets of the outcomes that closed the books of an experiment: what is published rests on them, whatever else they say."""
    return frozenset(offset for offset, entry in entries if isinstance(entry, Ended))


def _pane_key(pane: PaneId, number: int) -> bytes:
    return _PANE_KEY.pack(b"p", _LENGTHS.index(pane.length_s), pane.start_ms // 60_000, number)


def read_sources(records: Iterable[Record], *, shown: bool = False) -> Iterator[Source]:
    """Decode records of ``outcomes``. Raises ``ValueError``, naming the record, for one that cannot be read or counted: the worker's
    becomes a dead letter, whose absence changes nothing of what others come to (``readable``). ``shown``: of resolutions too, which are
    passed over where rows are past sessions.
    """
    for record in records:
        try:
            message = decode_source(record.value or b"")
            if isinstance(message, ForgottenMessage):
                yield record.offset, 0, message
                continue
            if isinstance(message, ResolutionMessage) and not shown:
                continue
            check_source(message)
            if isinstance(message, ResolutionMessage):
                shown_items(message)
                yield record.offset, happened_ms(record, milliseconds(message.watermark)), message
                continue
        except (msgspec.DecodeError, ValueError) as error:
            place = f"{record.topic}/{record.partition} offset {record.offset}"
            raise ValueError(f"{place} is neither outcome nor exposure nor resolution: {error}") from error
        yield record.offset, happened_ms(record, milliseconds(message.occurred_at)), message


def readable(records: Iterable[Record], *, shown: bool = False) -> Iterator[Source]:
    """The same without those that cannot be read or counted: what the books rest on of a log that holds such records."""
    for record in records:
        with suppress(ValueError):
            yield from read_sources([record], shown=shown)


def happening_of(at_ms: int, message: OutcomeMessage, sku: str, shares: MarginShares) -> Happening:
    """An outcome with an item, as the window of past sessions takes it. Who is held out teaches, and is foretold nothing. A purchase that
    no recommendation is credited with brought nothing that could be shared out, but may be refunded.
    """
    names = (message.channel, message.type, message.category or UNCATEGORISED, message.country, message.segment)
    revenue = message.revenue
    margin = None if revenue is None else shares.margin(revenue, message.margin, message.category)
    return Happening(
        at_ms, message.type, message.shopper, sku, names, revenue, message.currency, message.arm != HOLDOUT, margin, message.attributed
    )


def shown_item_of(at_ms: int, message: ResolutionMessage, item: ShownMessage, shares: MarginShares) -> ShownItem:
    """An item shown, as the window takes it: as what kind of event it counts, what became of it."""
    # Records of before they named the channel name no categories either, whatever products had.
    category = item.category or (None if message.channel is None else UNCATEGORISED)
    names = (message.channel, item.result, category, message.country, message.segment)
    receipts = [
        Receipt(sale.revenue, sale.currency, shares.margin(sale.revenue, sale.margin, item.category)) for sale in item.sales if sale.revenue
    ]
    shown = message.corrects or message.resolution_id
    return ShownItem(at_ms, message.shopper, shown, item.sku, item.result, names, receipts, message.arm != HOLDOUT)


def appraiser_of(rules: Rules, placement_of: PlacementOf | None = None) -> RowAppraiser:
    """An empty window. Raises ``ValueError`` where rows are items shown and nothing says where they stand."""
    if rules.neighbours == "sessions":
        return Appraiser(rules)
    if placement_of is None:
        raise ValueError("items shown are near by their vectors: placement_of must find them")
    appraiser = ShownAppraiser(rules)
    appraiser.placement_of = placement_of
    return appraiser


def placements(catalogue: Catalogue) -> PlacementOf:
    """The vectors that ``catalogue`` serves."""

    def find(sku: str) -> Placement | None:
        row, table = catalogue.table.row(sku), catalogue.table
        if row < 0 or not table.has_vector[row] or catalogue.encoder is None:
            return None
        return Placement(catalogue.encoder, table.vectors[row])

    return find


def value_source(appraiser: RowAppraiser, offset: int, at_ms: int, message: Message, *, closes: bool = False) -> None:
    """What the window makes of one record. Of shoppers who agree to no history it keeps nothing. ``closes``: whether it
    closed the books of an experiment.
    """
    if closes:
        appraiser.witness(offset, at_ms)
    if isinstance(message, ForgottenMessage):
        for shopper in message.shoppers:
            appraiser.erase(shopper)
    elif isinstance(message, OutcomeMessage) and not message.consent:
        appraiser.erase(message.shopper)
    elif isinstance(message, OutcomeMessage):
        if message.arm is not None:
            appraiser.witness(offset, at_ms)
        if message.sku is not None and isinstance(appraiser, Appraiser):
            appraiser.take(offset, happening_of(at_ms, message, message.sku, appraiser.rules.margins))
    elif isinstance(message, ResolutionMessage) and isinstance(appraiser, ShownAppraiser):
        learn = appraiser.take if message.corrects is None else appraiser.correct
        for item in shown_items(message):
            learn(offset, shown_item_of(at_ms, message, item, appraiser.rules.margins))


def sums_of(sources: Iterable[Source], meta: Meta, assets: AssetNumbers) -> tuple[dict[tuple[int, PaneId], PaneSums], Meta]:
    """The batch alone, by asset and pane, and what the partition then knows. Numbers new assets in ``assets``."""
    rows: list[OutcomeRow] = []
    exposures: list[tuple[int, int, ExposureMessage]] = []
    combinations: dict[tuple[str, str, str | None, str | None, str | None], tuple[int, ...]] = {}
    for offset, at_ms, message in sources:
        if isinstance(message, ExposureMessage):
            exposures.append((offset, at_ms, message))
            continue
        if isinstance(message, ForgottenMessage | ResolutionMessage):
            continue
        # Who is held out was shown what is popular: nothing of ours to be judged by, nor to be credited.
        shown = message.arm != HOLDOUT
        combination = (message.channel, message.type, message.category, message.country, message.segment)
        if combination not in combinations:
            combinations[combination] = _asset_numbers(message, assets)
        rows.append(
            OutcomeRow(
                offset,
                at_ms,
                message.type,
                combinations[combination],
                shown and message.list_size > 0 and message.sku is not None,
                (message.rank or 0) if shown else 0,
                message.rank_after or 0,
                message.popularity_rank or 0,
                shown and message.attributed,
                message.revenue,
                message.currency,
                _named(message),
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


def _named(message: OutcomeMessage) -> tuple[bool, ...]:
    """Which of ``sums.NAMED_FIELDS`` an outcome has; a margin is asked of purchases."""
    margin = message.type == "purchase" and message.margin is not None
    return message.category is not None, message.country is not None, message.segment is not None, margin


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


def rules_of(settings: Settings) -> Rules:
    """How tests are valued. Raises ``ValuationWrong`` where the settings name a file that does not say what it should."""
    try:
        margins = MarginShares() if settings.margin_shares is None else MarginShares.load(settings.margin_shares)
        clicks = ClickMargins() if settings.click_margins is None else ClickMargins.load(settings.click_margins)
    except MarginsError as error:
        raise ValuationWrong(str(error)) from error
    return Rules(
        gap_ms=round(settings.session_gap_s * 1000),
        margins=margins,
        neighbours=settings.value_neighbours,
        clicks=clicks,
        click_window_ms=round(settings.click_window_s * 1000),
    )


def costs_of(settings: Settings) -> Costs:
    """What data costs. Raises ``ValuationWrong`` where the settings name a file that does not say it."""
    try:
        return Costs() if settings.asset_costs is None else Costs.load(settings.asset_costs)
    except CostsError as error:
        raise ValuationWrong(str(error)) from error


def tasks(settings: Settings) -> list[Task]:
    """The two tasks of the role: ``value`` counts in each partition, ``rolling`` adds up over partitions, a dimension in one place."""
    rules = rules_of(settings)
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
