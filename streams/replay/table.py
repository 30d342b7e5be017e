"""Your own log as CSV (or TSV) or as JSON Lines.

CSV: the first line names the columns; a ``Mapping`` says what they mean. JSON Lines without a mapping: every line is an event
of the contract and is sent byte for byte (re-encoded only to shift its time); with one, its keys are the columns.
``catalog`` is a JSON Lines file of products; without it, the products are those that the log's rows speak of.

A line that cannot be read as a row, or whose time cannot be read, is sent as it is and ends in the dead letters. A file in which
the fields that every event has are nowhere to be found is refused, because all of it would end there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import ValidationError

from schemas.catalog import Product
from streams.replay.lines import header, lines, rows
from streams.replay.mapping import EVENT_FIELDS, Mapping, time_ms
from streams.replay.record import Bounds, Catalogue, ReplayError, ReplayEvent, encode, iso_time, malformed

#: What every event needs beside its id, which is made up where the file has none; of two in a group one is enough.
_NEEDED: Final = (("occurred_at",), ("type",), ("channel",), ("user_id", "session_id"))
#: JSON Lines name their columns line by line: so many lines are looked at.
_SAMPLE: Final = 100


class _Log:
    """What the two formats share: rows as dictionaries (None where a line is no row) with number and bytes."""

    name = ""

    def __init__(
        self, path: Path, *, limit: int | None = None, encoding: str = "utf-8", mapping: Mapping | None = None, catalog: Path | None = None
    ) -> None:
        self._path = path
        self._limit = limit
        self._encoding = encoding
        self._mapping = mapping or Mapping()
        self._catalog = catalog

    def _rows(self) -> Iterator[tuple[int, dict[str, Any] | None, bytes]]:
        raise NotImplementedError

    def _columns(self) -> list[str] | None:
        """The names of the file's columns; None where it has no rows to name any."""
        raise NotImplementedError

    def _check_columns(self) -> None:
        """Raise ``ReplayError`` where a field that every event needs, or a column that the mapping names, is not in the file."""
        columns = self._columns()
        if columns is None:
            return
        known = {field for field in EVENT_FIELDS if self._mapping.columns.get(field, field) in columns} | self._mapping.constants.keys()
        faults = [f"nothing says what is an event's {' or '.join(group)}" for group in _NEEDED if not known.intersection(group)]
        faults += [f"no column {column!r} (for {field})" for field, column in self._mapping.columns.items() if column not in columns]
        if faults:
            raise ReplayError(
                f"{self._path}: {'; '.join(faults)}. Its columns are: {', '.join(columns) or '(none)'}. Say which is which by "
                "--column occurred_at=COLUMN, --constant channel=web, --type WORD=browse (each as often as needed), or by "
                "--mapping FILE.toml with tables [columns], [constants], [types]"
            )

    def _event(self, number: int, row: dict[str, Any], raw: bytes, shift_ms: int) -> ReplayEvent:
        fields, at_ms = self._mapping.event(row, event_id=f"{self._path.name.split('.')[0]}-{number}", shift_ms=shift_ms)
        return encode(fields, at_ms)

    def catalogue(self) -> Catalogue:
        """See ``Dataset.catalogue``. Raises ``ReplayError`` where the file's columns cannot be those of events."""
        self._check_columns()
        products: dict[str, Product] = {}
        bounds = Bounds()
        last_ms = 0
        for number, row, raw in self._rows():
            event = self._read(number, row, raw, last_ms, 0)
            last_ms = event.at_ms
            bounds.add(last_ms)
            if row is not None and self._catalog is None and (product := self._mapping.catalogue_entry(row)) is not None:
                products[product.sku] = product
        return bounds.catalogue(iter(products.values()) if self._catalog is None else read_products(self._catalog))

    def events(self, shift_ms: int = 0) -> Iterator[ReplayEvent]:
        """See ``Dataset.events``."""
        last_ms = 0
        for number, row, raw in self._rows():
            event = self._read(number, row, raw, last_ms, shift_ms)
            last_ms = event.at_ms
            yield event

    def _read(self, number: int, row: dict[str, Any] | None, raw: bytes, last_ms: int, shift_ms: int) -> ReplayEvent:
        if row is None:
            return malformed(raw, number, last_ms)
        try:
            return self._event(number, row, raw, shift_ms)
        except (ValueError, TypeError, KeyError):
            # No time that can be read, or text that is not UTF-8: the contract says which, in the dead letter.
            return malformed(raw, number, last_ms)


class CsvLog(_Log):
    """A CSV file, or a TSV one (``.tsv``, ``.tsv.gz``)."""

    name = "csv"

    @property
    def _delimiter(self) -> str:
        return "\t" if ".tsv" in self._path.suffixes else ","

    def _columns(self) -> list[str]:
        return header(self._path, encoding=self._encoding, delimiter=self._delimiter)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any] | None, bytes]]:
        columns = self._columns()
        for row in rows(self._path, limit=self._limit, encoding=self._encoding, delimiter=self._delimiter):
            cells = dict(zip(columns, row.cells, strict=True)) if len(row.cells) == len(columns) else None
            yield row.number, cells, row.raw


class JsonLines(_Log):
    """A file with one JSON object a line."""

    name = "json-lines"

    def _columns(self) -> list[str] | None:
        sample = [row for _, row, _ in islice(self._rows(), _SAMPLE)]
        return list(dict.fromkeys(name for row in sample if row is not None for name in row)) if sample else None

    def _rows(self) -> Iterator[tuple[int, dict[str, Any] | None, bytes]]:
        for number, line in lines(self._path, limit=self._limit, encoding=self._encoding):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                row = None
            yield number, row if isinstance(row, dict) else None, line

    def _event(self, number: int, row: dict[str, Any], raw: bytes, shift_ms: int) -> ReplayEvent:
        if self._mapping != Mapping():
            return super()._event(number, row, raw, shift_ms)
        at_ms = time_ms(row["occurred_at"])
        event = encode(row | {"occurred_at": iso_time(at_ms + shift_ms)}, at_ms)
        # Without a shift the producer's own bytes are the better evidence.
        return event if shift_ms else ReplayEvent(event.key, raw, at_ms, event.kind, event.amount, event.currency)


def read_products(path: Path) -> Iterator[Product]:
    """Products from JSON Lines. Raises ``ReplayError`` with the line of the first that is none."""
    for number, line in lines(path):
        try:
            yield Product.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in fault["loc"])
            raise ReplayError(f"{path}, line {number}: not a product: {where} {fault['msg']}") from error
