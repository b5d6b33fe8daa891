"""Checks of the exercises of part 2."""

from __future__ import annotations

import numpy as np

from helpers.checks import NotYet, attempt, exercise


@exercise("21.1")
def _(unsigned_params) -> None:
    for low, high, bits in (
        (-1.0, 3.5, 8),
        (-1.0, 3.0, 8),
        (0.5, 2.0, 8),
        (-3.0, -1.0, 8),
        (-1.0, 2.5, 4),
    ):
        given = f"low={low}, high={high}, {bits} bits"
        result = attempt(unsigned_params, low, high, bits)
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise NotYet("return two values: scale, zero_point")
        scale, zero_point = (float(value) for value in result)
        bottom, top = min(low, 0.0), max(high, 0.0)
        steps = 2**bits - 1
        expected = (top - bottom) / steps
        if not np.isclose(scale, expected, rtol=1e-5):
            if np.isclose(scale, (high - low) / steps, rtol=1e-5):
                raise NotYet(f"{given}: zero lies outside; stretch the range until it contains 0")
            if np.isclose(scale, (top - bottom) / 2**bits, rtol=1e-5):
                raise NotYet(f"2^{bits} levels have 2^{bits} - 1 steps between them")
            raise NotYet(f"{given}: the scale is {scale:.6g}, expected {expected:.6g}")
        if zero_point != round(zero_point):
            raise NotYet(f"{given}: zero point {zero_point:.3f}, but zero must lie on an integer")
        wanted = round(-bottom / expected)
        if zero_point == wanted:
            continue
        if zero_point == wanted - 2 ** (bits - 1):
            raise NotYet(
                "that is the signed zero point: unsigned integers begin at 0, not at -2^(bits-1)"
            )
        if zero_point == -wanted:
            raise NotYet("the sign is wrong: low = scale * (0 - zero_point)")
        raise NotYet(
            f"{given}: zero point {zero_point:g}, expected {wanted}; round, do not cut off"
        )


def _errors(x, bits, thresholds, clip=True, power=2) -> list[float]:
    """The total error of each threshold."""
    found = []
    for threshold in thresholds:
        top = 2 ** (bits - 1) - 1
        q = np.rint(x / (threshold / top))
        q = np.clip(q, -top, top) if clip else q
        found.append(float((np.abs(x - q * threshold / top) ** power).sum()))
    return found


@exercise("21.2")
def _(best_threshold) -> None:
    draw = np.random.default_rng(0)
    bell = draw.normal(size=10_000)
    heavy = draw.standard_t(3, size=10_000)
    cases = [
        (bell, 4, np.array([1.6, 2.1, 2.5, 3.0, 4.0, 12.0])),
        (heavy, 3, np.linspace(1, 30, 30)),
    ]
    cases.append((heavy, 4, np.linspace(20, 1, 39)))
    for x, bits, thresholds in cases:
        before = x.copy()
        result = attempt(best_threshold, x, bits, thresholds)
        if not np.array_equal(x, before):
            raise NotYet("x has changed: work on a new array")
        if np.ndim(result) != 0:
            raise NotYet(f"one threshold is asked for, not an array of shape {np.shape(result)}")
        errors = _errors(x, bits, thresholds)
        if np.isclose(result, thresholds[np.argmin(errors)]):
            continue
        if np.isclose(result, errors, rtol=1e-3).any():
            raise NotYet("that is the error: return the threshold that belongs to it")
        if result == np.argmin(errors) and result not in thresholds:
            raise NotYet("that is the place in the list: return thresholds[place]")
        if np.isclose(result, thresholds[np.argmin(_errors(x, bits, thresholds, clip=False))]):
            raise NotYet("without a clip the finest step always wins: clip the integers")
        if np.isclose(result, thresholds[np.argmax(errors)]):
            raise NotYet("that one has the largest error: take the smallest")
        if np.isclose(result, thresholds[np.argmin(_errors(x, bits, thresholds, power=1))]):
            raise NotYet("that is the best for the absolute error: square the errors")
        if np.isclose(result, thresholds[np.argmin(_errors(x, bits + 1, thresholds))]):
            raise NotYet("signed integers reach 2^(bits-1) - 1: one bit is the sign")
        raise NotYet(f"{bits} bits: {result}, expected {thresholds[np.argmin(errors)]:g}")


@exercise("21.3")
def _(round_to_e2m1) -> None:
    sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    ties = (sizes[1:] + sizes[:-1]) / 2
    even = np.array([0, 1, 1, 2, 2, 4, 4.0])
    plain = np.array([0.2, 0.3, 0.7, 1.1, 1.3, 1.6, 1.9, 2.2, 2.6, 3.4, 3.6, 4.9, 5.1])
    nearest = np.array([0, 0.5, 0.5, 1, 1.5, 1.5, 2, 2, 3, 3, 4, 4, 6.0])

    def answer(x):
        result = np.asarray(attempt(round_to_e2m1, x.copy()), float)
        if result.shape != x.shape:
            raise NotYet(f"an array of shape {x.shape} became one of shape {result.shape}")
        return result

    if not np.array_equal(answer(sizes[1:]), sizes[1:]):
        missing = sizes[1:][answer(sizes[1:]) != sizes[1:]]
        if missing[0] == 0.5:
            raise NotYet("0.5 is one of the numbers: below 1 the step stays 0.5 (subnormal)")
        raise NotYet(f"{missing[0]:g} is one of the numbers, and it became another one")
    if not np.array_equal(answer(plain), nearest):
        at = int(np.argmax(answer(plain) != nearest))
        raise NotYet(f"{plain[at]} became {answer(plain)[at]:g}, and {nearest[at]:g} is nearest")
    large = answer(np.array([6.5, 7.0, 99.0, np.inf]))
    if not (large == 6).all():
        raise NotYet(f"99 became {large[2]:g}: nothing is larger than 6, so it becomes 6")
    if not np.array_equal(answer(-plain), -nearest):
        raise NotYet(f"-1.3 became {answer(np.array([-1.3]))[0]:g}: keep the sign")
    if not np.array_equal(answer(ties), even):
        at = int(np.argmax(answer(ties) != even))
        raise NotYet(
            f"{ties[at]} lies in the middle and became {answer(ties)[at]:g}: the even mantissa is "
            f"that of {even[at]:g}"
        )
    grid = answer(np.array([[0.0, -6.0], [2.9, -0.1]]))
    if not np.array_equal(grid, [[0, -6], [3, 0]]):
        raise NotYet(f"[[0, -6], [2.9, -0.1]] became {grid.tolist()}")
