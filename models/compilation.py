"""Loops over arrays, compiled to machine code; kept on disk between runs where a folder can be written, compiled anew where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` on its first call, without the interpreter lock. ``fastmath``: sums may be reordered, NaN does not occur."""
    return _compiled(function, {"reassoc", "contract", "nsz", "arcp"})


def compiled_exactly(function: Callable[..., Any]) -> Callable[..., Any]:
    """``compiled`` without ``fastmath``: every operation is rounded by itself and in its place, as by numpy and Python. What it calls is
    compiled as that says.
    """
    return _compiled(function, set())


def _compiled(function: Callable[..., Any], fastmath: set[str]) -> Callable[..., Any]:
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath or False, "error_model": "numpy"}
    try:
        result: Callable[..., Any] = numba.njit(function, cache=True, **options)
    except RuntimeError:  # numba found no folder it may write to: a read-only installation without a home
        result = numba.njit(function, **options)
    return result


@intrinsic  # type: ignore[untyped-decorator]
def copy_bytes(typing_context: Any, target: Any, target_at: Any, source: Any, source_at: Any, count: Any) -> Any:
    """``target[target_at : target_at + count] = source[source_at : source_at + count]`` inside compiled code, for uint8 arrays that
    do not overlap: a memcpy, ten times as fast as a loop over bytes. Unchecked, like every access there.
    """
    signature = types.void(target, types.int64, source, types.int64, types.int64)

    def generate(context: Any, builder: Any, signed: Any, arguments: Any) -> Any:
        into = context.make_array(signed.args[0])(context, builder, arguments[0])
        out_of = context.make_array(signed.args[2])(context, builder, arguments[2])
        to, at = builder.gep(into.data, [arguments[1]]), builder.gep(out_of.data, [arguments[3]])
        cgutils.raw_memcpy(builder, to, at, arguments[4], 1)
        return context.get_dummy_value()

    return signature, generate
