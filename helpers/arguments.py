"""What arguments may be: one sentence each for what was given, what is allowed, and what to do."""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np


def one_of(kind: str, given: object, allowed: Iterable[str]) -> None:
    """ValueError unless `given` is one of the names in `allowed`.

    >>> one_of("split", "tset", ("train", "test"))
    Traceback (most recent call last):
    ValueError: unknown split 'tset': choose one of train, test
    """
    allowed = tuple(allowed)
    if not isinstance(given, str) or given not in allowed:
        raise ValueError(f"unknown {kind} {given!r}: choose one of {', '.join(allowed)}")


def whole(name: str, given: object, least: int = 1, most: int | None = None) -> int:
    """`given` as an int from `least` to `most`; NumPy's integers pass, bool and float do not.

    >>> whole("bits", np.int64(8), 1, 16)
    8
    >>> whole("threads", 1.5)
    Traceback (most recent call last):
    TypeError: threads is 1.5: pass a whole number, at least 1
    """
    limits = f"at least {least}" if most is None else f"{least} to {most}"
    try:
        value = operator.index(given)
    except TypeError:
        value = None
    if value is None or isinstance(given, bool | np.bool_):
        raise TypeError(f"{name} is {given!r}: pass a whole number, {limits}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value}: choose a whole number, {limits}")
    return value


def pixels(images: object) -> np.ndarray:
    """Images as a uint8 array [N, 28, 28], any memory layout; TypeError or ValueError otherwise.

    >>> pixels(np.zeros((2, 28, 28), np.uint8)[:, ::-1]).shape
    (2, 28, 28)
    """
    x = np.asarray(images)
    if x.dtype != np.uint8:
        raise TypeError(
            f"images have dtype {x.dtype}: pass the raw pixels as uint8 in 0..255, unscaled"
        )
    if x.ndim != 3 or x.shape[1:] != (28, 28):
        raise ValueError(
            f"images have shape {x.shape}: expected [N, 28, 28]; for one use image[None]"
        )
    return x
