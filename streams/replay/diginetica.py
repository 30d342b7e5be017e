"""Diginetica (CIKM Cup 2016, track 2) in the split of the SR-GNN paper: anonymous sessions of clicks, nothing else.

``PATH`` is ``train_sessions.txt[.gz]`` (item ids separated by spaces, one session a line, oldest first) or its folder. The
split has dropped the times, so they are made up: the n-th click of the file happens 15 s after the one before, which
spreads the sessions over the five months of the original and keeps each of them well inside a half-hour gap. Products have
no text, hence no vectors worth the name.

Download: the ``diginetica`` folder that SR-GNN's ``preprocess.py`` makes (https://github.com/CRIPAC-DIG/SR-GNN) from
https://competitions.codalab.org/competitions/11161; research only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from schemas.catalog import Product
from streams.replay.lines import find, lines
from streams.replay.record import Bounds, Catalogue, ReplayEvent, encode, iso_time, malformed

_START_MS = int(datetime(2016, 1, 1, tzinfo=UTC).timestamp() * 1000)
_STEP_MS = 15_000


class Diginetica:
    """The sessions at ``path``; at most ``limit`` clicks of them."""

    name = "diginetica"

    def __init__(self, path: Path, *, limit: int | None = None, encoding: str = "utf-8") -> None:
        self._path = find(path, "train_sessions.txt") if path.is_dir() else path
        self._limit = limit
        self._encoding = encoding

    def _clicks(self) -> Iterator[tuple[int, bytes, bytes, bool]]:
        """(line number, item, line, whether the line is a session), one for each click; one for a line that is none."""
        count = 0
        for number, line in lines(self._path, encoding=self._encoding):
            items = line.split()
            sound = all(item.isdigit() for item in items)
            for item in items if sound else [line]:
                if self._limit is not None and count >= self._limit:
                    return
                count += 1
                yield number, item, line, sound

    def catalogue(self) -> Catalogue:
        """One product an item id, without text."""
        skus: dict[str, None] = {}
        bounds = Bounds()
        for _, item, _, sound in self._clicks():
            bounds.add(_START_MS + bounds.events * _STEP_MS)
            if sound:
                skus[item.decode()] = None
        return bounds.catalogue(Product(sku=sku) for sku in skus)

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``."""
        for count, (number, item, line, sound) in enumerate(self._clicks()):
            at_ms = _START_MS + count * _STEP_MS
            if not sound:
                yield malformed(line, number, at_ms)
                continue
            fields = {
                "event_id": f"diginetica-{count + 1}",
                "type": "click",
                "session_id": f"diginetica-{number}",
                "occurred_at": iso_time(at_ms + shift_ms),
                "channel": "web",
                "sku": item.decode(),
            }
            yield encode(fields, at_ms)
