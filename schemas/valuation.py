"""The rolling valuation record: what one data asset did for the recommendations in one window."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, Field

from schemas.base import SCHEMA_VERSION, Currency, Label, Message, SchemaVersion, TotalAmount

CUTOFFS = (5, 10, 20)


class Window(Message):
    """``pane``: one event-time pane; ``horizon``: the last ``length`` seconds of event time; ``total``: since the beginning."""

    kind: Literal["pane", "horizon", "total"]
    start: AwareDatetime
    end: AwareDatetime
    length: Annotated[int, Field(ge=0)]


class Utility(Message):
    """The yardstick of ``lift.utility`` and ``lift.baseline``: ``metric`` at cut-off ``k``, under a ``name`` of its own."""

    name: str
    k: Annotated[int, Field(ge=1)]
    metric: str


class RankingQuality(Message):
    """Prequential ranking scores at the cut-offs 5, 10, 20; keys are the cut-offs as strings. Values in 0..1."""

    hit_rate: dict[str, float]
    mrr: dict[str, float]
    ndcg: dict[str, float]


class Lift(Message):
    """How well the lists foretold what came next, beside the popularity baseline judged on the same tests."""

    utility: float
    baseline: float
    hit_rate: dict[str, float]
    mrr: dict[str, float]
    ndcg: dict[str, float]
    popularity: RankingQuality
    coverage: float | None = None


class MoneyFlow(Message):
    """Money of one currency in the window: all purchase revenue, refunds, and the part whose item stood in the list last emitted."""

    currency: Currency
    revenue: TotalAmount
    refunds: TotalAmount
    attributable: TotalAmount


class Health(Message):
    """VALUATION section 2: ``gap`` = score_train - score_test, ``E`` = max(0, gap - epsilon). A signal of over-fitting, not a value."""

    gap: float
    E: float
    epsilon: float
    orientation: Literal["score_train - score_test"] = "score_train - score_test"


class Funnel(Message):
    """Counts in the window. ``clicks`` are those whose item stood in the list last emitted, ``conversions`` the purchases that are
    ``attributed`` (see ``schemas.internal.Outcome``).
    """

    events: int
    clicks: int
    conversions: int
    by_type: dict[str, int]


class Lineage(Message):
    """The outcome records of one partition of ``topic`` that the numbers rest on: the first and the last of them."""

    topic: str
    partition: int
    offset_low: int
    offset_high: int


class AssetVersions(Message):
    """What served in the window."""

    encoder: str | None = None
    model: str | None = None


#: What makes an interval of money.
MoneyMethod: TypeAlias = Literal["batch_means", "poisson_bootstrap"]


class ValueMoney(Message):
    """What one asset is credited with in one currency: its points in each purchase that a recommendation is credited with
    (``Outcome.attributed``), times what that brought, less refunds of purchases whose session is still in the window.

    ``basis`` says what a purchase brought: its ``margin``, as the catalogue tells it or, where it does not, as a share of revenue that the
    settings name for its category (``modelled_fraction``: how much of the amount is so modelled, 0 to 1); or, in an entry of its own, the
    ``revenue`` of purchases of which no margin is known. The two are never added up; nor is what ``clicks`` on recommended items that are
    not bought yet are taken to be worth, where the settings say it: all modelled, and without an interval.

    ``low`` and ``high`` are the 95 % interval, absent where nothing can be relied on. ``method`` made it: in the windows ``24h``, ``7d``
    and ``total`` a ``poisson_bootstrap`` over shoppers (what the same sources would bring with other shoppers of this kind; at least 20
    buyers, effectively), in shorter ones ``batch_means`` over panes of time (at least 24 panes and 100 tests).
    """

    currency: Currency
    basis: Literal["margin", "revenue", "clicks"] = "revenue"
    attributable: float
    modelled_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    low: float | None = None
    high: float | None = None
    method: MoneyMethod | None = None


class AssetValue(Message):
    """What one asset added to the predictions (VALUATION, section 3), in utility points per test: averages over the tests of the window.

    - ``points``: the KNN-Shapley value of all its rows, centred on popularity. Copying an asset inflates it.
    - ``player``: its Shapley value in the game whose players are the dimension's assets. Copying moves it less than ``points`` (measured:
      by -12 to +4 % of the whole, against 25 to 60). Beyond eleven assets those with fewest rows play as one, whose value stands at
      ``other``.
    - ``leave_one_out``: how much lift would be lost without it.

    ``points`` and ``player`` of all assets each add up to the lift. ``share`` is that of ``points`` in the lift, absent where that is not
    above 0. ``low`` and ``high``: 95 % interval of ``points`` by ``method``, absent where nothing can be said; ``insufficient``: fewer
    than 24 panes or 100 tests. ``rows``: the asset's past sessions in the window, on average, each as large a part as it has of the
    session's events, which is how ``points`` are shared out, too; ``per_1k_rows``: points per thousand. ``owned``: the sessions that play
    for it in ``player`` and ``leave_one_out``, where a session is one asset's as a whole, that of most of its events: an asset may own
    none, and then its absence was never played. ``faded`` (window ``7d`` alone): points per test in the average that fades
    (``ValueRegister.fading``).
    """

    points: float
    player: float
    leave_one_out: float
    share: float | None = None
    per_1k_rows: float | None = None
    faded: float | None = None
    low: float | None = None
    high: float | None = None
    insufficient: bool = True
    method: Literal["batch_means"] | None = None
    tests: Annotated[int, Field(ge=0)]
    rows: Annotated[float, Field(ge=0)]
    # Absent from records that were written before there was such a field.
    owned: Annotated[float, Field(ge=0)] | None = None
    money: tuple[ValueMoney, ...] = ()


class Game(Message):
    """What was shared out: how many of the ``k`` nearest past sessions held the item that came next (``utility``), how many of all
    past sessions did (``baseline``, popularity), and the difference (``lift``): averages over ``tests``.

    ``name`` ``embedding_neighbours`` (setting ``value_neighbours``): rows are items shown, near by their vectors; a test is the next item
    shown of which it is known what became of it, and what is asked is whether the same became of the rows: taken up, or not.

    ``truncation_error_max``: by how much the value of a row among the nearest ``head`` may be off at most, in every test of the window and
    so on average, because rows beyond them count as unordered. It bounds no asset's sum: with h rows among the nearest, that is off by at
    most h times as much on their account, and by what those of its rows gain or lose that are beyond and do have an order.
    """

    name: Literal["session_neighbours", "embedding_neighbours"] = "session_neighbours"
    method: Literal["knn_shapley"] = "knn_shapley"
    k: Annotated[int, Field(ge=1)]
    head: Annotated[int, Field(ge=1)]
    tests: Annotated[int, Field(ge=0)]
    utility: float
    baseline: float
    lift: float
    truncation_error_max: float


class Fading(Message):
    """The average that fades: of the tests of the last seven days, where those of an hour count half as much as those ``half_life_s``
    later.    ``tests``: how many they are, so weighted. ``lift``: per test; the ``faded`` of all assets add up to it.
    """

    half_life_s: Annotated[int, Field(ge=1)]
    tests: Annotated[float, Field(ge=0)]
    lift: float


class Checks(Message):
    """``efficiency_residual``: by how much the assets' points, added up over all tests of the window, miss the lift, or the players' values
    where those miss it by more; rounding alone.
    """

    efficiency_residual: float


class AdjustedMargin(Message):
    """What ``IncrementalMargin`` says, less what the shoppers' pasts foretold of it (CUPED): the same quantity, more surely known.

    A shopper's past is what they brought, of the same currency and basis, less refunds, while in no arm of any experiment, in the period of
    28 days of event time in which the experiment first met them and the three periods before; 0 where they brought nothing.
    ``variance_reduction``: how much of the variance of the estimate it takes away (below 0 where it adds some).
    """

    amount: float
    low: float
    high: float
    always_valid_low: float | None = None
    always_valid_high: float | None = None
    variance_reduction: float


class IncrementalMargin(Message):
    """What treating ``treated`` shoppers brought, beside ``held_out`` ones who got what is popular: the difference of what a
    shopper brought, less refunds, times the treated. The only figure here that may be called value created.
    ``basis`` and ``modelled_fraction`` as in ``ValueMoney``, of all purchases of both arms.

    There are two 95 % intervals. ``low`` and ``high``: for who looks once, at a time that was set before. ``always_valid_low`` and
    ``always_valid_high``: for who follows the record and acts when it excludes 0; absent until each arm has 100 shoppers. ``adjusted``:
    beside this plain estimate, that by CUPED, absent where no shopper has a past.

    ``experiment``: which drew the arms (``Outcome.experiment``; empty where outcomes do not name it).
    """

    experiment: str = ""
    currency: Currency
    basis: Literal["margin", "revenue"] = "revenue"
    modelled_fraction: Annotated[float, Field(ge=0, le=1)] | None = None
    treated: Annotated[int, Field(ge=0)]
    held_out: Annotated[int, Field(ge=0)]
    amount: float
    low: float
    high: float
    always_valid_low: float | None = None
    always_valid_high: float | None = None
    adjusted: AdjustedMargin | None = None


class IncrementalSplit(Message):
    """An incremental ``amount`` shared out among the assets of the dimension in proportion to their ``player`` values, which are what
    accounts are settled by. ``parts``, by asset, add up to it exactly; that of an asset whose value is below 0 is below 0.

    It is a convention, not a measurement: shoppers were held out from all data at once, so nothing was observed of one asset, and no part
    has an interval. ``estimate``: whether the amount is that of ``IncrementalMargin.adjusted`` or, where there is none, the plain one.
    """

    experiment: str = ""
    currency: Currency
    basis: Literal["margin", "revenue"] = "revenue"
    estimate: Literal["adjusted", "plain"]
    by: Literal["player"] = "player"
    amount: TotalAmount
    parts: dict[str, TotalAmount]


class ValueRegister(Message):
    """What every asset of one dimension was worth in one window (topic ``valuation.register``, key ``dimension|window``).

    The windows of the key are those of ``RollingValuation``, and so is ``status``: ``1m@START`` is a minute that is over.
    ``lineage``: the first and the last test by partition of ``outcomes``. ``incremental``: in dimension ``overall`` and window ``total``,
    absent without a hold-out (and until each arm has 30 shoppers). One entry an
    experiment, currency and basis: an experiment of which nothing was heard for 7 days of event time is over, and left out.
    ``incremental_split``: in the window ``total`` of every dimension, the same shared out among its assets; an entry is absent where the
    amount, or the lift, is not above 0.
    """

    dimension: Label
    window: Window
    status: Literal["open", "final", "correction", "addition"] = "open"
    watermark: AwareDatetime
    game: Game
    assets: dict[str, AssetValue]
    fading: Fading | None = None
    checks: Checks
    lineage: tuple[Lineage, ...]
    incremental: tuple[IncrementalMargin, ...] | None = None
    incremental_split: tuple[IncrementalSplit, ...] | None = None
    schema_version: SchemaVersion = SCHEMA_VERSION


class Cost(Message):
    """What the outcomes (``rows``) that the asset has in the window cost, by what the settings say of a thousand: to ``acquire``, ``store``
    and ``compute``. ``net``: the money that the asset is credited with (``value.money``, but for that of clicks) less all that; absent
    where any of it came in another currency, or some of it is margin and some the revenue of purchases of which no margin is known, for the
    two are not one sum and the cost is of all events.
    """

    currency: Currency
    acquire: float
    store: float
    compute: float
    net: float | None = None


class Completeness(Message):
    """Shares, 0 to 1, of the asset's outcomes that name a category, a country and a segment, and of its purchases whose margin is told
    (absent without purchases).
    """

    category: float
    country: float
    segment: float
    margin: float | None = None


class Quality(Message):
    """How good the asset's data is: ``late_share`` (0 to 1) of its outcomes came late, and what of each is filled in."""

    late_share: float
    completeness: Completeness


