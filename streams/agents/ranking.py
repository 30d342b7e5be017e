"""How settings and trained models make a ranker: one way for workers and for the protocols that judge their code."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, NamedTuple

from models.catalog.catalogue import Catalogue
from models.encoder.source import EncoderUnavailableError
from models.factors.model import FactorModel, FactorsError
from models.factors.source import FactorSource, watch_factors
from models.profiles.columns import Trust
from models.ranking import Ranker, Repeats
from models.ranking.fusion import DEFAULTS, Parameters
from models.ranking.trained import RankerFileError, TrainedRanker, watch_ranker
from models.ranking.weights import Weights, WeightsError, watch_weights
from models.retrieval import LiveSessions, TextNeighbours
from models.rules import BusinessRules
from models.search.lexical import LexicalUnavailableError
from models.search.source import QuerySource
from models.watching import WatchedFolder
from streams.runtime.errors import RankingWrong
from streams.settings import Settings

if TYPE_CHECKING:  # torch comes with them, which most workers do without
    from models.encoder.encoder import Encoder
    from models.sequence.source import NamedModel, SequenceSource


def read_weights(settings: Settings) -> Weights | None:
    """The weights that the settings name, if they do. Raises ``WeightsError``."""
    return None if settings.weights is None else Weights.load(settings.weights)


def parameters_of(weights: Weights | None) -> Parameters:
    """What ``weights`` come to; the built-in ones for None."""
    return DEFAULTS if weights is None else weights.parameters


def make_source(settings: Settings, catalogue: Catalogue, named: NamedModel | None) -> SequenceSource | None:
    """``named`` over the products of ``catalogue``; None of None."""
    if named is None:
        return None
    from models.sequence.source import SequenceSource

    return SequenceSource(named, catalogue.table, int(settings.session_gap_s * 1000), lambda: catalogue.encoder, settings.threads)


def make_factor_source(settings: Settings, catalogue: Catalogue, model: FactorModel | None) -> FactorSource | None:
    """``model`` over the products of ``catalogue``; None of None."""
    return None if model is None else FactorSource(model, catalogue.table, settings.threads)


def open_queries(settings: Settings, catalogue: Catalogue, encoder: Encoder | None = None) -> QuerySource | None:
    """Searches over ``catalogue``, which must be empty yet, as the settings ask for; ``encoder`` if it is loaded already.

    Raises ``RankingWrong`` where this Python cannot search, or there is no such encoder.
    """
    if settings.queries == "off":
        return None
    try:
        if settings.queries == "meaning" and encoder is None:
            from models.encoder.encoder import TextEncoder

            encoder = TextEncoder(settings.encoder, device=settings.device, threads=settings.threads)
        return QuerySource(catalogue, int(settings.session_gap_s * 1000), encoder if settings.queries == "meaning" else None)
    except (LexicalUnavailableError, EncoderUnavailableError) as error:
        raise RankingWrong(f"{error}; or leave searches out of lists: --queries off") from error


def make_ranker(
    settings: Settings,
    catalogue: Catalogue,
    sessions: LiveSessions,
    parameters: Parameters,
    *,
    repeats: Repeats | None = None,
    rules: BusinessRules | None = None,
    trained: TrainedRanker | None = None,
    named: NamedModel | None = None,
    trust: Trust | None = None,
    queries: QuerySource | None = None,
    factors: FactorModel | None = None,
) -> Ranker:
    """A ranker by the settings; ``repeats`` in the place of theirs."""
    return Ranker(
        catalogue.table, sessions, TextNeighbours(catalogue.index),
        k=settings.k, repeats=repeats or settings.repeats, diversity=settings.diversity, parameters=parameters, rules=rules,
        trained=trained, sequence=make_source(settings, catalogue, named), trust=trust, queries=queries,
        factors=make_factor_source(settings, catalogue, factors),
        explain_sessions=settings.explain_sessions, salt=settings.experiment_salt,
    )  # fmt: skip


class Models(NamedTuple):
    """What was trained or tuned, under watch; None: the settings name none."""

    weights: WatchedFolder[Weights] | None
    ranker: WatchedFolder[TrainedRanker] | None
    sequence: WatchedFolder[NamedModel] | None
    factors: WatchedFolder[FactorModel] | None


def open_models(settings: Settings, executor: Executor) -> Models:
    """What the settings name. Raises ``RankingWrong`` where it is none."""
    try:
        weights = watch_weights(settings.weights) if settings.weights is not None else None
        if settings.treatment_weights is not None:
            Weights.load(settings.treatment_weights)
        ranker = watch_ranker(settings.ranker) if settings.ranker is not None else None
        factors = watch_factors(settings.factors, executor) if settings.factors is not None else None
    except (RankerFileError, FactorsError, WeightsError) as error:
        raise RankingWrong(str(error)) from error
    if settings.sequence is None:
        return Models(weights, ranker, None, factors)
    from models.sequence.model import SequenceModelError
    from models.sequence.source import watch_sequence

    try:
        return Models(weights, ranker, watch_sequence(settings.sequence, executor), factors)
    except SequenceModelError as error:
        raise RankingWrong(str(error)) from error
