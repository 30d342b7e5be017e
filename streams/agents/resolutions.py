"""What shoppers were shown, followed until it is known what became of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from models.attribution import Fact, Follower, Sale, Source, Windows, order_digest
from models.attribution.memory import seconds
from schemas.events import Purchase, Refund
from streams.agents import emission
from streams.agents.shoppers import (
    EVENT_CLOCK_KEY,
    TIMER_PREFIX,
    EmittedList,
    Shopper,
    Visit,
    decode_list,
    decode_time,
    encode_list,
    read_timer,
)
from streams.runtime.processor import State, Step

#: Shoppers looked at in one call: some 30 ms of writing what became of ten lists each, once a second.
DUE_LIMIT: Final = 500
#: Channels remembered as sending impressions, and how much newer (s) the time of the last must be to be noted.
CHANNEL_LIMIT: Final = 64
_CHANNEL_STEP_S: Final = 3_600

_CHANNELS: Final = msgspec.msgpack.Decoder(dict[str, int])
_PACK: Final = msgspec.msgpack.Encoder()


class Impressing:
    """The channels whose storefronts tell what they show: those that sent an impression, of a list that they cite, of late.

    ``data`` is what ``encode`` made. What comes with a micro-batch counts from the next one on.
    """

    def __init__(self, data: bytes | None, window_s: int) -> None:
        self._known = _CHANNELS.decode(data) if data else {}
        self._newer: dict[str, int] = {}
        self._window_s = window_s

    def __call__(self, channel: str, at_s: int) -> bool:
        """Whether ``channel`` did, within ``window_s`` before ``at_s``."""
        last_s = self._known.get(channel)
        return last_s is not None and at_s <= last_s + self._window_s

    def note(self, channel: str, at_s: int) -> None:
        """An impression in ``channel``."""
        last_s = self._known.get(channel)
        if last_s is None or at_s >= last_s + _CHANNEL_STEP_S:
            self._newer[channel] = max(at_s, self._newer.get(channel, 0))

    def encode(self) -> bytes | None:
        """For the state; None if nothing has changed. Of more channels than ``CHANNEL_LIMIT`` the longest silent ones are forgotten."""
        if not self._newer:
            return None
        newest = sorted({**self._known, **self._newer}.items(), key=lambda entry: (-entry[1], entry[0]))[:CHANNEL_LIMIT]
        return _PACK.encode(dict(sorted(newest)))


def follow(
    visit: Visit,
    places: Sequence[int | None],
    arm: str | None,
    partition: int,
    *,
    watermark_s: int,
    windows: Windows,
    gap_s: int,
    impressing: Impressing,
    margins: emission.Margins,
) -> Follower:
    """What a visit says of the lists that its shopper was shown. ``places``: of each event's item in the list that it cites, if that holds.

    The list that stood when the shopper acted counts as shown, unless the channel tells what it shows. It was shown when it was made, or
    at the act if that came more than ``gap_s`` later. Whoever agreed to be followed in the midst of the visit was shown nothing before.
    """
    emitted = visit.emitted
    follower = Follower(visit.followed, windows)
    follower.settle(watermark_s)
    standing = bool(emitted.skus) and not visit.withheld
    agreed_after = visit.withheld[-1] if visit.withheld else -1
    for (record, event, at_ms), place in zip(visit.events, places, strict=True):
        if record.offset <= agreed_after:
            continue
        kind = event.type
        if isinstance(event, Refund):
            follower.refund((partition, record.offset), event.sku, _sale(event, None))
            continue
        followed = kind in _FOLLOWED or (kind == "browse" and place is not None)
        if not (standing or followed or kind == "impression"):
            continue
        at_s = seconds(at_ms)
        source = Source(event.channel, event.country, event.segment)
        if standing:
            standing = False
            if not (kind == "impression" and place is not None) and not impressing(event.channel, at_s):
                shown_s = emitted.made_s if at_s <= emitted.made_s + gap_s else at_s
                follower.show(partition, record.offset, emitted.recommendation_id, shown_s, emitted.skus, arm, source)
        if kind == "impression":
            if place is not None:
                cited: str = event.recommendation_id  # type: ignore[union-attr, assignment]
                follower.impress(partition, record.offset, cited, at_s, event.sku, place, arm, source)  # type: ignore[union-attr, arg-type]
                impressing.note(event.channel, at_s)
        elif followed:
            cited_by = event.recommendation_id if place is not None else None  # type: ignore[union-attr]
            sku: str = event.sku  # type: ignore[union-attr, assignment]
            sale = _sale(event, margins(sku, event.currency)) if isinstance(event, Purchase) else None
            follower.take((partition, record.offset), Fact(kind, sku, at_s, cited_by, sale))
    return follower


def finish(visit: Visit, windows: Windows) -> Follower:
    """All that is known of what a shopper was shown, who is followed no longer."""
    follower = Follower(visit.followed, windows)
    for _, handed in visit.handed:
        follower.join(handed)
    follower.end()
    return follower


_FOLLOWED: Final = frozenset(("click", "add_to_cart", "purchase"))


def _sale(event: Purchase | Refund, margin: Decimal | None) -> Sale:
    return Sale(
        order_digest(event.order_id),
        event.quantity,
        f"{event.unit_price * event.quantity:f}",
        event.currency,
        None if margin is None else f"{margin:f}",
    )


def set_timer(step: Step, shopper: Shopper, before_s: int, wake_s: int) -> None:
    """Move the shopper's timer; 0: none."""
    if wake_s != before_s:
        if before_s:
            step.writes[shopper.timer_key(before_s)] = None
        if wake_s:
            step.writes[shopper.timer_key(wake_s)] = b"1"


