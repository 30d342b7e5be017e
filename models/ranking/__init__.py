"""From candidates to a list: fused, filtered, diversified and explained, a micro-batch at a time."""

from models.ranking.lists import COLD_START, EMPTY, ITEM_ONLY, MODEL, PERSONAL, SOURCES, RankedLists
from models.ranking.ranker import Ranker, Repeats
from models.ranking.writing import ListWriter

__all__ = ["COLD_START", "EMPTY", "ITEM_ONLY", "MODEL", "PERSONAL", "SOURCES", "ListWriter", "RankedLists", "Ranker", "Repeats"]
