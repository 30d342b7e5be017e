"""Public data sets, and your own logs, as a storefront would have sent them: the catalogue first, then events in order.

One adapter a module; each says in its docstring where to download the data and what it makes of a row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from streams.replay.diginetica import Diginetica
from streams.replay.mapping import Mapping
from streams.replay.online_retail import OnlineRetail
from streams.replay.record import Catalogue, Dataset, ReplayError, ReplayEvent
from streams.replay.rees46 import Rees46
from streams.replay.retailrocket import RetailRocket
from streams.replay.table import CsvLog, JsonLines
from streams.replay.yoochoose import Yoochoose

DATASETS: Final[dict[str, type[Any]]] = {
    adapter.name: adapter for adapter in (OnlineRetail, Rees46, RetailRocket, Yoochoose, Diginetica, JsonLines, CsvLog)
}


def open_dataset(
    name: str,
    path: Path,
    *,
    limit: int | None = None,
    encoding: str = "utf-8",
    mapping: Mapping | None = None,
    catalog: Path | None = None,
) -> Dataset:
    """The data set ``name`` (a key of ``DATASETS``) at ``path``, at most ``limit`` of its rows.

    ``mapping`` and ``catalog`` belong to ``csv`` and ``json-lines``. Raises ``ReplayError`` for an unknown name, a path that
    does not exist, or an option that the data set does not have.
    """
    if name not in DATASETS:
        raise ReplayError(f"no data set is called {name!r}; there are {', '.join(DATASETS)}")
    if not path.exists():
        raise ReplayError(f"{path} does not exist. Where to get {name}: `assay replay --list`")
    options = {key: value for key, value in (("mapping", mapping), ("catalog", catalog)) if value is not None}
    if options and name not in (CsvLog.name, JsonLines.name):
        raise ReplayError(f"{name} has columns of its own: {' and '.join(options)} go with csv and json-lines")
    dataset: Dataset = DATASETS[name](path, limit=limit, encoding=encoding, **options)
    return dataset


__all__ = ["DATASETS", "Catalogue", "Dataset", "Mapping", "ReplayError", "ReplayEvent", "open_dataset"]
