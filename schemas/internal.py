"""Messages between our own workers. A storefront need not read them; they are contracts all the same."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from schemas.base import SCHEMA_VERSION, Amount, Currency, Identifier, Label, Message, Origin, SchemaVersion, Sku, TotalAmount

#: Bytes in a text, two lower-case digits each.
HexBytes = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class SessionItem(Message):
    """One item event inside a session; ``at`` in ms since the epoch, not after the broker received the event."""

    sku: Sku
    at: int
    type: Literal["browse", "click", "add_to_cart", "purchase"]


class SessionDelta(Message):
    """Items appended to a live session (topic ``sessions``, key ``session``).

    ``start`` is the position of the first of ``items`` in the session, so that a reader can tell a gap or a repeat.
    ``channel``, ``country`` and ``segment`` are those of the events of all the items; absent where those named none, and in what older
    writers left. ``erased`` true means: forget every session of this ``shopper``.
    """

    session: Identifier
    shopper: Identifier
    start: Annotated[int, Field(ge=0)]
    items: tuple[SessionItem, ...]
    channel: Label | None = None
    country: Label | None = None
    segment: Label | None = None
    erased: bool = False
    schema_version: SchemaVersion = SCHEMA_VERSION


class ProfileMerge(Message):
    """The history of an anonymous session on its way to the user who logged in (topic ``profile.merges``, key ``user_id``).

    ``received_ms`` is when the broker took the login (ms since the epoch): an erasure of the user that it took then or later
    forgets this history too. 0, which older writers leave it at, counts as before any erasure. ``lists_sent``, ``clicks``, ``views`` and
    ``margins`` are what the session was sent, took up and bought (``models.attribution.Memory``), ``lists_shown`` what it was shown and
    what is known to have become of it (``models.attribution.ShownLists``), in hexadecimal.
    """

    user_id: Identifier
    session_id: Identifier
    origin: Origin
    occurred_at: AwareDatetime
    received_ms: Annotated[int, Field(ge=0)] = 0
    profile: dict[str, Any]
    lists_sent: HexBytes = ""
    clicks: HexBytes = ""
    views: HexBytes = ""
    margins: HexBytes = ""
    lists_shown: HexBytes = ""
    schema_version: SchemaVersion = SCHEMA_VERSION


class Outcome(Message):
    """What a shopper did, set against what was last emitted to them *before* it (topic ``outcomes``, key: the shopper).

    Ranks count from 1 and are absent where the item was not in the list. ``list_size`` 0 means that nothing had been
    emitted yet: such an outcome counts as an event, not as a test. ``rank_after`` is the item's rank in the list made
    once the event had been learned (the training score of VALUATION's health pair). Exposure of items is carried by ``Exposure``.

    ``recommendation_id`` and ``rank`` are of the list last emitted; ``cited_recommendation_id`` and ``cited_position`` are what the
    event itself claims, as it came. ``cited_rank`` is where the item truly stood in the list that the event cites; it is absent unless
    that list was sent to this very shopper in the last 7 days (setting ``click_window_s``) and held the item. A wrong position
    does not undo the claim, because storefronts leave out what is sold out; the true one is beside it.

    ``attributed`` says that a recommendation is credited, ``attributed_by`` on what ground:

    - ``cited``: the event cites a list, and the claim holds (browse, click, add_to_cart, purchase);
    - ``listed``: else, the item stood in the list last emitted (click, add_to_cart, purchase);
    - ``clicked``, ``viewed``: else, a purchase follows a credited click on the item within 7 days, or an impression of it that cited
      a list within 1 day (``view_window_s``).

    ``revenue`` is below 0 for a refund, and so is ``margin``: what the catalogue said, when the event came, that these units earn; absent
    where it names no margin, or one in another currency. A refund has the margin that its order line was bought with, if that is among the
    shopper's newest 20.

    ``consent`` false: the shopper agreed to no history; it counts as an event and a test, nothing of it is kept for later ones, and what
    was kept of the shopper before goes.
    ``arm`` is that of the shopper in the experiment that goes on (see ``Recommendations``), absent while there is none. ``experiment``
    tells it from others: it is another one for another salt, or other shares.

    Of what a shopper was sent, some 20 lists of 20 and the last 20 items clicked and viewed are remembered; a claim older than that
    cannot be held. A list's time is that of the newest event that it rests on.
    """

    kind: Literal["outcome"] = "outcome"
    outcome_id: Identifier
    origin: Origin
    shopper: Identifier
    event_id: Identifier
    type: Label
    sku: Sku | None = None
    channel: Label
    category: Label | None = None
    country: Label | None = None
    segment: Label | None = None
    arm: Label | None = None
    experiment: Label | None = None
    consent: bool = True
    occurred_at: AwareDatetime
    recommendation_id: Identifier | None = None
    list_size: Annotated[int, Field(ge=0)] = 0
    rank: Annotated[int, Field(ge=1)] | None = None
    rank_after: Annotated[int, Field(ge=1)] | None = None
    popularity_rank: Annotated[int, Field(ge=1)] | None = None
    quantity: int | None = None
    revenue: Amount | None = None
    margin: TotalAmount | None = None
    currency: Currency | None = None
    cited_recommendation_id: Identifier | None = None
    cited_position: Annotated[int, Field(ge=1)] | None = None
    cited_rank: Annotated[int, Field(ge=1)] | None = None
    attributed: bool = False
    attributed_by: Literal["cited", "listed", "clicked", "viewed"] | None = None
    schema_version: SchemaVersion = SCHEMA_VERSION


class Exposure(Message):
    """The distinct items that one micro-batch put into lists (topic ``outcomes``): what catalogue coverage is made of."""

    kind: Literal["exposure"] = "exposure"
    origin: Origin
    occurred_at: AwareDatetime
    lists: int
    skus: tuple[Sku, ...]
    catalogue_size: int
    encoder: str
    model: str
    schema_version: SchemaVersion = SCHEMA_VERSION


class ItemSale(Message):
    """Units of an item that were bought, net of refunds; in a correction what is added, or taken back where it is negative.

    ``margin`` is what the catalogue said that the product earns, when it was bought; where it is absent (no margin, or in another currency)
    ``revenue`` is what is known.
    """

    quantity: int
    revenue: TotalAmount
    currency: Currency
    margin: TotalAmount | None = None


class ShownItem(Message):
    """One item of a list shown: its ``place``, and what became of it within the window: of all that happened the last of ``ignored``,
    ``clicked``, ``added``, ``bought``. ``label_delay_s`` is from the showing to the first of them that is not ``ignored``. ``category``: as
    the catalogue names it when the record is made.
    """

    sku: Sku
    place: Annotated[int, Field(ge=1)]
    category: Label | None = None
    result: Literal["ignored", "clicked", "added", "bought"]
    label_delay_s: Annotated[int, Field(ge=0)] | None = None
    sales: tuple[ItemSale, ...] = ()


class Resolution(Message):
    """What became of a list that a shopper was shown (topic ``outcomes``, key: the shopper): one record for each, with every item shown.

    What is shown: the items whose impressions cite the list, where the channel sends any (an impression that cites a list which was sent to
    the shopper came within the last ``click_window_s``); else the whole list that stood when the shopper next acted. Shown again in its
    window, or with the same items in another list right after it, it is the same showing. ``shown_at`` is the time of the first impression,
    or when the list was made (where the shopper came back in another visit, when they acted).

    An item counts as taken up by what cites the list, within ``click_window_s`` (7 days) of the showing or of the item's last click in
    it; by an add_to_cart, click or purchase that cites none, where it was clicked in this list last, within ``click_window_s``; or else was
    shown in this list last, within ``view_window_s`` (1 day). Each event speaks for one list at most.

    The record comes once the partition's event-time clock (``watermark``) is past the window: ``view_window_s`` after the showing, or
    ``click_window_s`` after the newest click in the list (``reason`` ``window``); or before that, where more lists were shown to one
    shopper than are followed (20, or 4 KB), or the shopper is let go (``evicted``). What comes later is told by further records, which name
    the one that they correct in ``corrects``: facts older than the watermark, or that cite the list after its view's window (``late``), and
    refunds (``refund``). Their ``items`` hold what the item now came to, and the units and money to be added. ``origin`` is the event
    that showed the list, or the late one.

    ``channel``, ``country`` and ``segment`` are those of the event that showed the list, in a correction too, as far as it names them; what
    was shown when lists were stored without them says none.

    Of an erased shopper, and of one who does not agree to a history, nothing is told any more.
    """

    kind: Literal["resolution"] = "resolution"
    resolution_id: Identifier
    corrects: Identifier | None = None
    reason: Literal["window", "evicted", "late", "refund"]
    origin: Origin
    shopper: Identifier
    recommendation_id: Identifier
    arm: Label | None = None
    channel: Label | None = None
    country: Label | None = None
    segment: Label | None = None
    shown_at: AwareDatetime | None = None
    watermark: AwareDatetime
    label_delay_s: Annotated[int, Field(ge=0)] | None = None
    items: tuple[ShownItem, ...]
    schema_version: SchemaVersion = SCHEMA_VERSION


class Forgotten(Message):
    """These shoppers are to be forgotten (topic ``outcomes``, to every partition): their sessions leave the window that tests are set
    beside, and their accounts of an experiment go. What was counted stays, in sums that name nobody.
    """

    kind: Literal["forgotten"] = "forgotten"
    shoppers: tuple[Identifier, ...]
    schema_version: SchemaVersion = SCHEMA_VERSION


class PanePartial(Message):
    """What one partition has counted in one dimension since it last said so (topic ``valuation.partials``, key ``dimension``).

    ``assets`` maps each asset to its panes, ``"<length_s>:<start_ms>"`` or ``"total"``, and those to the sums to be added; each
    message counts once. The key brings all that a dimension counts to one place, which decides what assets are told apart.
    ``worth``: by pane, what the tests since then were worth in this dimension (``models.valuation.worth.Worth``, as an array).
    ``arms``: by what the sums of each arm of an experiment moved (``models.valuation.arms.ArmSums``, by ``book_of``), in each
    dimension that has a ``ValueRegister``. ``neighbours``: the setting ``value_neighbours`` of the worker that valued it: what was found by
    others is not added up.
    ``watermark``: everything that the partition knew up to then has been said. Dimension ``watermark`` with no assets goes to
    every partition: it moves the windows of dimensions that saw nothing new.
    """

    dimension: Label
    source_partition: int
    watermark: AwareDatetime
    assets: dict[str, dict[str, dict[str, Any]]]
    worth: dict[str, list[Any]] = Field(default_factory=dict)
    arms: dict[str, list[Any]] = Field(default_factory=dict)
    neighbours: Literal["sessions", "embeddings"] = "sessions"
    schema_version: SchemaVersion = SCHEMA_VERSION
