"""What the read API answers beside the records of the topics themselves (``Recommendations``, ``RollingValuation``)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.base import Label, Message, Sku
from schemas.recommendation import SourceName
from schemas.valuation import RollingValuation

#: Stable codes of refused requests; clients branch on them, not on the text.
ErrorCode = Literal[
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "request_too_large",
    "shopper_unknown",
    "sku_unknown",
    "category_unknown",
    "parameter_invalid",
    "not_ready",
    "search_disabled",
    "overloaded",
    "internal",
]


class ApiError(Message):
    """A request that was not answered: a stable ``code`` and a ``message`` that says what to do."""

    code: ErrorCode
    message: str


class ErrorReply(Message):
    """The body of every reply with a status of 400 and above."""

    error: ApiError


class Share(Message):
    """What one source says of a product, 0..1: ``similar`` = cosine of texts, ``together`` = share of the strongest companion's weight."""

    source: SourceName
    score: float


class ListedProduct(Message):
    """A product of the catalogue that may be shown now. ``pinned`` (absent where it is not): a business rule put it at this place,
    whatever its score; the score of a product that is buried is less than its shares say.
    """

    sku: Sku
    title: str
    category: str
    score: float
    pinned: bool | None = None
    shares: tuple[Share, ...] = ()


class SimilarItems(Message):
    """Products near ``sku``, best first: ``score`` is the mean of what text and shared sessions say. ``rules``: digest of the business
    rules that it was made under, if there were any.
    """

    sku: Sku
    rules: str | None = None
    items: tuple[ListedProduct, ...]


class Trending(Message):
    """What is popular now, by counts that halve with time; ``score`` is a product's share of the leader's. ``rules`` as in
    ``SimilarItems``.
    """

    category: str | None = None
    rules: str | None = None
    items: tuple[ListedProduct, ...]


#: What a search score is made of: the place among products found by word, the place among those found by meaning, the shopper's taste.
SearchSource = Literal["lexical", "semantic", "personal"]


class SearchShare(Message):
    """One part of a hit's score."""

    source: SearchSource
    score: float


class SearchHit(Message):
    """A product that fits the query and may be shown now. The shares sum to ``score``, 0..1; parts that say nothing are left out."""

    sku: Sku
    title: str
    category: str
    score: float
    shares: tuple[SearchShare, ...]


class SearchResults(Message):
    """Products that fit ``query`` (as it was understood: lower case, single spaces), best first.

    ``personal``: whether a list made for the shopper was taken into account. ``degraded`` names the parts that were left out because
    they failed: ``semantic`` (the vectors are of another encoder, or this one could not read the query), ``personal`` (an unreadable
    list).
    """

    query: str
    category: str | None = None
    personal: bool
    degraded: tuple[Label, ...] = ()
    items: tuple[SearchHit, ...]


class ValuationRecords(Message):
    """The newest rolling records of a dimension, by asset and window (``1m``, ``5m``, ``1h``, ``24h``, ``7d``, ``total``)."""

    dimension: str
    records: tuple[RollingValuation, ...]


class Liveness(Message):
    """Whether the process can go on."""

    status: Literal["ok", "failed"]
    error: str | None = None


class Readiness(Message):
    """Whether the replica has read what was there when it started; ``behind``: records to go, by topic."""

    status: Literal["ready", "catching_up"]
    behind: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
