"""Training: every prefix of every session and what came next, on CPU or GPU, epoch by epoch, resumable."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.sequence.model import CHECKPOINT, SequenceModel, SequenceModelError
from models.sequence.network import PADDING, SequenceNetwork
from models.sequence.options import SequenceOptions

CUTOFF: Final = 20
#: Share of all steps in which the learning rate rises.
_WARM: Final = 0.1
#: Steps that an epoch has, if there are examples for it, and the smallest batch.
_STEPS: Final = 200
_SMALLEST: Final = 16
#: Sum of a batch's weights, of which the newest example's is 1, below which the batch teaches less, and nothing where all of them vanish.
_LEAST_WEIGHT: Final = 1e-6
#: Prefixes ranked at once in a check.
_CHECKED: Final = 2_048


@dataclass(frozen=True, slots=True)
class Epoch:
    """``number`` from 1; ``loss``: cross-entropy, nats; rates at 20, 0..1, on the prefixes held out (NaN: none were)."""

    number: int
    loss: float
    hit_rate: float
    mrr: float
    seconds: float


def fingerprint(*arrays: NDArray[Any]) -> str:
    """Tells training sessions (their starts and rows), or texts, apart: 16 hex digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def train(
    starts: NDArray[np.int64],
    rows: NDArray[np.int32],
    items: int,
    options: SequenceOptions,
    *,
    device: str = "cpu",
    text: NDArray[np.float32] | None = None,
    held_out: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None,
    folder: Path | None = None,
    epochs: int | None = None,
    progress: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[SequenceModel, list[Epoch]]:
    """A model of n sessions, oldest first: session i is ``rows[starts[i] : starts[i + 1]]``, rows below ``items``.

    ``held_out``: sessions of the same form to judge each epoch on; the epoch with the best MRR at 20 is the one returned. Without them
    the last one is. ``text`` float32[items, t]: unit text vectors or zeros. ``folder``: a checkpoint is kept there after every epoch, and
    training goes on from it if it is of the same sessions, texts and options. ``epochs``: stop after so many, on the schedule of
    ``options.epochs``. Mixed precision (bfloat16) on a GPU. Raises ``SequenceModelError`` for a checkpoint of something else, and where the
    training diverges; an epoch whose loss or weights are not finite is not kept.
    """
    trainer = _Trainer(starts, rows, items, options, device, text)
    history = trainer.resume(folder) if folder is not None else []
    judged = _Examples(*held_out, options.length, device) if held_out is not None else None
    best = max(history, key=lambda epoch: epoch.mrr, default=None) if judged is not None else None
    kept = trainer.best_state if best is not None else None
    for number in range(len(history) + 1, (epochs or options.epochs) + 1):
        began = time.perf_counter()
        loss = trainer.epoch(number)
        hit_rate, mrr = trainer.check(judged) if judged is not None else (math.nan, math.nan)
        epoch = Epoch(number, loss, hit_rate, mrr, time.perf_counter() - began)
        history.append(epoch)
        if judged is None or best is None or mrr > best.mrr:
            best, kept = epoch, trainer.state()
        if folder is not None:
            trainer.keep(folder, history, kept)
        progress(epoch)
    if kept is not None:
        trainer.network.load_state_dict(kept)
    trainer.clear_unseen()
    return SequenceModel.of(trainer.network, fingerprint(starts, rows)), history


class _Examples:
    """Prefixes and targets, on the device: example e ends before flat position ``targets[e]`` of a session that begins at ``begins[e]``."""

    def __init__(self, starts: NDArray[np.int64], rows: NDArray[np.int32], length: int, device: str) -> None:
        sizes = np.diff(starts)
        positions = np.arange(starts[0], starts[-1])
        begins = np.repeat(starts[:-1], sizes)
        follows = positions > begins
        self.session = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)[follows]).to(device)
        self.targets = torch.from_numpy(positions[follows]).to(device)
        self.begins = torch.from_numpy(begins[follows]).to(device)
        self.places = torch.from_numpy(rows.astype(np.int64) + 1).to(device)
        self._back = torch.arange(1, length + 1, device=device)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """(places int64[n, l] newest first, target places int64[n]) of examples ``chosen`` int64[n]."""
        targets, begins = self.targets[chosen], self.begins[chosen]
        at = targets[:, None] - self._back
        places = torch.where(at >= begins[:, None], self.places[at.clamp(min=0)], PADDING)
        return places, self.places[targets]