@dataclass(slots=True)
class _Partition:
    """``event_ms`` was the partition's event-time clock when the wall clock said ``wall_ms``. ``start``: no timer is before this key."""

    event_ms: int = 0
    wall_ms: int = 0
    start: bytes = b""


class Resolutions:
    """Tells of what was shown to shoppers who do not act any more, when its window is over by the partition's event-time clock. That is the
    newest time of the events applied so far, which runs on with the wall clock while none come.

    What is kept here is memory only; who waits is in the state, by time.
    """

    def __init__(self, windows: Windows, category_of: Callable[[str], str | None]) -> None:
        """``category_of``: of a SKU, as the catalogue names it now."""
        self._windows = windows
        self._category_of = category_of
        self._partitions: dict[int, _Partition] = {}

    def forget(self, partition: int) -> None:
        """The partition came or went."""
        self._partitions.pop(partition, None)

    def heard(self, partition: int, event_ms: int, now_ms: int, written: Iterable[bytes]) -> None:
        """A batch moved the event-time clock to ``event_ms`` and wrote these keys, timers perhaps among them."""
        held = self._partitions.setdefault(partition, _Partition())
        held.event_ms, held.wall_ms = max(held.event_ms, event_ms), now_ms
        held.start = min((key for key in written if key.startswith(TIMER_PREFIX) and key < held.start), default=held.start)

    def sweep(self, step: Step | None, state: State, partition: int, now_ms: int) -> Step | None:
        """Add to ``step`` what became of the lists whose windows are over, of at most ``DUE_LIMIT`` shoppers, longest waiting first."""
        held = self._partitions.setdefault(partition, _Partition())
        if held.wall_ms == 0:
            clock = state.get_many([EVENT_CLOCK_KEY])[0]
            held.event_ms, held.wall_ms = decode_time(clock) if clock else 0, now_ms
        watermark_s = seconds(min(held.event_ms + max(0, now_ms - held.wall_ms), now_ms))
        due: list[tuple[bytes, int, Shopper]] = []
        for key, _ in state.scan(TIMER_PREFIX, held.start):
            wake_s, shopper = read_timer(key)
            if wake_s >= watermark_s or len(due) == DUE_LIMIT:
                held.start = key
                break
            due.append((key, wake_s, shopper))
        if not due:
            return step
        held.start = max(held.start, due[-1][0])
        step = step or Step()
        stored = state.get_many([shopper.list_key for _, _, shopper in due])
        told = emission.ResolutionWriter(partition, watermark_s, self._category_of)
        for (key, wake_s, shopper), before in zip(due, stored, strict=True):
            # Whoever expired, or got a list for the next visit, in this very step is known to the step alone.
            data = step.writes.get(shopper.list_key, before)
            emitted = decode_list(data)
            if data is None or emitted.shown.wake_s != wake_s:
                step.writes.setdefault(key, None)  # of a shopper who is gone, or of a time that is no longer theirs
                continue
            follower = Follower(emitted.shown, self._windows)
            follower.settle(watermark_s)
            shown = follower.close()
            step.outputs.extend(told.write(follower, shopper.name))
            set_timer(step, shopper, wake_s, shown.wake_s)
            step.writes[shopper.list_key] = encode_list(msgspec.structs.replace(emitted, shown=shown))
        return step

    def end(self, step: Step, partition: int, shopper: Shopper, emitted: EmittedList, at_ms: int) -> None:
        """Tell of all that was shown to a shopper who is let go; their list is written by whoever lets them go."""
        follower = Follower(emitted.shown, self._windows)
        follower.end()
        step.outputs.extend(emission.ResolutionWriter(partition, seconds(at_ms), self._category_of).write(follower, shopper.name))
        set_timer(step, shopper, emitted.shown.wake_s, 0)
