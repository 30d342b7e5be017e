"""Item factors as they are kept and asked: a shopper's vector is folded in from the items of the moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.compilation import compiled
from models.files import write_whole

FACTORS: Final = "factors.safetensors"
CARD: Final = "factors.json"
_FORMAT: Final = 1
#: Steps of conjugate gradients at most; each takes in one more direction of the shopper's items. [tests/models/factors/test_model.py]
_STEPS: Final = 12


class FactorsError(RuntimeError):
    """Factors cannot be trained or read. Says why, and what to do."""


class FactorModel:
    """``vectors`` float32[m, d] of the items ``skus``, learned by alternating least squares with ``regularization`` and ``alpha``
    (``models.factors.interactions``). ``name`` goes into the records that it had a part in.
    """

    def __init__(self, vectors: NDArray[np.float32], skus: Sequence[str], regularization: float, alpha: float) -> None:
        """Raises ``FactorsError`` where there is not one SKU a vector, or a vector is not finite."""
        if vectors.ndim != 2 or len(vectors) != len(skus) or not np.isfinite(vectors).all():
            raise FactorsError(f"factors of shape {vectors.shape} do not fit {len(skus)} SKUs, or are not finite")
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.skus = skus
        self.regularization = regularization
        self.alpha = alpha
        self.name = f"factors-{xxhash.xxh3_64_hexdigest(self.vectors.tobytes())[:8]}"
        gram = self.vectors.T @ self.vectors
        self._system = np.ascontiguousarray(gram + regularization * np.eye(len(gram), dtype=np.float32), dtype=np.float32)

    def fold_in(self, starts: NDArray[np.int64], items: NDArray[np.int32], confidences: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32[n, d] of n shoppers: shopper i has the items ``items[starts[i] : starts[i + 1]]`` int32 with ``confidences`` float32.

        The x that minimises the sum over all items of c (p - x y)^2 plus the regularisation, where p = 1 and c is the confidence for the
        shopper's items and p = 0, c = 1 for all others: the user's half of the training (Hu, Koren and Volinsky, ICDM 2008, equation 4),
        by conjugate gradients (Takács, Pilászy and Tikk, RecSys 2011).
        """
        users = np.zeros((len(starts) - 1, self.vectors.shape[1]), dtype=np.float32)
        _fold_in(self._system, self.vectors, starts, items, confidences, users)
        return users

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors."""
        return int(self.vectors.nbytes + self._system.nbytes)

    def save(self, folder: Path, card: dict[str, Any]) -> None:
        """Write vectors, then the card, which makes them valid; ``card`` adds what the trainer wants to tell."""
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{FACTORS}.new"
        save_file({"vectors": self.vectors}, unfinished)
        unfinished.replace(folder / FACTORS)
        document = card | {
            "format": _FORMAT, "name": self.name, "regularization": self.regularization, "alpha": self.alpha, "skus": list(self.skus),
        }  # fmt: skip
        write_whole(folder / CARD, json.dumps(document, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """As ``save`` wrote it. Raises ``FactorsError`` that says what to do."""
        again = f"train them anew: assay train factors --out {folder}"
        try:
            card: Any = json.loads((folder / CARD).read_text(encoding="utf-8"))
            vectors = load_file(folder / FACTORS)["vectors"]
            if card["format"] != _FORMAT:
                raise FactorsError(f"{folder} holds factors of format {card['format']}, this version reads {_FORMAT}; {again}")
            model = cls(vectors, [str(sku) for sku in card["skus"]], float(card["regularization"]), float(card["alpha"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise FactorsError(f"{folder} holds no factors that can be read ({error}); {again}") from None
        if model.name != card.get("name"):
            raise FactorsError(f"{folder}: {FACTORS} is not the file that {CARD} speaks of; copy both, or {again}")
        return model


@compiled
def _fold_in(system, vectors, starts, items, confidences, users):  # type: ignore[no-untyped-def]
    """Conjugate gradients from 0 on (system + sum (c - 1) y y^T) x = sum c y, for each row of ``users``."""
    width = vectors.shape[1]
    residual = np.empty(width, np.float32)
    direction = np.empty(width, np.float32)
    image = np.empty(width, np.float32)
    for i in range(len(users)):
        residual[:] = 0.0
        for j in range(starts[i], starts[i + 1]):
            for d in range(width):
                residual[d] += confidences[j] * vectors[items[j], d]
        square = np.float32(0.0)
        for d in range(width):
            direction[d] = residual[d]
            square += residual[d] * residual[d]
        least = np.float32(1e-10) * square
        for _ in range(_STEPS):
            if square <= least:
                break
            for d in range(width):
                total = np.float32(0.0)
                for e in range(width):
                    total += system[d, e] * direction[e]
                image[d] = total
            for j in range(starts[i], starts[i + 1]):
                along = np.float32(0.0)
                for d in range(width):
                    along += vectors[items[j], d] * direction[d]
                along *= confidences[j] - np.float32(1.0)
                for d in range(width):
                    image[d] += along * vectors[items[j], d]
            curvature = np.float32(0.0)
            for d in range(width):
                curvature += direction[d] * image[d]
            step = square / curvature
            former = square
            square = np.float32(0.0)
            for d in range(width):
                users[i, d] += step * direction[d]
                residual[d] -= step * image[d]
                square += residual[d] * residual[d]
            ratio = square / former
            for d in range(width):
                direction[d] = residual[d] + ratio * direction[d]
