"""A trained sequence model as it is kept and asked: weights in safetensors, a card beside them, vectors in numpy."""

from __future__ import annotations

import json
from copy import copy
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional

from models.sequence.item_vectors import ItemVectors
from models.sequence.network import PADDING, SequenceNetwork
from models.sequence.options import SequenceOptions

WEIGHTS: Final = "model.safetensors"
CARD: Final = "model.json"
CHECKPOINT: Final = "checkpoint.pt"
_FORMAT: Final = 1


class SequenceModelError(RuntimeError):
    """A model cannot be trained or read. Says why, and what to do."""


class SequenceModel:
    """Unit vectors of items and of sessions, whose inner product is the score.

    ``sessions`` names the training sessions (``training.fingerprint``). Not for two threads at once.
    """

    def __init__(self, network: SequenceNetwork, sessions: str) -> None:
        self.options = network.options
        self.sessions = sessions
        self._network = network.eval()
        with torch.inference_mode():
            table = network.item_table().detach().float()
            self._table = ItemVectors(table.numpy())
            self._vectors = ItemVectors(functional.normalize(table[1:], dim=-1).numpy())

    @classmethod
    def of(cls, network: SequenceNetwork, sessions: str) -> Self:
        """From a network on any device."""
        return cls(network.to("cpu").float(), sessions)

    @property
    def name(self) -> str:
        """What records call it: by its training sessions."""
        return f"sequence-{self.sessions[:8]}"

    @property
    def length(self) -> int:
        """Newest clicks of a session that are read."""
        return self.options.length

    @property
    def temperature(self) -> float:
        """What cosines are divided by."""
        return self.options.temperature

    @property
    def item_vectors(self) -> NDArray[np.float32]:
        """float32[items, d] of the items that it was trained on."""
        return self._vectors.trained

    def vectors_of(self, places: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[m, d] of the items at rows ``places`` [m]."""
        return self._vectors.at(places)

    @property
    def text_dimensions(self) -> int | None:
        """Width of the text vectors that the model was trained with, None: without."""
        return None if self._network.project is None else int(self._network.project.in_features)

    def growing(self) -> Self:
        """The same model, which can be given items that this one does not have."""
        grown = copy(self)
        vars(grown).update(_table=self._table.copy(), _vectors=self._vectors.copy())
        return grown

    def place_items(self, places: NDArray[np.int64], text: NDArray[np.float32]) -> None:
        """Place items that the model was not trained on at rows ``places`` int64[m] behind those it was, by their text alone, ``text``
        float32[m, t], whatever was there. New ones leave no gap. They are not saved.

        Raises ``ValueError`` where the model was trained without texts, or with those of another width.
        """
        if self._network.project is None or text.shape[1:] != (self.text_dimensions,):
            raise ValueError(f"the model places no items by text vectors of shape {text.shape[1:]}")
        with torch.inference_mode():
            placed = self._network.project(torch.from_numpy(np.ascontiguousarray(text, dtype=np.float32))).float()
            self._table.put(places + 1, placed.numpy())
            self._vectors.put(places, functional.normalize(placed, dim=-1).numpy())

    def session_vectors(self, newest: NDArray[np.int32]) -> NDArray[np.float32]:
        """Unit vectors float32[n, d] of n sessions: ``newest`` int32[n, l] rows of the items clicked, newest first, -1 behind.

        Rows that the model does not know are passed over; a session without any it knows gets zeros.
        """
        newest = newest[:, : self.length]
        known = (newest >= 0) & (newest < len(self._vectors))
        # Known ones move to the front, in their order.
        order = np.argsort(~known, axis=1, kind="stable")
        places = np.where(np.take_along_axis(known, order, 1), np.take_along_axis(newest, order, 1).astype(np.int64) + 1, PADDING)
        longest = max(1, int(known.sum(axis=1).max(initial=0)))
        # A table of the rows that are asked about, in which padding, the least place, stays the first.
        asked, among = np.unique(np.append(PADDING, places[:, :longest]), return_inverse=True)
        table = torch.from_numpy(self._table.at(asked))
        with torch.inference_mode():
            vectors: NDArray[np.float32] = self._network.sessions(table, torch.from_numpy(among[1:].reshape(len(places), longest))).numpy()
        return vectors

    @property
    def nbytes(self) -> int:
        """Bytes of weights and item vectors."""
        weights = sum(value.nbytes for value in self._network.state_dict().values())
        return int(weights + self._vectors.nbytes + self._table.nbytes)

    def save(self, folder: Path, card: dict[str, Any] | None = None) -> None:
        """Write weights (half precision) and card; ``card`` adds what the trainer wants to tell. A folder that is read meanwhile has the
        old or the new ones.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self._network.state_dict().items()}
        if self._network.text is not None:
            weights["text"] = self._network.text[1:].half().contiguous()
        items = self._network.learned.num_embeddings - 1
        about = {"format": _FORMAT, "options": self.options.to_dict(), "items": items, "sessions": self.sessions}
        save_file(weights, folder / f"{WEIGHTS}.new", {"card": json.dumps(about)})
        (folder / f"{CARD}.new").write_text(json.dumps((card or {}) | about, indent=2) + "\n", encoding="utf-8")
        for name in (WEIGHTS, CARD):
            (folder / f"{name}.new").replace(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As ``save`` left it. Raises ``SequenceModelError``."""
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            if card["format"] != _FORMAT:
                raise SequenceModelError(f"{folder} holds a model of format {card['format']}; this version reads {_FORMAT}: train it anew")
            with safe_open(str(folder / WEIGHTS), "pt") as file:
                made_for = json.loads(file.metadata()["card"])
            if not made_for.items() <= card.items():
                raise SequenceModelError(f"{folder}: {WEIGHTS} and {CARD} are not of one training; copy both, or train anew")
            weights = {name: value.float() for name, value in load_file(str(folder / WEIGHTS)).items()}
            if not all(bool(values.isfinite().all()) for values in weights.values()):
                raise SequenceModelError(f"{folder} holds a model whose weights are not finite: its training diverged; train it anew")
            network = SequenceNetwork(card["items"], SequenceOptions.of(card["options"]), weights.pop("text", None))
            network.load_state_dict(weights)
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            if isinstance(error, SequenceModelError):
                raise
            raise SequenceModelError(
                f"{folder} holds no sequence model that can be read: {error}; `assay train sequence` makes one"
            ) from error
        return cls(network, card["sessions"])
