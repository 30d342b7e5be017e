"""A benchmark's outcome: flat rows, a table for people, one JSON line for programs."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson


@dataclass(frozen=True, slots=True)
class Report:
    """Rows of one benchmark and remarks such as ratios."""

    benchmark: str
    results: Sequence[Mapping[str, object]]
    remarks: Sequence[str] = field(default=())
    #: What went wrong, for a benchmark that also judges; the command then fails.
    failed: str = ""

    def table(self) -> str:
        """Return a Markdown table and the remarks."""
        if not self.results:
            return f"{self.benchmark}: no results"
        columns = list(dict.fromkeys(column for row in self.results for column in row))
        lines = [f"## {self.benchmark}", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in self.results]
        return "\n".join([*lines, "", *self.remarks])

    def to_json(self) -> str:
        """Return one line of JSON: benchmark, machine, commit, results, remarks."""
        document = {
            "benchmark": self.benchmark,
            "machine": {"cores": os.cpu_count(), "arch": platform.machine(), "python": platform.python_version()},
            "commit": _commit(),
            "results": list(self.results),
            "remarks": list(self.remarks),
        }
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def medians(rows: Sequence[Mapping[str, object]], by: Sequence[str]) -> list[dict[str, object]]:
    """One row for each combination of ``by``: numbers become medians over the repetitions, in order of first appearance. What one
    repetition could not tell (None) none can.
    """
    groups: dict[tuple[object, ...], list[Mapping[str, object]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    out: list[dict[str, object]] = []
    for group in groups.values():
        merged = dict(group[0])
        for name, value in group[0].items():
            found = [row[name] for row in group]
            if None in found:
                merged[name] = None
            elif isinstance(value, int | float) and not isinstance(value, bool):
                merged[name] = statistics.median(map(float, found))  # type: ignore[arg-type]
        merged["repetitions"] = len(group)
        out.append(merged)
    return out


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return "" if value is None else str(value)


def _commit() -> str:
    try:
        return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
