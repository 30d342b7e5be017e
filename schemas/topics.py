"""The table of topics: the one place that says how each is keyed, partitioned, cleaned and kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from schemas.catalog import Embedding, Product
from schemas.events import EVENT_ADAPTER
from schemas.internal import Exposure, Forgotten, Outcome, PanePartial, ProfileMerge, Resolution, SessionDelta
from schemas.operations import DeadLetter, Erasure, ErasureReceipt
from schemas.recommendation import Recommendations
from schemas.valuation import RollingValuation, ValueRegister

_DAY_MS = 86_400_000
#: Kafka's "keep for ever".
FOREVER = -1
#: Also what librdkafka's embedded broker gives every topic, so one count fits development and tests.
DEFAULT_PARTITIONS = 4


class Cleanup(StrEnum):
    """Kafka's ``cleanup.policy``."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. ``models`` are what its values may be (``Event`` is the union of eight).

    ``co_partitioned`` topics must have as many partitions as the events.

    ``retention_ms`` applies to ``delete`` topics; a compacted topic keeps the newest record of each key for ever.
    """

    name: str
    key: str
    cleanup: Cleanup
    retention_ms: int
    co_partitioned: bool
    direction: str  # "in": a storefront writes it; "out": a storefront reads it; "internal"
    models: tuple[type[BaseModel], ...]
    summary: str


def _event_models() -> tuple[type[BaseModel], ...]:
    from schemas import events as e

    return (e.Browse, e.Click, e.AddToCart, e.Purchase, e.Refund, e.Search, e.Impression, e.Login)


EVENTS = Topic(
    "storefront.events", "user_id, else session_id", Cleanup.DELETE, 30 * _DAY_MS, True, "in", _event_models(), "What shoppers do."
)
CATALOG = Topic("storefront.catalog", "sku", Cleanup.COMPACT, FOREVER, False, "in", (Product,), "Products, whole; null value = delete.")
EMBEDDINGS = Topic("catalog.embeddings", "sku", Cleanup.COMPACT, FOREVER, False, "internal", (Embedding,), "Product text as vectors.")
RECOMMENDATIONS = Topic(
    "recommendations",
    "user_id, else session:session_id",
    Cleanup.COMPACT,
    FOREVER,
    True,
    "out",
    (Recommendations,),
    "The newest list of each shopper; null value = shopper gone (erased, a session merged into its user, or one that did not come back).",
)
SESSIONS = Topic(
    "sessions",
    "session",
    Cleanup.DELETE,
    90 * _DAY_MS,
    False,
    "internal",
    (SessionDelta,),
    "Items of live sessions, for every worker's session index.",
)
MERGES = Topic(
    "profile.merges",
    "user_id",
    Cleanup.DELETE,
    7 * _DAY_MS,
    True,
    "internal",
    (ProfileMerge,),
    "Anonymous histories on their way to the users who logged in.",
)
OUTCOMES = Topic(
    "outcomes",
    "shopper",
    Cleanup.DELETE,
    30 * _DAY_MS,
    False,
    "internal",
    (Outcome, Exposure, Resolution, Forgotten),
    "What was shown, set against what happened next.",
)
PARTIALS = Topic(
    "valuation.partials",
    "dimension",
    Cleanup.DELETE,
    7 * _DAY_MS,
    False,
    "internal",
    (PanePartial,),
    "Per-partition sums on their way to one total.",
)
VALUATION = Topic(
    "valuation.rolling",
    "dimension|asset|window",
    Cleanup.COMPACT,
    FOREVER,
    False,
    "out",
    (RollingValuation,),
    "Rolling metrics and valuation of each data asset: window 1m, 5m, 1h, 24h, 7d or total, and 1m@START for each minute that is over; "
    "null value = that minute is no longer held.",
)
REGISTER = Topic(
    "valuation.register",
    "dimension|window",
    Cleanup.COMPACT,
    FOREVER,
    False,
    "out",
    (ValueRegister,),
    "What every asset of a dimension was worth in a window, in one record that adds up to the lift; null value = as above.",
)
DEAD_LETTERS = Topic(
    "events.dead-letter",
    "topic-partition-offset",
    Cleanup.DELETE,
    30 * _DAY_MS,
    False,
    "out",
    (DeadLetter,),
    "Every record that was refused, whole, with the reason; without a value once it was sent again.",
)
ERASURES = Topic("privacy.erasures", "user_id", Cleanup.DELETE, 90 * _DAY_MS, True, "in", (Erasure,), "Shoppers to be forgotten.")
RECEIPTS = Topic("privacy.receipts", "user_id", Cleanup.DELETE, 90 * _DAY_MS, False, "out", (ErasureReceipt,), "What an erasure removed.")

TOPICS: tuple[Topic, ...] = (
    EVENTS,
    CATALOG,
    EMBEDDINGS,
    RECOMMENDATIONS,
    SESSIONS,
    MERGES,
    OUTCOMES,
    PARTIALS,
    VALUATION,
    REGISTER,
    DEAD_LETTERS,
    ERASURES,
    RECEIPTS,
)
__all__ = ["EVENT_ADAPTER", "TOPICS", "Cleanup", "Topic"]
