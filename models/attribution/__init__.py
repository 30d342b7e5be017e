"""Which events stem from recommendations: what a shopper was sent and took up of late, what an event's claim is worth against it
(``memory``, ``credit``), and what became of each list that was shown (``shown``, ``following``).
"""

from models.attribution.credit import Basis, Claim, Credit, judge
from models.attribution.following import Correction, Fact, Follower, Resolved
from models.attribution.memory import Memory, Touch, Windows, sku_digest
from models.attribution.shown import Sale, ShownList, ShownLists, Source, order_digest

__all__ = [
    "Basis",
    "Claim",
    "Correction",
    "Credit",
    "Fact",
    "Follower",
    "Memory",
    "Resolved",
    "Sale",
    "ShownList",
    "ShownLists",
    "Source",
    "Touch",
    "Windows",
    "judge",
    "order_digest",
    "sku_digest",
]
