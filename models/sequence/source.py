"""A trained sequence model as a source of candidates: what its transformer expects after the items of this visit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from models.catalog.items import ItemTable
from models.compilation import compiled
from models.files import write_whole
from models.profiles.columns import ProfileColumns
from models.retrieval.session_votes import Votes, no_votes
from models.retrieval.trained_source import TrainedSource
from models.sequence.ensemble import SequenceEnsemble
from models.sequence.model import CARD, SequenceModel, SequenceModelError
from models.watching import WatchedFolder

#: SKUs by row of the model's items.
NAMES: Final = "items.json"


def save_names(folder: Path, names: Sequence[str], encoder: str | None = None) -> None:
    """Beside a model, after it: the SKUs of its items, by row, and the encoder of the texts that it was trained with."""
    sessions = json.loads((folder / CARD).read_text(encoding="utf-8"))["sessions"]
    write_whole(folder / NAMES, json.dumps({"encoder": encoder, "sessions": sessions, "skus": list(names)}))


class NamedModel:
    """A sequence model, or several as one, that knows its items by SKU. ``name`` goes into the records that it had a part in."""

    def __init__(self, model: SequenceModel | SequenceEnsemble, skus: Sequence[str], encoder: str | None = None) -> None:
        """Raises ``SequenceModelError`` where there is not one SKU an item."""
        if len(skus) != len(model.item_vectors):
            raise SequenceModelError(f"{len(model.item_vectors)} items, but {len(skus)} SKUs: the files are not of one training")
        self.model = model
        self.skus = skus
        self.encoder = encoder
        self.name = model.name

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Model (with its other members, if any) and SKUs of a folder. Raises ``SequenceModelError`` that says what to do."""
        model = SequenceEnsemble.load(folder)
        try:
            names: Any = json.loads((folder / NAMES).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SequenceModelError(
                f"{folder / NAMES} cannot be read ({error}); train anew: assay train sequence --out {folder}"
            ) from None
        skus = names.get("skus") if isinstance(names, dict) else None
        if not isinstance(skus, list) or not all(isinstance(sku, str) for sku in skus):
            raise SequenceModelError(f"{folder / NAMES} holds no list of SKUs; train anew: assay train sequence --out {folder}")
        if names.get("sessions", model.sessions) != model.sessions:
            raise SequenceModelError(f"{folder}: {NAMES} and the model are not of one training; copy both, or train anew")
        return cls(model, skus, names.get("encoder"))


def watch_sequence(folder: Path, executor: Executor | None = None) -> WatchedFolder[NamedModel]:
    """The model of ``folder``, and those that come after it. Raises ``SequenceModelError`` if there is none to begin with."""
    return WatchedFolder(folder, NAMES, NamedModel.load, SequenceModelError, executor)


class SequenceSource(TrainedSource):
    """Nearest items of ``named`` for each shopper's present visit, over the products of ``items`` that may be listed.

    A product that the model was not trained on takes part while it has a text vector, by its newest one, where the model was trained with
    texts of the same ``encoder``; others wait for the next training. A pause of ``gap_ms`` parts a visit from the one before.
    """

    def __init__(
        self, named: NamedModel, items: ItemTable, gap_ms: int, encoder: Callable[[], str | None] = lambda: None, threads: int = 1
    ) -> None:
        """``encoder`` says which one made the vectors of ``items``."""
        super().__init__(named.name, items, named.skus, named.model.item_vectors.shape[1], threads)
        # Items that it will be given are this source's own.
        self._model = named.model.growing()
        #: The places of rows that were given one by their text; each keeps its own, though it may have no text for a while.
        self._adopted: dict[int, int] = {}
        self._gap_ms = gap_ms
        self._encoders = (named.encoder, encoder)

    def find(self, columns: ProfileColumns, limit: int) -> Votes:
        """The best ``limit`` of each of n shoppers; score: cosine over the model's temperature, exponentiated against the best."""
        self._refresh()
        newest = np.full((len(columns), self._model.length), -1, dtype=np.int32)
        _this_visit(columns.recent_start, columns.recent_row, columns.recent_at, self._gap_ms, self._place, newest)
        votes = no_votes(len(columns), limit)
        asked = np.flatnonzero((newest >= 0).any(axis=1))
        if not len(asked) or not len(self._index):
            return votes
        cosines, rows = self._index.search(self._model.session_vectors(newest[asked]), limit)
        found = rows >= 0
        scores = np.exp((np.where(found, cosines, -np.inf) - cosines[:, :1]) / self._model.temperature)
        votes.rows[asked] = rows
        votes.scores[asked] = scores
        votes.sizes[asked] = found.sum(axis=1)
        return votes

    def _vectors_of(self, places: NDArray[np.int32]) -> NDArray[np.float32]:
        return self._model.vectors_of(places)

    def _adopt(self, strangers: Sequence[int]) -> None:
        """Those with a text vector are placed by it, where it is of the encoder that the model was trained with."""
        items = self._items
        told = [row for row in strangers if items.has_vector[row]]
        trained_with, encoder = self._encoders
        if not told or trained_with is None or trained_with != encoder() or self._model.text_dimensions != items.dimensions:
            return
        trained = len(self._model.item_vectors)
        places = np.array([self._adopted.setdefault(row, trained + len(self._adopted)) for row in told], dtype=np.int64)
        self._model.place_items(places, items.vectors[told])
        self._place[told] = places


@compiled
def _this_visit(start, row, at, gap_ms, place, newest):  # type: ignore[no-untyped-def]
    """Places of the items since the last pause, newest first; those without one are left out."""
    for i in range(len(newest)):
        count = 0
        for j in range(start[i + 1] - 1, start[i] - 1, -1):
            if j + 1 < start[i + 1] and at[j + 1] - at[j] > gap_ms:
                break
            if row[j] >= 0 and place[row[j]] >= 0:
                newest[i, count] = place[row[j]]
                count += 1
                if count == newest.shape[1]:
                    break
