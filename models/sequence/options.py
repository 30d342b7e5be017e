"""How a sequence model is built and trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """Defaults were chosen on the newest sessions of Diginetica's training part.

    ``length``: newest clicks of a session that are read. ``dimensions``, ``layers``, ``heads``: the transformer; its inner layer is four
    times as wide. ``dropout``: inside it; ``item_dropout``: of components of item vectors. ``temperature``: what cosines are divided by.
    ``half_life``: age, in shares of all training sessions, at which a session counts half (0: all count alike). ``negatives``: items
    drawn by their frequency to stand against the right one in each batch, corrected for that (0: all items). ``text_only``: share of
    items in a batch whose learned part is left out, so that text alone places an item that nobody has clicked yet. ``batch``: examples a
    step at most; of few examples fewer, so that an epoch has 200 steps.
    """

    dimensions: int = 128
    layers: int = 2
    heads: int = 2
    length: int = 20
    dropout: float = 0.2
    item_dropout: float = 0.2
    temperature: float = 0.07
    label_smoothing: float = 0.0
    half_life: float = 0.3
    negatives: int = 0
    text_only: float = 0.1
    epochs: int = 8
    batch: int = 2048
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "layers", "heads", "length", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("dropout", "item_dropout", "label_smoothing", "text_only"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in 0 <= x < 1, got {getattr(self, name)}")
        for name in ("temperature", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")
        for name in ("half_life", "negatives", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.dimensions % self.heads:
            raise ValueError(f"dimensions must be a multiple of heads, got {self.dimensions} and {self.heads}")

    def to_dict(self) -> dict[str, Any]:
        """Field by field, for a card."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """From ``to_dict``; fields that this version does not know are passed over."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})
