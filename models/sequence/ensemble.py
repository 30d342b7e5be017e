"""Several sequence models of the same sessions as one: they err in different places, so the mean of what they say errs less."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.sequence.model import CARD, WEIGHTS, SequenceModel, SequenceModelError

#: Folders of all members but the first, which lies in the ensemble's own: ``member-2``, ``member-3`` and so on.
MEMBER: Final = "member-"


class SequenceEnsemble:
    """The mean of the members' scores (cosines over their temperatures), asked like one model.

    Vectors are those of the members end to end, each part scaled by the square root of its member's share of the inverse temperatures: they
    are of unit length again, and one inner product is the mean times ``temperature``. So one search finds the best, at the cost of a model
    as wide as all together. A single member is left as it is. ``item_vectors`` float32[items, d]. Not for two threads at once.

    Deep ensembles: Lakshminarayanan et al., NIPS 2017; the mean of logits is the geometric mean of the members' probabilities.
    """

    def __init__(self, members: Sequence[SequenceModel]) -> None:
        """Raises ``SequenceModelError`` where they are not of one training set."""
        if not members or len({(member.sessions, len(member.item_vectors)) for member in members}) > 1:
            raise SequenceModelError(f"{len(members)} models that were not trained on the same sessions make no ensemble")
        self._members = list(members)
        self.sessions = members[0].sessions
        self.length = max(member.length for member in members)
        inverse = np.array([1.0 / member.temperature for member in members])
        self.temperature = float(len(members) / inverse.sum())
        self._scales = np.sqrt(inverse / inverse.sum()).astype(np.float32)
        self.item_vectors = self._joined([member.item_vectors for member in members])

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of ``folder`` and those members beside it that were trained on the same sessions. Raises ``SequenceModelError``."""
        first = SequenceModel.load(folder)
        others = models_of(folder, first.sessions, f"{MEMBER}*")
        return cls([first, *map(SequenceModel.load, others)])

    def __len__(self) -> int:
        """Members."""
        return len(self._members)

    @property
    def name(self) -> str:
        """What records call it: by its training sessions and how many members it has."""
        return self._members[0].name + (f"x{len(self)}" if len(self) > 1 else "")

    def vectors_of(self, places: NDArray[np.integer]) -> NDArray[np.float32]:
        """float32[m, d] of the items at rows ``places`` [m]."""
        return self._joined([member.vectors_of(places) for member in self._members])

    @property
    def text_dimensions(self) -> int | None:
        """Width of the text vectors that all members were trained with, None: some were trained without, or with others."""
        widths = {member.text_dimensions for member in self._members}
        return widths.pop() if len(widths) == 1 else None

    def growing(self) -> Self:
        """The same members, which can be given items that these do not have."""
        grown = copy(self)
        vars(grown).update(_members=[member.growing() for member in self._members])
        return grown

    def place_items(self, places: NDArray[np.int64], text: NDArray[np.float32]) -> None:
        """As of ``SequenceModel``, in all members."""
        if self.text_dimensions is None:
            raise ValueError("the members place no items by text vectors")
        for member in self._members:
            member.place_items(places, text)

    def session_vectors(self, newest: NDArray[np.int32]) -> NDArray[np.float32]:
        """Unit vectors float32[n, d] of n sessions: ``newest`` int32[n, l] rows of the items clicked, newest first, -1 behind.

        Rows that the models do not know are passed over; a session without any they know gets zeros.
        """
        return self._joined([member.session_vectors(newest) for member in self._members])

    @property
    def nbytes(self) -> int:
        """Bytes of the members and, of several, of their joined vectors."""
        return sum(member.nbytes for member in self._members) + (self.item_vectors.nbytes if len(self) > 1 else 0)

    def _joined(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([scale * part for scale, part in zip(self._scales, parts, strict=True)], axis=1)


def models_of(folder: Path, sessions: str, within: str = "**") -> list[Path]:
    """Folders that hold a model of the training sessions named ``sessions``, in the order of their paths, of copies the first: those of
    ``folder`` that match ``within``, by default it and all in it. Raises ``SequenceModelError``.
    """
    found: dict[bytes, Path] = {}
    for place in sorted(card.parent for card in folder.glob(f"{within}/{CARD}")):
        if f'"{sessions}"' in (place / CARD).read_text(encoding="utf-8"):
            # A model that is there twice would have two votes.
            try:
                with (place / WEIGHTS).open("rb") as file:
                    found.setdefault(hashlib.file_digest(file, "sha256").digest(), place)
            except OSError as error:
                raise SequenceModelError(f"{place} cannot be read: {error}; delete it, or train it anew") from error
    return list(found.values())
