"""Where candidates come from: items bought or seen together, text neighbours, what is popular now, and the shopper's own history."""

from models.retrieval.cooccurrence import Cooccurrence, Neighbours
from models.retrieval.popularity import Popularity, TopLists
from models.retrieval.session_sources import Source
from models.retrieval.sessions import LiveSessions, SessionItems
from models.retrieval.similar import TextNeighbours

__all__ = ["Cooccurrence", "LiveSessions", "Neighbours", "Popularity", "SessionItems", "Source", "TextNeighbours", "TopLists"]
