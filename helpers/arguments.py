"""What arguments may be: one sentence each for what was given, what is allowed, and what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable

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
    if value is None or is_bool(given):
        raise TypeError(f"{name} is {given!r}: pass a whole number, {limits}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value}: choose a whole number, {limits}")
    return value


def number(name: str, given: object, *, zero: bool = False) -> float:
    """`given` as a finite float above zero, or from zero on; NumPy's numbers pass, bool does not.

    >>> number("lr", np.float32(0.5))
    0.5
    >>> number("lr", 0)
    Traceback (most recent call last):
    ValueError: lr is 0: choose a finite number above 0
    """
    limits = "from 0 on" if zero else "above 0"
    try:
        value = None if is_bool(given) or isinstance(given, str | bytes) else float(given)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        value = None
    if value is None:
        raise TypeError(f"{name} is {given!r}: pass a finite number {limits}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} is {given!r}: choose a finite number {limits}")
    return value


def function(name: str, given: object) -> Callable:
    """`given`, which can be called; TypeError otherwise.

    >>> function("loss", "mse")
    Traceback (most recent call last):
    TypeError: loss is 'mse': pass a function
    """
    if not callable(given):
        raise TypeError(f"{name} is {given!r}: pass a function")
    return given


def is_bool(given: object) -> bool:
    """Whether `given` is True or False, of Python, NumPy or torch, which all count as integers.

    >>> is_bool(np.True_), is_bool(1)
    (True, False)
    """
    return isinstance(given, bool) or "bool" in str(getattr(given, "dtype", ""))


def pixels(images: object, size: tuple = (28, 28)) -> np.ndarray:
    """Images as a uint8 array [N, *size], any memory layout; TypeError or ValueError otherwise.

    >>> pixels(np.zeros((2, 28, 28), np.uint8)[:, ::-1]).shape
    (2, 28, 28)
    """
    if not hasattr(images, "dtype"):  # a list, or a picture
        images = np.asarray(images)
    if str(images.dtype).removeprefix("torch.") != "uint8":
        raise TypeError(
            f"images have dtype {images.dtype}: pass the raw pixels as uint8 in 0..255, unscaled"
        )
    x = np.asarray(images)
    if x.ndim == 0 or x.shape[1:] != size:
        expected = ", ".join(map(str, ("N", *size)))
        raise ValueError(
            f"images have shape {x.shape}: expected [{expected}]; for one use image[None]"
        )
    return x
