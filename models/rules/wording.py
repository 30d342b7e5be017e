"""Business rules in sentences, one a rule, for whoever wants to know what a file means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from models.rules.file import UNKNOWN_REGION, Bury, BusinessRules, Condition, ExposureCap, Pin

#: Whether a rule holds at a time: not yet, now, or no longer.
Standing = Literal["to come", "in force", "over"]


class Sentence(NamedTuple):
    """One rule: ``kind`` as in the file, ``name`` empty where it has none, ``standing`` at the time that was asked about."""

    kind: str
    name: str
    text: str
    standing: Standing


def describe(rules: BusinessRules, now_ms: int) -> list[Sentence]:
    """What each rule means, in the order of the file's kinds: pin, bury, exclude, exposure_caps.

    Example:
        >>> from models.rules.reading import read_rules
        >>> (sentence,) = describe(read_rules(b"exclude: [{brands: Acme, stock_below: 3, for: {regions: [GB]}}]"), 0)
        >>> sentence.text
        'no product of brand Acme with a stock below 3, for shoppers in GB'

    """
    sentences = [_sentence("pin", rule, f"{rule.sku} at place {rule.position}", now_ms) for rule in rules.pin]
    sentences += [_sentence("bury", rule, _buried(rule), now_ms) for rule in rules.bury]
    sentences += [_sentence("exclude", rule, f"no {_products(rule)}", now_ms) for rule in rules.exclude]
    sentences += [_sentence("exposure_caps", rule, _capped(rule), now_ms) for rule in rules.exposure_caps]
    return sentences


def _sentence(kind: str, rule: Pin | Condition | ExposureCap, text: str, now_ms: int) -> Sentence:
    parts = [text]
    audience = rule.audience
    if audience is not None:
        whom = []
        known = [region for region in audience.regions if region.casefold() != UNKNOWN_REGION]
        if known:
            whom.append(f"in {_any(known)}")
        if len(known) < len(audience.regions):
            whom.append("of no known region")
        about = f" looking at {_any(audience.categories)}" if audience.categories else ""
        parts.append(f"for shoppers {' or '.join(whom)}".rstrip() + about)
    if rule.since is not None:
        parts.append(f"from {rule.since.isoformat()}")
    if rule.until is not None:
        parts.append(f"until {rule.until.isoformat()}")
    start, end = rule.span_ms
    standing: Standing = "to come" if now_ms < start else "in force" if now_ms < end else "over"
    return Sentence(kind, rule.name or "", ", ".join(parts), standing)


def _buried(rule: Bury) -> str:
    return f"any {_products(rule)} {'behind all others' if rule.to_end else f'at {rule.factor:g} times the score'}"


def _capped(rule: ExposureCap) -> str:
    what = f"one {rule.per}"
    if rule.only:
        what = f"each of {_any(rule.only)}" if len(rule.only) > 1 else rule.only[0]
    if rule.level is not None:
        what += f" (to level {rule.level} of the path)"
    limits = [] if rule.at_most is None else [f"{rule.at_most} item{'' if rule.at_most == 1 else 's'}"]
    if rule.share is not None:
        limits.append(f"{(rule.share * 100).normalize():f} % of the places")
    return f"at most {' and at most '.join(limits)} of {what} in a list"


def _products(rule: Condition) -> str:
    parts = [f"product {_any(rule.skus)}" if rule.skus else "product"]
    if rule.categories:
        parts.append(f"in category {_any(rule.categories)}")
    if rule.brands:
        parts.append(f"of brand {_any(rule.brands)}")
    if rule.price_from is not None:
        parts.append(f"with a price of at least {rule.price_from}")
    if rule.price_below is not None:
        parts.append(f"{'and' if rule.price_from is not None else 'with a price'} below {rule.price_below}")
    if rule.currency is not None:
        parts.append(f"priced in {rule.currency}")
    if rule.stock_below is not None:
        parts.append(f"with a stock below {rule.stock_below}")
    return " ".join(parts)


def _any(names: Sequence[str]) -> str:
    return " or ".join(names)
