"""A set of business rules over an item table: who is under which rules, what they may be shown, and where it goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.rules.arrays import NO_RULES, RuleArrays
from models.rules.file import UNKNOWN_REGION, Bury, BusinessRules, Exclude, ExposureCap, Pin
from models.rules.matching import Fitting, in_category, is_brand, path_parts
from models.rules.reach import Reach

#: Sets of exclusions and demotions whose columns are kept; each takes five bytes a row.
_REACHES: Final = 64

_AnyRule = Pin | Bury | Exclude | ExposureCap


class _Group:
    """The groups of one exposure cap, by code, as names come."""

    def __init__(self, cap: ExposureCap, items: ItemTable) -> None:
        self.by_brand = cap.per == "brand"
        self._names = items.brands if self.by_brand else items.categories
        self._level = cap.level
        chosen = (is_brand(cap.only) if self.by_brand else in_category(cap.only)) if cap.only else None
        self._chosen: Callable[[str], bool] | None = chosen
        self._numbers: dict[tuple[str, ...], int] = {}
        self._groups: list[int] = []

    def groups(self) -> list[int]:
        """The group of each code so far; -1 for names that are not held in check."""
        for name in self._names[len(self._groups) :]:
            if self._chosen is not None and not self._chosen(name):
                self._groups.append(-1)
                continue
            parts = (name.casefold(),) if self.by_brand else path_parts(name)[: self._level]
            self._groups.append(self._numbers.setdefault(parts, len(self._numbers)))
        return self._groups


class Ruling:
    """The rules that hold for some shoppers at one time, over ``items``, in lists of ``k``. ``reach``: of those that exclude and bury."""

    def __init__(self, rules: Sequence[_AnyRule], reach: Reach, items: ItemTable, k: int) -> None:
        self.reach = reach
        self._pins = [rule for rule in rules if isinstance(rule, Pin)]
        self._caps = [rule for rule in rules if isinstance(rule, ExposureCap)]
        self._items = items
        self._k = k
        self._groups = [_Group(cap, items) for cap in self._caps]
        self._limits = np.array([cap.limit(k) for cap in self._caps], dtype=np.int64)
        self._by_brand = np.array([group.by_brand for group in self._groups], dtype=np.bool_)
        self._cap_groups = NO_RULES.cap_groups
        self._names_read = (-1, -1)

    def arrays(self, eligible: NDArray[np.bool_], k: int | None = None) -> tuple[RuleArrays, int]:
        """For the compiled loops, where ``eligible`` bool[rows] may be listed; and how many pins are passed over because their product
        may not, or because lists are too short for their place. ``k``: of a list of another length.
        """
        k = k or self._k
        limits = self._limits if k == self._k else np.array([cap.limit(k) for cap in self._caps], dtype=np.int64)
        pins, passed_over = self._placed(eligible, k)
        places = np.array(sorted(pins), dtype=np.int64)
        rows = np.array([pins[place] for place in places.tolist()], dtype=np.int32)
        return RuleArrays(self.reach.demotion, rows, places, self._by_brand, self._current_groups(), limits), passed_over

    def _placed(self, eligible: NDArray[np.bool_], k: int) -> tuple[dict[int, int], int]:
        """Place from 0 -> row. A pin whose place or product an earlier one has got is not passed over: it has come second."""
        pins: dict[int, int] = {}
        passed_over = 0
        for pin in self._pins:
            row = self._items.row(pin.sku)
            if row < 0 or pin.position > k or not eligible[row]:
                passed_over += 1
            elif pin.position - 1 not in pins and row not in pins.values():
                pins[pin.position - 1] = row
        return pins, passed_over

    def _current_groups(self) -> NDArray[np.int32]:
        names = (len(self._items.categories), len(self._items.brands))
        if self._groups and names != self._names_read:
            self._names_read = names
            self._cap_groups = np.full((len(self._groups), max(names) + 1), -1, dtype=np.int32)
            for place, group in enumerate(self._groups):
                found = group.groups()
                self._cap_groups[place, : len(found)] = found
        return self._cap_groups


class RuleBook:
    """``rules`` in force over ``items`` for lists of ``k``, as products and time go on.

    ``refresh`` before each batch; ``everyone`` is then the ruling of the rules without an audience, ``rulings`` tells shoppers apart by
    those with one. ``generation`` goes up when other rules hold than before, because their time has come or gone.
    """

    def __init__(self, rules: BusinessRules, items: ItemTable, k: int) -> None:
        self.rules = rules
        self.generation = 0
        self._items = items
        self._k = k
        self._all: list[_AnyRule] = list(chain(rules.pin, rules.bury, rules.exclude, rules.exposure_caps))
        self._times = sorted({time for rule in self._all for time in rule.span_ms if math.isfinite(time)})
        self._span = (math.inf, -math.inf)
        self._changed: set[int] = set()
        self._hold(())

    def note(self, rows: Sequence[int]) -> None:
        """The products of ``rows`` were set or deleted."""
        self._changed.update(rows)

    def refresh(self, now_ms: int) -> None:
        """Bring rules to the time ``now_ms``, and what they say of products to what the item table holds."""
        if not self._span[0] <= now_ms < self._span[1]:
            later = [time for time in self._times if time > now_ms]
            self._span = (max((time for time in self._times if time <= now_ms), default=-math.inf), min(later, default=math.inf))
            self._hold([rule for rule in self._all if rule.span_ms[0] <= now_ms < rule.span_ms[1]])
            self.generation += 1
        changed = np.fromiter(self._changed, dtype=np.int32, count=len(self._changed))
        self._changed.clear()
        for reach in self._reaches.values():
            reach.update(changed)

    @property
    def asks_who(self) -> bool:
        """Whether any rule that holds now is for some shoppers only."""
        return bool(self._addressed)

    def rulings(self, countries: Sequence[str], categories: NDArray[np.int32]) -> list[tuple[NDArray[np.int64], Ruling]]:
        """(places int64[m], the ruling of the shoppers at them) for n shoppers: their ``countries``, empty where unknown, and the codes
        of the ``categories`` int32[n] that they look at, -1 for none. Every place is in exactly one.
        """
        if not self._addressed:
            return [(np.arange(len(countries), dtype=np.int64), self.everyone)]
        members: dict[tuple[bool, ...], list[int]] = {}
        codes = categories.tolist() if any(self._looking_at) else [-1] * len(countries)
        for place, (country, code) in enumerate(zip(countries, codes, strict=True)):
            region = country.casefold() or UNKNOWN_REGION
            who = (region if region in self._regions else None, code)
            holds = self._holds.get(who)
            if holds is None:
                holds = self._applying(*who)
                holds = self._holds[who] = self._combinations.setdefault(holds, holds)
            members.setdefault(holds, []).append(place)
        return [(np.array(places, dtype=np.int64), self._ruling(holds)) for holds, places in members.items()]

    def _hold(self, rules: Sequence[_AnyRule]) -> None:
        self._in_force = rules
        self._addressed = [rule for rule in rules if rule.audience is not None]
        self._regions = {region.casefold() for rule in self._addressed if rule.audience for region in rule.audience.regions}
        self._looking_at = [
            Fitting(self._items.categories, in_category(rule.audience.categories)) if rule.audience and rule.audience.categories else None
            for rule in self._addressed
        ]
        self._holds: dict[tuple[str | None, int], tuple[bool, ...]] = {}
        self._combinations: dict[tuple[bool, ...], tuple[bool, ...]] = {}
        self._rulings: dict[tuple[bool, ...], Ruling] = {}
        self._reaches: dict[tuple[int, ...], Reach] = {}
        self.everyone = self._ruling((False,) * len(self._addressed))

    def _applying(self, region: str | None, category: int) -> tuple[bool, ...]:
        """Which of the addressed rules hold for a shopper in ``region`` (None: one that no rule names) who looks at ``category``."""
        holds = []
        for rule, looking_at in zip(self._addressed, self._looking_at, strict=True):
            regions = rule.audience.regions if rule.audience else ()
            there = not regions or region in {name.casefold() for name in regions}
            holds.append(there and (looking_at is None or bool(looking_at.of(np.array([category], dtype=np.int32))[0])))
        return tuple(holds)

    def _ruling(self, holds: tuple[bool, ...]) -> Ruling:
        """The ruling of the rules for everyone and of those addressed ones that hold."""
        ruling = self._rulings.get(holds)
        if ruling is None:
            out = {id(rule) for rule, held in zip(self._addressed, holds, strict=True) if not held}
            rules = [rule for rule in self._in_force if id(rule) not in out]
            ruling = self._rulings[holds] = Ruling(rules, self._reach(rules), self._items, self._k)
        return ruling

    def _reach(self, rules: Sequence[_AnyRule]) -> Reach:
        key = tuple(id(rule) for rule in rules if isinstance(rule, Exclude | Bury))
        reach = self._reaches.get(key)
        if reach is None:
            if len(self._reaches) == _REACHES:  # the first is everyone's
                everyone = next(iter(self._reaches))
                self._reaches = {everyone: self._reaches[everyone]}
                self._rulings = {holds: ruling for holds, ruling in self._rulings.items() if ruling is self.everyone}
            reach = Reach(
                [rule for rule in rules if isinstance(rule, Exclude)], [rule for rule in rules if isinstance(rule, Bury)], self._items
            )
            reach.update(np.empty(0, dtype=np.int32))
            self._reaches[key] = reach
        return reach