class RollingValuation(Message):
    """One asset in one window (topic ``valuation.rolling``, key ``dimension|asset|window``). Absent fields are not computed yet.

    The windows of the key: ``1m`` (the newest minute), ``5m``, ``1h``, ``24h``, ``7d``, ``total``, which move on and are always
    ``open``; and ``1m@START`` (``window.start`` in ISO 8601), a minute that is over. Such a minute comes out

    - once as ``final``, when the watermarks of the partitions have left it (or one of them by five minutes);
    - whole again as a ``correction`` whenever outcomes come after that;
    - as an ``addition`` when they come so late that the minute is no longer held, more than an hour: that record has the late
      outcomes alone, to be added to what the minute's records said before.

    A minute that is no longer held gets a null value, so that the compacted topic keeps an hour of minutes and not all that ever
    were; a reader that follows the topic has seen them all.

    ``rows`` counts the outcomes that the asset has in the window, ``tests`` those of them that were judged against a list of ours: those of
    shoppers who are held out are not, nor are their clicks and purchases credited to one.
    ``money`` is a list because amounts of different currencies do not add up: one entry a currency, by its code.
    ``lineage`` is a list because outcomes come from several partitions: one entry a partition, by its number.
    ``cost`` is absent where the settings say nothing of the asset, ``quality`` where it has no outcomes.
    ``value`` is the asset's entry in the ``ValueRegister`` of the window as of this record; the register moves on with every test,
    this record with the asset's own outcomes, and with every minute.
    """

    dimension: Label
    asset: str
    window: Window
    status: Literal["open", "final", "correction", "addition"] = "open"
    watermark: AwareDatetime
    versions: AssetVersions
    utility: Utility | None = None
    # Absent from records that were written before there was such a field.
    rows: Annotated[int, Field(ge=0)] = 0
    tests: Annotated[int, Field(ge=0)]
    late: Annotated[int, Field(ge=0)]
    value: AssetValue | None = None
    lift: Lift | None = None
    funnel: Funnel
    money: tuple[MoneyFlow, ...] = ()
    cost: Cost | None = None
    health: Health | None = None
    quality: Quality | None = None
    lineage: tuple[Lineage, ...]
    schema_version: SchemaVersion = SCHEMA_VERSION
