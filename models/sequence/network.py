"""The network: self-attention over the newest clicks decides how much each of them, and what they tell together, counts."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.sequence.options import SequenceOptions

#: The place of "no item" in the table of vectors; item row r has place r + 1.
PADDING: Final = 0
#: Sessions of which so many are asked about at once are grouped by their length.
_FEW: Final = 64


class SequenceNetwork(nn.Module):  # type: ignore[misc]
    """Sessions and items in one space: CORE (Hou et al., SIGIR 2022), with a step away from the clicked items.

    A session's vector is the weighted mean of its items' vectors, by weights that a transformer reads off the sequence, plus what a
    linear map, zero at first, makes of the newest click's state: the mean alone can only suggest what resembles the clicked items in
    both directions. Item vectors are learned, plus a projection of the text vector where there is one. Scores are cosines over a
    temperature (Gupta et al., NISER, 2019), which keeps rare items in the running.

    Positions count backwards from the newest click, as in GCE-GNN (Wang et al., SIGIR 2020).
    """

    def __init__(self, items: int, options: SequenceOptions, text: Tensor | None = None) -> None:
        """``items``: rows of the table; ``text`` float32[items, t]: unit text vectors, zeros where an item has none."""
        super().__init__()
        wide = options.dimensions
        self.options = options
        self.learned = nn.Embedding(items + 1, wide, padding_idx=PADDING)
        nn.init.normal_(self.learned.weight, std=wide**-0.5)
        with torch.no_grad():
            self.learned.weight[PADDING] = 0.0
        self.positions = nn.Embedding(options.length, wide)
        nn.init.normal_(self.positions.weight, std=wide**-0.5)
        self.text: Tensor | None
        self.register_buffer("text", None if text is None else functional.pad(text, (0, 0, 1, 0)), persistent=False)
        self.project = None if text is None else nn.Linear(text.shape[1], wide, bias=False)
        self.before = nn.LayerNorm(wide)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(wide, options.heads, 4 * wide, options.dropout, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(options.layers)
        )
        self.after = nn.LayerNorm(wide)
        self.weigh = nn.Linear(wide, 1, bias=False)
        self.step = nn.Linear(wide, wide, bias=False)
        nn.init.zeros_(self.step.weight)
        self.dropout = nn.Dropout(options.item_dropout)

    def item_table(self, drop_learned: Tensor | None = None) -> Tensor:
        """float32[items + 1, d], the first row zeros. ``drop_learned`` bool[items + 1]: items placed by their text alone."""
        table = self.learned.weight
        if self.project is None or self.text is None:
            return table
        if drop_learned is not None:
            table = table.masked_fill(drop_learned[:, None], 0.0)
        return table + self.project(self.text)

    def sessions(self, table: Tensor, places: Tensor) -> Tensor:
        """Unit vectors float32[n, d] of n sessions: ``places`` int64[n, l] their newest clicks as places in ``table``, newest first,
        ``PADDING`` behind. A session without any gets zeros.

        On a CPU many sessions are read in groups of like length: half of all prefixes are of a few clicks, and padding costs as
        much as clicks do. A GPU is quicker with all at once.
        """
        if len(places) < _FEW or places.device.type != "cpu":
            return self._sessions(table, places)
        sizes = (places != PADDING).sum(dim=1)
        groups = torch.ceil(torch.log2(sizes.clamp(min=1).float())).long()  # 1, 2, 3 to 4, 5 to 8 clicks, and so on
        order = torch.argsort(groups, stable=True)
        parts = []
        for chosen in torch.split(order, torch.bincount(groups).tolist()):
            if len(chosen):
                longest = max(1, int(sizes[chosen].max()))
                parts.append(self._sessions(table, places[chosen, :longest]))
        return torch.cat(parts)[torch.argsort(order)]

    def _sessions(self, table: Tensor, places: Tensor) -> Tensor:
        absent = places == PADDING
        empty = absent.all(dim=1)
        absent = absent & ~empty[:, None]  # attention over nothing would be no number
        vectors = self.dropout(functional.embedding(places, table))
        state = self.before(vectors + self.positions.weight[: places.shape[1]])
        for layer in self.layers:
            state = layer(state, src_key_padding_mask=absent)
        state = self.after(state)
        weights = torch.softmax(self.weigh(state).squeeze(-1).float().masked_fill(absent, float("-inf")), dim=1)
        mean = (weights[..., None] * functional.normalize(vectors.float(), dim=-1)).sum(dim=1)
        together = mean + self.step(state[:, 0]).float()
        return functional.normalize(together, dim=-1).masked_fill(empty[:, None], 0.0)
