"""Rescaling integers: a real factor as an integer and a shift, and three ways to round.

LiteRT's kernels do not agree on how the accumulator of a layer becomes eight bits again: its
reference convolutions round twice, its reference dense layers multiply in float64, and XNNPACK
multiplies in float32. Each is here, so that it can be followed bit for bit.
"""

from __future__ import annotations

import numpy as np


def multiplier_and_shift(factor: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(multiplier, shift), int64 like factor: factor = multiplier / 2^31 * 2^shift, nearly.

    factor: float64, from 0 on. multiplier: 2^30 to 2^31 - 1, so 31 bits of the factor are kept; 0
    for factors below 2^-32, which would move every bit out. Source: Jacob et al. 2018, section 2.2,
    as in LiteRT's QuantizeMultiplier.

    >>> multiplier_and_shift(0.75)  # 0.75 * 2^31
    (array(1610612736), array(0))
    >>> multiplier_and_shift(0.003)[1]  # 0.003 = 0.768 * 2^-8
    array(-8)
    """
    fraction, shift = np.frexp(np.asarray(factor, np.float64))  # fraction in [0.5, 1)
    multiplier = np.floor(fraction * 2**31 + 0.5).astype(np.int64)
    carried = multiplier == 2**31
    multiplier, shift = np.where(carried, 2**30, multiplier), shift + carried
    lost = shift < -31
    return np.where(lost, 0, multiplier), np.where(lost, 0, shift).astype(np.int64)


def doubling_high_multiply(x: np.ndarray, multiplier: np.ndarray | int) -> np.ndarray:
    """round(x * multiplier / 2^31), halves upwards: the upper half of a doubled 64-bit product.

    x, multiplier: integers of at most 32 bits, as int64. Arm's instruction is vqrdmulh.

    >>> doubling_high_multiply(np.array([100, -100, 3, -3]), 2**30)  # times one half
    array([ 50, -50,   2,  -1])
    """
    product = x * multiplier
    product += 2**30
    product >>= 31
    return product


def rounding_right_shift(x: np.ndarray, places: np.ndarray | int) -> np.ndarray:
    """round(x / 2^places), halves away from zero; places 0 to 31.

    >>> rounding_right_shift(np.array([5, 6, -5, -6, 7]), 2)
    array([ 1,  2, -1, -2,  2])
    """
    half = (1 << np.asarray(places, np.int64)) >> 1
    negative = x >> 63
    negative &= np.minimum(half, 1)  # 1 where x < 0, but not for places = 0
    x = x + half
    x -= negative
    x >>= places
    return x


def rescale_twice(x: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """x * factor in integers alone, rounded twice: to 31 bits of the factor, then by the shift.

    x: integers of 32 bits. factor: float64, for all of x or for each of its last axis. Returns
    int64. A factor of 1 or more shifts x to the left first, within 32 bits, where it may wrap as it
    does in C. This is MultiplyByQuantizedMultiplier of LiteRT (Jacob et al. 2018).

    >>> rescale_twice(np.array([2, 3, -3, 1000]), 0.25)  # 2/4: once to 1/2, then to 1
    array([  1,   1,  -1, 250])
    """
    multiplier, shift = multiplier_and_shift(factor)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    x = x.astype(np.int64)
    if left.any():
        x = (x << left).astype(np.int32).astype(np.int64)
    return rounding_right_shift(doubling_high_multiply(x, multiplier), right)


def rescale_in_float64(x: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """x * factor, rounded once, halves away from zero. Returns int64.

    >>> rescale_in_float64(np.array([2, -2, 3, 1000]), 0.25)
    array([  1,  -1,   1, 250])
    """
    product = x * np.asarray(factor, np.float64)
    return away_from_zero(product).astype(np.int64)


def away_from_zero(x: np.ndarray) -> np.ndarray:
    """Rounded to whole numbers, halves away from zero, as C's round does; floats of x's dtype.

    >>> away_from_zero(np.array([0.5, -0.5, 1.4, 0.49999997], np.float32))
    array([ 1., -1.,  1.,  0.], dtype=float32)
    """
    whole = np.trunc(x)
    return whole + np.copysign(np.abs(x - whole) >= 0.5, x)


def rescale_in_float32(x: np.ndarray, factor: np.ndarray | float) -> np.ndarray:
    """x * factor in float32, halves to the even neighbor, as the processor rounds. Returns int64.

    >>> rescale_in_float32(np.array([2, -2, 6, 1000]), 0.25)
    array([  0,   0,   2, 250])
    """
    product = x.astype(np.float32) * np.asarray(factor, np.float32)
    return np.rint(product).astype(np.int64)
