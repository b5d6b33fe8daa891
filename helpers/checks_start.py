"""Checks of the exercises of part 0."""

from __future__ import annotations

import numpy as np

from helpers.checks import NotYet, attempt, exercise


@exercise("00.1")
def _(to_int8) -> None:
    pixels = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)
    given = pixels.copy()
    result = np.asarray(attempt(to_int8, pixels))
    if not np.array_equal(pixels, given):
        raise NotYet("the pixels that were passed in have changed; leave them and return new ones")
    expected = given.astype(int) - 128
    if result.shape != expected.shape:
        raise NotYet(f"the result has shape {result.shape}, the pixels {expected.shape}")
    if np.array_equal(result, expected):
        if result.dtype != np.int8:
            raise NotYet(f"the values are right, but the dtype is {result.dtype}, not int8")
        return
    if result.dtype.kind == "f" and np.allclose(result, given / 255, atol=1e-6):
        raise NotYet("that is the real value r; the file wants q = r / scale + zero_point")
    if np.array_equal(result.astype(np.uint8), given - np.uint8(128)) and result.min() >= 0:
        raise NotYet(
            "pixel 0 became 128: uint8 has no negative numbers, so 0 - 128 wrapped around. "
            "Widen the dtype before you subtract"
        )
    if np.array_equal(result, given.astype(np.int8)):
        raise NotYet("pixel 200 became -56: a cast to int8 wraps beyond 127. Subtract first")
    if result.shape == expected.shape and np.array_equal(result, np.clip(given, 0, 127)):
        raise NotYet("bright pixels were clipped to 127: shift by the zero point instead")
    wrong = np.argwhere(result != expected)[0]
    raise NotYet(
        f"pixel {given[tuple(wrong)]} became {result[tuple(wrong)]}, expected "
        f"{expected[tuple(wrong)]}: q = r / scale + zero_point with r = pixel / 255"
    )
