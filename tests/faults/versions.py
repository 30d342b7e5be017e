"""Files that a worker takes up while it runs, each in two versions that are put into its place in turn."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.ranking.weights import Weights
from models.rules import read_rules
from tests.agents.test_recommend_trained import trained
from tests.end_to_end.list_content import BUILT_IN, Shelf

#: What can be swapped, and the worker's flag that names it.
FLAGS: Final = {"ranker": "--ranker", "sequence": "--sequence", "rules": "--business-rules", "weights": "--weights"}
#: Files of a version in the order in which whoever trained it writes them: the last makes the others valid.
_FILES: Final = {
    "ranker": ("ranker.txt", "purchases.txt", "ranker.json"),
    "sequence": ("model.safetensors", "model.json", "items.json"),
    "rules": ("rules.yaml",),
    "weights": ("weights.json",),
}
_TWO: Final = (0, 1)


class Versions:
    """Two versions of each of ``kinds`` below ``folder``, which differ in what a list made by them may hold; the first is in place.

    ``skus``: items of the shop.
    """

    def __init__(self, folder: Path, kinds: Sequence[str], skus: Sequence[str]) -> None:
        self._folder = folder
        self._kinds = tuple(kinds)
        self._skus = skus
        self._present = dict.fromkeys(kinds, 1)
        self._excluded: dict[str, frozenset[str]] = {}
        self._weights: dict[str, Mapping[str, float]] = {}
        self._names: dict[str, set[str]] = {"ranker": set(), "sequence": set()}
        make: dict[str, Callable[[Path, int], None]] = {
            "ranker": self._ranker, "sequence": self._sequence, "rules": self._rules, "weights": self._weigh,
        }  # fmt: skip
        for kind in kinds:
            for version in _TWO:
                made = folder / f"{kind}-{version}"
                made.mkdir(parents=True)
                make[kind](made, version)
            (folder / kind).mkdir()
            self.swap(kind)

    @property
    def flags(self) -> list[str]:
        """What tells a worker where they are."""
        in_place = {kind: self._folder / kind for kind in self._kinds}
        whole = ("ranker", "sequence")  # named by their folder, the others by their file
        paths = {kind: path if kind in whole else path / _FILES[kind][0] for kind, path in in_place.items()}
        return [argument for kind, path in paths.items() for argument in (FLAGS[kind], str(path))]

    def swap(self, kind: str) -> None:
        """Put the other version of ``kind`` in place, each of its files by renaming."""
        self._present[kind] = version = 1 - self._present[kind]
        for name in _FILES[kind]:
            unfinished = self._folder / kind / f"{name}.new"
            shutil.copyfile(self._folder / f"{kind}-{version}" / name, unfinished)
            unfinished.replace(self._folder / kind / name)

    def shelf(self, on_sale: frozenset[str], sold_out: frozenset[str]) -> Shelf:
        """What lists may be made of under whichever versions."""
        return Shelf(
            on_sale, sold_out,
            excluded=self._excluded or {None: frozenset()}, weights=self._weights or {None: BUILT_IN},
            rankers=frozenset(self._names["ranker"]), sequences=frozenset(self._names["sequence"]),
        )  # fmt: skip

    def known(self) -> dict[str, set[str]]:
        """By kind, what records call its versions."""
        named = {**self._names, "rules": set(self._excluded), "weights": set(self._weights)}
        return {kind: named[kind] for kind in self._kinds}

    def _ranker(self, folder: Path, version: int) -> None:
        """What the shopper met last comes first, or last."""
        self._names["ranker"].add(trained("recent_place", 1 - 2 * version, folder).name)

    def _sequence(self, folder: Path, version: int) -> None:
        """Of two items the one follows the other, or the other way round."""
        from models.sequence import SequenceOptions, train
        from models.sequence.source import NamedModel, save_names

        rows = np.tile(np.array([version, 1 - version], dtype=np.int32), 300)
        model, _ = train(np.arange(0, 601, 2), rows, 2, SequenceOptions(dimensions=8, layers=1, epochs=1))
        model.save(folder)
        save_names(folder, self._skus[:2])
        self._names["sequence"].add(NamedModel.load(folder).name)

    def _rules(self, folder: Path, version: int) -> None:
        """Each excludes another item."""
        file = folder / _FILES["rules"][0]
        sku = self._skus[version]
        file.write_text(f'exclude:\n  - skus: ["{sku}"]\n')
        self._excluded[read_rules(file.read_bytes()).digest] = frozenset([sku])

    def _weigh(self, folder: Path, version: int) -> None:
        """The shopper's own items count as ever, or not at all."""
        weights = Weights(again=BUILT_IN["again"] * (1 - version))
        weights.save(folder / _FILES["weights"][0])
        self._weights[weights.digest] = weights.model_dump()
