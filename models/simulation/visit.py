"""One shopper's visit to the shop, step by step: what they look at next, put into the basket, and buy."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from models.simulation.catalogue import Catalogue
from models.simulation.chance import Chance
from models.simulation.shopper import Shopper, Trends, affinity, appeal


@dataclass(frozen=True, slots=True)
class Channel:
    """Where visits come from. ``focus``: share of steps that follow the shopper's taste; the rest drifts to what is popular."""

    name: str
    share: float
    focus: float


#: The sources differ in worth on purpose: what a channel's data contributes can be measured against ``focus``.
CHANNELS = (
    Channel("search", 0.27, 0.90),
    Channel("direct", 0.25, 0.85),
    Channel("social", 0.20, 0.45),
    Channel("email", 0.15, 0.92),
    Channel("ads", 0.09, 0.55),
    Channel("affiliate", 0.04, 0.30),
)


@dataclass(frozen=True, slots=True)
class Attribution:
    """The list and the position that led to a product."""

    recommendation_id: str
    position: int


@dataclass(slots=True)
class Visit:
    """A session in progress. ``known`` is true once the shop knows the user; ``steps`` counts down to the checkout or exit."""

    shopper: Shopper
    session_id: str
    channel: Channel
    known: bool
    steps: int
    login_at: int
    viewed: list[int] = field(default_factory=list)
    basket: dict[int, Attribution | None] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The Kafka key of this visit's events, login excepted."""
        return self.shopper.user_id if self.known and self.shopper.user_id else self.session_id

    @property
    def recommendation_key(self) -> str:
        """The key of this visit's lists on the topic ``recommendations``."""
        return self.shopper.user_id if self.known and self.shopper.user_id else f"session:{self.session_id}"


@dataclass(frozen=True, slots=True)
class Attention:
    """How shoppers react; all probabilities. The defaults give a funnel of about 100 views : 18 baskets : 7 purchases."""

    look_at_list: float = 0.35
    examine_next: float = 0.86
    click_wanted: float = 0.55
    add_to_cart: float = 0.32
    check_out: float = 0.55
    complement: float = 0.5
    stay_on_shelf: float = 0.45
    look_again: float = 0.12
    buy_again: float = 0.10


DEFAULT_ATTENTION = Attention()
#: Trends are looked up once in six hours of simulated time.
_EPOCH_DAYS = 0.25


def next_product(chance: Chance, catalogue: Catalogue, trends: Trends, attention: Attention, visit: Visit, days: float) -> int:
    """The row that a shopper finds by roaming: a partner of what is in the basket, the same shelf, a second look, or a new shelf."""
    shopper = visit.shopper
    if not chance.happens(visit.channel.focus):
        return _popular(chance, catalogue)
    if visit.basket and chance.happens(attention.complement):
        partners = catalogue.complements[next(reversed(visit.basket))]
        return partners[chance.below(len(partners))]
    if shopper.bought and chance.happens(attention.buy_again):
        return shopper.bought[chance.below(len(shopper.bought))]
    if len(visit.viewed) > 1 and chance.happens(attention.look_again):
        return visit.viewed[chance.below(len(visit.viewed))]
    if visit.viewed and chance.happens(attention.stay_on_shelf):
        return _from_shelf(chance, catalogue, trends, shopper, int(catalogue.category[visit.viewed[-1]]), days)
    return _from_shelf(chance, catalogue, trends, shopper, chance.pick(shopper.category_cumulative), days)


def examine(chance: Chance, catalogue: Catalogue, attention: Attention, shopper: Shopper, skus: tuple[str, ...]) -> tuple[int, int | None]:
    """Read a list from the top until interest fades or something is wanted: (positions read, position clicked or None), from 1."""
    for position, sku in enumerate(skus, start=1):
        row = catalogue.rows.get(sku)
        if row is not None and chance.happens(attention.click_wanted * appeal(shopper, catalogue, row)):
            return position, position
        if not chance.happens(attention.examine_next):
            return position, None
    return len(skus), None


def _popular(chance: Chance, catalogue: Catalogue) -> int:
    return chance.pick(catalogue.popularity_cumulative)


def _from_shelf(chance: Chance, catalogue: Catalogue, trends: Trends, shopper: Shopper, category: int, days: float) -> int:
    rows = catalogue.shelves[category]
    epoch = int(days / _EPOCH_DAYS)
    weights = shopper.shelf_weights.get((epoch, category))
    if weights is None:
        trend = trends.at(category, epoch * _EPOCH_DAYS)[catalogue.style[rows]]
        weights = list(accumulate((catalogue.popularity[rows] * affinity(shopper, catalogue, rows) * trend).tolist()))
        if any(old != epoch for old, _ in shopper.shelf_weights):
            shopper.shelf_weights.clear()
        shopper.shelf_weights[epoch, category] = weights
    return int(rows[chance.pick(weights)])
