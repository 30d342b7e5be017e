"""The catalogue of a role that ranks or serves: how settings become one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from models.catalog.catalogue import Catalogue
from streams.settings import Settings


def open_catalogue(settings: Settings, role: str) -> Catalogue:
    """An empty catalogue, warmed from ``<data_dir>/<role>.index`` if that is there. ``Catalogue.close`` ends its worker thread.

    Raises ``IndexConfigurationError`` when ``index`` or ``device`` cannot be had here.
    """
    catalogue = Catalogue(
        settings.index,
        settings.device,
        settings.threads,
        executor=ThreadPoolExecutor(1, thread_name_prefix=f"{role}-catalogue"),
        snapshot=settings.data_dir / f"{role}.index" if settings.snapshot_s else None,
        snapshot_s=settings.snapshot_s,
        max_bytes=settings.max_event_bytes,
    )
    catalogue.load_snapshot()
    return catalogue
