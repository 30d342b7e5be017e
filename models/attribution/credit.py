"""Whether an event stems from a recommendation, and what says so."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from models.attribution.memory import Memory, Touch, Windows, list_digest, seconds, sku_digest

#: What an attribution rests on: the list that the event cites, the list last sent, or an earlier click or view in a list.
Basis = Literal["cited", "listed", "clicked", "viewed"]

_CREDITED: Final = frozenset(("browse", "click", "add_to_cart", "purchase"))


class Claim(NamedTuple):
    """What an event says of itself, and where its item stood in the list last sent (id and place from 1, or None).

    ``cited`` is the id of the list that it names.
    """

    kind: str
    sku: str
    at_ms: int
    cited: str | None
    newest: str
    rank: int | None


class Credit(NamedTuple):
    """``place``: of the item in the list that the event cites, None where it cites none or the claim does not hold."""

    place: int | None = None
    basis: Basis | None = None


def judge(memory: Memory, claim: Claim, windows: Windows) -> tuple[Credit, Memory]:
    """What is due to recommendations for one event, and the memory after it.

    - A citation holds if that list was sent to this shopper, held the item, and is at most ``windows.click_s`` old (or the item
      was taken up in it within that time). An id proves nothing by itself: anybody can make one up.
    - An event that cites nothing, or whose citation does not hold, is credited if its item stood in the list last sent. A browse
      is not: a product page is reached in many ways, and a storefront that knows better says so.
    - A purchase is credited also within ``windows.click_s`` of a click on its item in a list, or ``windows.view_s`` of a view.

    A click is remembered when it is credited, a browse or add_to_cart when its citation holds, a view (an impression) likewise.
    """
    place = None
    at_s = seconds(claim.at_ms)
    if claim.cited is not None:
        place = memory.place(claim.cited, claim.sku, at_s - windows.click_s)
    basis = _basis(memory, claim, place, at_s, windows)
    if claim.kind == "impression":
        if place is not None:
            memory = memory.viewed(Touch(list_digest(claim.cited or ""), at_s, sku_digest(claim.sku), place))
    elif claim.kind != "purchase" and place is not None and basis == "cited":
        memory = memory.clicked(Touch(list_digest(claim.cited or ""), at_s, sku_digest(claim.sku), place))
    elif claim.kind == "click" and claim.rank is not None:
        memory = memory.clicked(Touch(list_digest(claim.newest), at_s, sku_digest(claim.sku), claim.rank))
    return Credit(place, basis), memory


def _basis(memory: Memory, claim: Claim, place: int | None, at_s: int, windows: Windows) -> Basis | None:
    if claim.kind not in _CREDITED:
        return None
    if place is not None:
        return "cited"
    if claim.rank is not None and claim.kind != "browse":
        return "listed"
    if claim.kind == "purchase":
        if memory.was_clicked(claim.sku, at_s - windows.click_s):
            return "clicked"
        if memory.was_viewed(claim.sku, at_s - windows.view_s):
            return "viewed"
    return None
