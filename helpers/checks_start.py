"""Checks of the exercises of part 0."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def to_int8(pixels):
    return (pixels.astype(int) - 128).astype(np.int8)


@exercise(
    "00.1",
    to_int8,
    {
        "that is the real value r; the file wants q = r / scale + zero_point": lambda p: p / 255,
        "pixel 0 became 128: uint8 has no negative numbers, so 0 - 128 wrapped around. Widen the "
        "dtype before you subtract": lambda p: p - np.uint8(128),
        "pixel 200 became -56: a cast to int8 wraps beyond 127. Subtract first": (
            lambda p: p.astype(np.int8)
        ),
        "bright pixels were clipped to 127: shift by the zero point instead": (
            lambda p: p.clip(0, 127)
        ),
        "the zero point is -128, not -127": lambda p: (p.astype(int) - 127).clip(-128, 127),
        "the sign is wrong: add the zero point, which is -128": lambda p: 128 - p.astype(int),
    },
)
def check_to_int8(answer: Answer) -> None:
    """An int8 array of the shape of the pixels."""
    some = np.array([[0, 1, 127], [128, 200, 255]], np.uint8)
    every = np.arange(256, dtype=np.uint8)
    cases = [(some,), (every,), (every.reshape(4, 8, 8),)]
    compare(answer, cases, advice="q = r / scale + zero_point with r = pixel / 255")
