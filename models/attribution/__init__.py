"""Which events stem from recommendations: what a shopper was sent and took up of late, and what an event's claim is worth against it."""

from models.attribution.credit import Basis, Claim, Credit, judge
from models.attribution.memory import Memory, Touch, Windows, sku_digest

__all__ = ["Basis", "Claim", "Credit", "Memory", "Touch", "Windows", "judge", "sku_digest"]
