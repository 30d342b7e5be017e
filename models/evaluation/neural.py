"""The sequence model as a method: trained once for each set of sessions, kept in a folder, and found again by what it was trained on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import faiss
import numpy as np
from numpy.typing import NDArray

from models.compilation import compiled
from models.evaluation.dataset import Sequences, split_tail
from models.evaluation.methods import Source
from models.sequence import Epoch, SequenceEnsemble, SequenceModel, SequenceModelError, SequenceOptions, train
from models.sequence.ensemble import MEMBER, models_of
from models.sequence.model import CARD
from models.sequence.training import fingerprint

#: Newest share of the sessions on which the number of epochs is chosen, and on which a learned ranker learns.
HELD_OUT: Final = 0.05
HELD_OUT_FOLDER: Final = "held-out"


def train_members(
    sessions: Sequences,
    items: int,
    folder: Path,
    options: SequenceOptions,
    device: str,
    members: int = 1,
    progress: Callable[[str, Epoch], None] = lambda part, epoch: None,
    text: NDArray[np.float32] | None = None,
) -> tuple[SequenceEnsemble, SequenceEnsemble]:
    """``members`` pairs as of ``train_pair``, with seeds that follow each other: (those of all but the newest sessions, those of all). The
    first is kept in ``folder``, the others in ``folder`` / ``member-2`` and so on. Raises ``SequenceModelError`` where there are more.
    """
    folders = [folder, *(folder / f"{MEMBER}{number}" for number in range(2, members + 1))]
    if others := sorted(set(folder.glob(f"{MEMBER}*")) - set(folders)):
        raise SequenceModelError(f"{others[0]} is of a training with more members; delete it, or choose another folder")
    pairs = []
    for number, place in enumerate(folders):
        prefix = f"member {number + 1}, " if members > 1 else ""
        pairs.append(
            train_pair(
                sessions, items, place, replace(options, seed=options.seed + number), device,
                partial(_told, progress, prefix), text,
            )
        )  # fmt: skip
    return SequenceEnsemble([first for first, _ in pairs]), SequenceEnsemble([whole for _, whole in pairs])


def _told(progress: Callable[[str, Epoch], None], prefix: str, part: str, epoch: Epoch) -> None:
    progress(f"{prefix}{part}", epoch)


def train_pair(
    sessions: Sequences,
    items: int,
    folder: Path,
    options: SequenceOptions,
    device: str,
    progress: Callable[[str, Epoch], None] = lambda part, epoch: None,
    text: NDArray[np.float32] | None = None,
) -> tuple[SequenceModel, SequenceModel]:
    """(a model of all but the newest ``HELD_OUT`` of the sessions, with the number of epochs that does best on those; one of all sessions
    after as many epochs). ``text`` float32[items, t]: unit text vectors, zeros where an item has none. Kept under ``folder`` as
    ``held-out`` and in ``folder`` itself; goes on where it was cut off.
    """
    head, prefixes, _ = split_tail(sessions, HELD_OUT)
    tail = sessions.slice(len(head), len(sessions))
    judged = (tail.starts, tail.rows) if len(prefixes) else None
    first, history = train(
        head.starts, head.rows, items, options, device=device, held_out=judged, folder=folder / HELD_OUT_FOLDER, text=text,
        progress=lambda epoch: progress("held-out", epoch),
    )  # fmt: skip
    best = max(history, key=lambda epoch: epoch.mrr) if judged is not None else history[-1]
    card = {"device": device, "seconds": round(sum(epoch.seconds for epoch in history), 1), "epochs": best.number}
    first.save(folder / HELD_OUT_FOLDER, card | {"hit_rate_at_20": round(best.hit_rate, 4), "mrr_at_20": round(best.mrr, 4)})
    whole, history = train(
        sessions.starts, sessions.rows, items, options, device=device, folder=folder, epochs=best.number, text=text,
        progress=lambda epoch: progress("all", epoch),
    )  # fmt: skip
    whole.save(folder, card | {"seconds": round(sum(epoch.seconds for epoch in history), 1)})
    return first, whole


class SequenceMethod(Source):
    """Inner products of the session's vector with those of all items, by an exact FAISS search. Several models of the same sessions are
    asked as one (``SequenceEnsemble``).
    """

    name = "sequence"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        options: SequenceOptions | None = None,
        device: str = "cpu",
        progress: Callable[[str, Epoch], None] = lambda part, epoch: None,
    ) -> None:
        """``folder``: where trained models are looked for and kept (None: a temporary one)."""
        self._folder = folder
        self._options = options or SequenceOptions()
        self._device = device
        self._progress = progress
        self._models: dict[str, SequenceEnsemble] = {}
        self._seconds: dict[str, float] = {}
        self.model: SequenceEnsemble | None = None

    def warm_up(self, sessions: Sequences, items: int, prefixes: Sequences) -> None:
        """Nothing is compiled, and training on one session is impossible."""

    def learn(self, sessions: Sequences, items: int) -> None:
        """Take the models of these sessions that were trained before; train one (and one of all but the newest) if there is none."""
        wanted = fingerprint(sessions.starts, sessions.rows)
        if wanted not in self._models and self._folder is not None and (found := models_of(self._folder, wanted)):
            self._models[wanted] = SequenceEnsemble([SequenceModel.load(place) for place in found])
            self._seconds[wanted] = sum(map(_trained_seconds, found))
        if wanted not in self._models:
            with tempfile.TemporaryDirectory() as scratch:
                folder = self._folder / wanted if self._folder is not None else Path(scratch)
                for model in train_pair(sessions, items, folder, self._options, self._device, self._progress):
                    self._models[model.sessions] = SequenceEnsemble([model])
        self.model = self._models[wanted]
        self._index = faiss.IndexFlatIP(self.model.item_vectors.shape[1])
        self._index.add(self.model.item_vectors)

    def session_vectors(self, prefixes: Sequences) -> NDArray[np.float32]:
        """Unit vectors float32[n, d]."""
        assert self.model is not None
        newest = np.full((len(prefixes), self.model.length), -1, dtype=np.int32)
        _newest_first(prefixes.starts, prefixes.rows, newest)
        return self.model.session_vectors(newest)

    def candidates(self, prefixes: Sequences, limit: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The nearest items; score: cosine over the temperature, exponentiated against the best."""
        assert self.model is not None
        cosines, rows = self._index.search(self.session_vectors(prefixes), min(limit, self._index.ntotal))
        scores = np.exp((cosines - cosines[:, :1]) / self.model.temperature)
        missing = ((0, 0), (0, limit - rows.shape[1]))
        return np.pad(rows.astype(np.int32), missing, constant_values=-1), np.pad(scores.astype(np.float32), missing)

    @property
    def trained_seconds(self) -> float:
        """Of all members, and of those of all but the newest sessions, which chose the number of epochs; as far as cards tell."""
        return 0.0 if self.model is None else self._seconds.get(self.model.sessions, 0.0)

    @property
    def nbytes(self) -> int:
        """Weights and vectors, and the index."""
        assert self.model is not None
        return self.model.nbytes + self.model.item_vectors.nbytes


def _trained_seconds(folder: Path) -> float:
    seconds = 0.0
    for card in (folder / CARD, folder / HELD_OUT_FOLDER / CARD):
        if card.exists():
            try:
                seconds += json.loads(card.read_text(encoding="utf-8")).get("seconds", 0.0)
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise SequenceModelError(f"{card} cannot be read: {error}; delete its folder, or train anew") from error
    return seconds


@compiled
def _newest_first(starts, rows, newest):  # type: ignore[no-untyped-def]
    for i in range(len(newest)):
        for j in range(min(newest.shape[1], starts[i + 1] - starts[i])):
            newest[i, j] = rows[starts[i + 1] - 1 - j]
