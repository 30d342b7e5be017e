"""Loops over arrays, compiled to machine code; kept on disk between runs where a folder can be written, compiled anew where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` on its first call, without the interpreter lock. ``fastmath``: sums may be reordered, NaN does not occur."""
    options: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
    try:
        result: Callable[..., Any] = numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba found no folder it may write to: a read-only installation without a home
        result = numba.njit(function, **options)
    return result
