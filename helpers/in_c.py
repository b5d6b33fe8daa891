"""A C function written in a lesson, called from Python: numbers or arrays of them."""

from __future__ import annotations

import ctypes
import functools
import inspect
import re
from collections.abc import Callable, Sequence

import numpy as np

from helpers.toolchain import host_library

HEAD = re.compile(r"^(u?int\d+_t|int)\s+(\w+)\(([^)]*)\)\s*\{", re.MULTILINE)
TYPES = {
    f"{u}int{b}_t": getattr(ctypes, f"c_{u}int{b}") for u in ("", "u") for b in (8, 16, 32, 64)
}
TYPES["int"] = ctypes.c_int


def in_c(function: Callable | None = None, *, uses: Sequence[Callable] = ()) -> Callable:
    '''Decorate a function whose docstring is its C: calling it calls that, for ints and arrays.

    uses: other functions made by in_c that its C calls. A docstring with "..." in it is unfinished:
    the function stays as it is, and returns None. It is compiled when it is first called, which
    raises ValueError with the compiler's message, or RuntimeError where there is no compiler.

    >>> @in_c
    ... def twice(a):
    ...     """int32_t twice(int32_t a) { return 2 * a; }"""
    >>> twice.c
    'int32_t twice(int32_t a) { return 2 * a; }'
    '''
    if function is None:
        return functools.partial(in_c, uses=uses)
    text = inspect.cleandoc(function.__doc__ or "")
    heads = HEAD.findall(text)
    if not heads or heads[-1][1] != function.__name__:
        raise ValueError(
            f"the docstring of {function.__name__} holds no C function of this name, such as "
            f"int32_t {function.__name__}(int32_t a) {{ return a; }}"
        )
    if "..." in text:
        return function
    result, name, arguments = heads[-1]
    kinds = [a.split()[0] for a in arguments.split(",") if a.strip() not in ("", "void")]
    unknown = sorted({kind for kind in (result, *kinds) if kind not in TYPES})
    if unknown:
        raise ValueError(f"{name} has {', '.join(unknown)}: in_c knows {', '.join(TYPES)}")

    @functools.cache
    def loaded() -> Callable:
        parts = ["#include <stdint.h>", *(used.c for used in uses), text]
        found = getattr(host_library({"lesson.c": "\n\n".join(parts) + "\n"}, ()), name)
        found.restype, found.argtypes = TYPES[result], [TYPES[kind] for kind in kinds]
        return found

    @functools.wraps(function)
    def call(*given):
        found = loaded()
        if not any(isinstance(value, np.ndarray) for value in given):
            return found(*map(int, given))
        rows = np.broadcast_arrays(*given)
        flat = zip(*(row.ravel().tolist() for row in rows), strict=True)
        return np.array([found(*row) for row in flat], int).reshape(rows[0].shape)

    call.c = text
    return call
