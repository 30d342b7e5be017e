"""The words of an explanation: whole sentences around at most one name, chosen by the source that counts most."""

from __future__ import annotations

from typing import Final

#: Longest name inside a sentence; a product title may have 512 characters.
NAME_LIMIT: Final = 80

#: (before the name, after it); the index is the sentence's code.
SENTENCES: Final[tuple[tuple[str, str], ...]] = (
    ("Similar to ", ""),
    ("Because you viewed ", ""),
    ("Goes with ", " in your basket"),
    ("Often bought together with ", ""),
    ("Popular in ", ""),
    ("Popular right now", ""),
    ("You bought this before", ""),
    ("You viewed this recently", ""),
    ("Matches your recent interests", ""),
    ("You may also like this", ""),
    ("Chosen by the shop", ""),
    ("Matches what you searched for", ""),
    ("Chosen by shoppers like you", ""),
)
SIMILAR_TO, BECAUSE_VIEWED, GOES_WITH_BASKET, BOUGHT_TOGETHER, POPULAR_IN = range(5)
POPULAR_NOW, BOUGHT_BEFORE, VIEWED_BEFORE, MATCHES_INTERESTS, MAY_LIKE, CHOSEN, SEARCHED_FOR, SHOPPERS_LIKE_YOU = range(5, 13)

#: Sentence for the sources ``together`` and ``sessions`` by the type of the item it rests on: browse, click, add_to_cart, purchase.
TOGETHER_BY_TYPE: Final = (BECAUSE_VIEWED, BECAUSE_VIEWED, GOES_WITH_BASKET, BOUGHT_TOGETHER)


def short_name(title: str, otherwise: str) -> str:
    """A title fit for a sentence; ``otherwise`` (the SKU) where there is none.

    Example:
        >>> short_name("Red mug", "a1"), short_name("", "a1"), len(short_name("x" * 500, "a1"))
        ('Red mug', 'a1', 80)

    """
    name = title.strip() or otherwise
    return name if len(name) <= NAME_LIMIT else name[: NAME_LIMIT - 1].rstrip() + "…"
