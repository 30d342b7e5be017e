"""The rolling valuation record: what one data asset did for the recommendations in one window."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.base import SCHEMA_VERSION, Amount, Currency, Label, Message, SchemaVersion

CUTOFFS = (5, 10, 20)


class Window(Message):
    """``pane``: one event-time pane; ``horizon``: the last ``length`` seconds of event time; ``total``: since the beginning."""

    kind: Literal["pane", "horizon", "total"]
    start: AwareDatetime
    end: AwareDatetime
    length: Annotated[int, Field(ge=0)]


class RankingQuality(Message):
    """Prequential ranking scores at the cut-offs 5, 10, 20; keys are the cut-offs as strings. Values in 0..1."""

    hit_rate: dict[str, float]
    mrr: dict[str, float]
    ndcg: dict[str, float]


class Lift(Message):
    """How well the lists foretold what came next, beside the popularity baseline judged on the same tests."""

    metric: str
    utility: float
    baseline: float
    hit_rate: dict[str, float]
    mrr: dict[str, float]
    ndcg: dict[str, float]
    popularity: RankingQuality
    coverage: float | None = None


class MoneyFlow(Message):
    """Money in the window: all purchase revenue, refunds, and the part whose item stood in the list last emitted."""

    currency: Currency
    revenue: Amount
    refunds: Amount
    attributable: Amount


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
    """The outcome records that a number rests on, by partition of ``topic``."""

    topic: str
    partition: int
    offset_low: int
    offset_high: int


class AssetVersions(Message):
    """What served in the window."""

    encoder: str | None = None
    model: str | None = None


class RollingValuation(Message):
    """One asset in one window (topic ``valuation.rolling``, key ``dimension|asset|window``). Absent fields are not computed yet."""

    dimension: Label
    asset: str
    window: Window
    watermark: AwareDatetime
    versions: AssetVersions
    tests: Annotated[int, Field(ge=0)]
    late: Annotated[int, Field(ge=0)]
    lift: Lift | None = None
    funnel: Funnel
    money: tuple[MoneyFlow, ...] = ()
    health: Health | None = None
    lineage: tuple[Lineage, ...]
    schema_version: SchemaVersion = SCHEMA_VERSION
