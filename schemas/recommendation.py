"""What a storefront gets back: one list of products for one shopper, each with its reasons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.base import SCHEMA_VERSION, Identifier, Label, Message, SchemaVersion, Sku

#: Where a candidate can come from. ``similar``: text vectors; ``together``: live session co-occurrence;
#: ``sessions``: the most similar past sessions; ``trending``: time-decayed popularity; ``again``: the shopper's own purchases and views;
#: ``sequence``: what a trained sequence model expects next; ``query``: what fits the shopper's last search; ``factors``: what trained
#: factors of items and shoppers expect.
SourceName = Literal["similar", "together", "sessions", "trending", "again", "sequence", "query", "factors"]


class NeighbourSession(Message):
    """A past session, by a keyed hash of its key on the topic ``sessions`` (16 hexadecimal digits), and its part of the reason's score."""

    session: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    score: float


class Reason(Message):
    """One source's share of an item's score, and the past item it rests on, if any.

    ``sessions``, where the workers were asked to name them (``--explain-sessions``): the past sessions that the source ``sessions`` took
    most of this from, most first. What their parts lack to ``score`` is other sessions'.
    """

    source: SourceName
    score: float
    because: Sku | None = None
    sessions: tuple[NeighbourSession, ...] = ()


class RecommendedItem(Message):
    """One line of the list. The shares in ``reasons`` sum to ``score``.

    ``pinned`` (absent where false): a business rule put it at this position, whatever the sources say; ``reasons`` tells what they say.
    ``purchase_probability``, where a trained ranker ordered the list: how probable it is that the shopper, who goes on, buys the item
    before the visit is over (absent for pinned items, and where the ranker's log held too few purchases).
    """

    sku: Sku
    position: Annotated[int, Field(ge=1)]
    score: float
    pinned: bool = False
    purchase_probability: Annotated[float, Field(ge=0, le=1)] | None = None
    explanation: str
    reasons: tuple[Reason, ...]


class CausedBy(Message):
    """The source records that this list rests on: the shopper's, from ``first_offset`` to ``last_offset``, ``events`` of them."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    events: Annotated[int, Field(ge=1)]


class Versions(Message):
    """What made the list: encoder, ranking model, a count of index changes, and the digests of the business rules and of the weights of
    the sources, if there was a file of them.

    ``feedback``, where value feedback is on: by dimension the data assets that counted less than 1 in the list, and what they counted
    (0: nothing). It is the whole of what feedback changed, so that a list can be accounted for; absent where feedback is off, and in
    lists for those who are held out.
    """

    encoder: str
    model: str
    index: int
    rules: str | None = None
    weights: str | None = None
    feedback: dict[str, dict[str, float]] | None = None


class Recommendations(Message):
    """The newest list for one shopper (key ``user_id``, or ``session:`` + ``session_id`` while anonymous).

    ``policy`` says how it was made: ``personal``, ``cold_start`` (only what is trending or pinned), ``item_only`` (without
    consent to a history: by the item at hand) or ``empty`` (``reason`` says why).
    ``arm`` says of what arm of an experiment the shopper is (absent while there is none): ``holdout`` (lists of what is popular, like a
    ``cold_start``, whatever is known of the shopper) or ``treated``; where weights are compared, ``control`` or ``treatment``. It is drawn
    from the key and does not change, but at a login, when the session becomes its user.
    ``occasion`` says what for: the ``visit`` that goes on, or the ``next_visit``, once this one is over.
    ``degraded`` names the sources that failed and were left out.
    """

    recommendation_id: Identifier
    user_id: Identifier | None = None
    session_id: Identifier | None = None
    generated_at: AwareDatetime
    policy: Literal["personal", "cold_start", "item_only", "empty"]
    arm: Label | None = None
    occasion: Literal["visit", "next_visit"] = "visit"
    reason: str | None = None
    degraded: tuple[Label, ...] = ()
    items: tuple[RecommendedItem, ...]
    caused_by: CausedBy
    versions: Versions
    schema_version: SchemaVersion = SCHEMA_VERSION