class _Trainer:
    def __init__(
        self,
        starts: NDArray[np.int64],
        rows: NDArray[np.int32],
        items: int,
        options: SequenceOptions,
        device: str,
        text: NDArray[np.float32] | None,
    ) -> None:
        torch.manual_seed(options.seed)
        self._options, self._device = options, device
        self._about = {
            "options": options.to_dict(), "sessions": fingerprint(starts, rows), "items": items,
            "text": None if text is None else fingerprint(text),
        }  # fmt: skip
        self.network = SequenceNetwork(items, options, None if text is None else torch.from_numpy(text)).to(device)
        self._examples = _Examples(starts, rows, options.length, device)
        if not len(self._examples):
            raise SequenceModelError("no session has two clicks: there is nothing to learn from")
        age = (self._examples.session.max() - self._examples.session).float() / (len(starts) - 1)
        self._weights = 2.0 ** (-age / options.half_life) if options.half_life > 0 else torch.ones_like(age)
        counts = torch.bincount(self._examples.places, minlength=items + 1).float()
        counts[PADDING] = 0.0
        self._drawn_by = counts / counts.sum()
        # The table of vectors decays by its own use; decay is for the maps alone, else rare items fade to nothing.
        tables = {self.network.learned.weight, self.network.positions.weight}
        rest = [parameter for parameter in self.network.parameters() if parameter not in tables]
        self._optimizer = torch.optim.AdamW(
            [{"params": list(tables), "weight_decay": 0.0}, {"params": rest, "weight_decay": options.weight_decay}],
            lr=options.learning_rate,
        )
        self.best_state: dict[str, Tensor] | None = None

    # -- One epoch ----------------------------------------------------------------------------------------------------

    def epoch(self, number: int) -> float:
        """Every example once; the mean loss, by weight. Raises ``SequenceModelError`` where it, or a weight, is not finite afterwards."""
        options = self._options
        # The order depends on the seed and the epoch alone, so that a resumed training is the one that was cut off.
        generator = torch.Generator().manual_seed(options.seed * 100_003 + number)
        order = torch.randperm(len(self._examples), generator=generator).to(self._device)
        torch.manual_seed(options.seed * 100_003 + number)
        self.network.train()
        batch = max(_SMALLEST, min(options.batch, len(order) // _STEPS))
        steps = math.ceil(len(order) / batch)
        total, counted = torch.zeros((), device=self._device), torch.zeros((), device=self._device)
        for step in range(steps):
            rate = options.learning_rate * _schedule(((number - 1) * steps + step) / (options.epochs * steps))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * batch : (step + 1) * batch]
            with self._mixed():
                losses = self._losses(chosen)
            weights = self._weights[chosen]
            weight = weights.sum()
            weighted = (losses * weights).sum()
            self._optimizer.zero_grad(set_to_none=True)
            (weighted / weight.clamp(min=_LEAST_WEIGHT)).backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self._optimizer.step()
            total += weighted.detach()
            counted += weight
        loss = float(total / counted)
        # Half precision is what a model is kept in.
        if not (math.isfinite(loss) and all(bool(values.half().isfinite().all()) for values in self.network.state_dict().values())):
            raise SequenceModelError(
                f"the training diverged in epoch {number}: its loss is {loss:.4g}, or weights are not finite; train with a lower learning "
                f"rate than {options.learning_rate:g}, in another folder"
            )
        return loss

    def _losses(self, chosen: Tensor) -> Tensor:
        """Of each of the examples ``chosen``: float32[n]."""
        options = self._options
        places, targets = self._examples.batch(chosen)
        drop = None
        if self.network.project is not None and options.text_only > 0:
            drop = torch.rand(self.network.learned.num_embeddings, device=self._device) < options.text_only
        table = self.network.item_table(drop)
        sessions = self.network.sessions(table, places)
        if options.negatives and options.negatives < len(table) - 1:
            logits, labels = self._against_drawn(table, sessions, targets)
        else:
            vectors = functional.normalize(self.network.dropout(table[1:]), dim=-1)
            logits, labels = sessions @ vectors.T / options.temperature, targets - 1
        return functional.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=options.label_smoothing)

    def _against_drawn(self, table: Tensor, sessions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Sampled softmax: each logit less the logarithm of how often its item is drawn (Bengio and Senecal, 2008)."""
        options = self._options
        drawn = torch.multinomial(self._drawn_by, options.negatives, replacement=True)
        vectors = functional.normalize(self.network.dropout(table[drawn]), dim=-1)
        expected = torch.log(self._drawn_by * options.negatives)
        against = sessions @ vectors.T / options.temperature - expected[drawn]
        against = against.masked_fill(drawn[None, :] == targets[:, None], float("-inf"))
        right = functional.normalize(self.network.dropout(table[targets]), dim=-1)
        own = (sessions * right).sum(dim=-1) / options.temperature - expected[targets]
        return torch.cat([own[:, None], against], dim=1), torch.zeros_like(targets)

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self._device.split(":")[0], dtype=torch.bfloat16, enabled=self._device.startswith("cuda"))

    def check(self, judged: _Examples) -> tuple[float, float]:
        """(hit rate, MRR) at 20 over all examples of ``judged``."""
        self.network.eval()
        with torch.inference_mode():
            return self._rates(judged)

    def _rates(self, judged: _Examples) -> tuple[float, float]:
        hits = reciprocal = 0.0
        table = self.network.item_table()
        vectors = functional.normalize(table[1:], dim=-1)
        for first in range(0, len(judged), _CHECKED):
            places, targets = judged.batch(torch.arange(first, min(first + _CHECKED, len(judged)), device=self._device))
            scores = self.network.sessions(table, places) @ vectors.T
            found = scores.topk(min(CUTOFF, scores.shape[1])).indices == (targets - 1)[:, None]
            hits += float(found.any(dim=1).sum())
            ranks = torch.arange(1, found.shape[1] + 1, device=self._device)
            reciprocal += float((found / ranks).sum())
        return hits / len(judged), reciprocal / len(judged)

    def clear_unseen(self) -> None:
        """What nobody clicked has learned nothing: its text speaks for it, or nothing does."""
        with torch.no_grad():
            self.network.learned.weight[self._drawn_by == 0] = 0.0

    # -- Resume -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """A copy of the weights as they are."""
        return {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def keep(self, folder: Path, history: list[Epoch], best: dict[str, Tensor] | None) -> None:
        """Write a checkpoint, all or nothing."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "about": self._about,
            "history": [(epoch.number, epoch.loss, epoch.hit_rate, epoch.mrr, epoch.seconds) for epoch in history],
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": best,
        }
        unfinished = folder / f"{CHECKPOINT}.new"
        torch.save(content, unfinished)
        unfinished.replace(folder / CHECKPOINT)

    def resume(self, folder: Path) -> list[Epoch]:
        """Go on from the folder's checkpoint, if there is one; the epochs that are done."""
        path = folder / CHECKPOINT
        if not path.exists():
            return []
        try:
            content: dict[str, Any] = torch.load(path, map_location=self._device, weights_only=True)
            different = sorted(key for key, value in self._about.items() if content["about"].get(key) != value)
            if not different:
                self.network.load_state_dict(content["network"])
                self._optimizer.load_state_dict(content["optimizer"])
                self.best_state = content["best"]
                history = [Epoch(*values) for values in content["history"]]
                if not all(math.isfinite(epoch.loss) for epoch in history):  # kept by versions that went on
                    raise SequenceModelError("its training diverged")
                return history
        except Exception as error:
            raise SequenceModelError(f"{path} cannot be read: {error}; delete it to train from the beginning") from error
        raise SequenceModelError(f"{path} is of another training (different: {', '.join(different)}); delete it, or choose another folder")


def _schedule(done: float) -> float:
    """Share of the learning rate: a linear rise, then a cosine down to a hundredth."""
    if done < _WARM:
        return 0.01 + 0.99 * done / _WARM
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - _WARM) / (1 - _WARM))))
