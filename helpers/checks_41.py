"""Checks of lesson 41, TFLite conversion."""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare

MODES = ("float32", "float16", "dynamic", "int8", "int16x8")


def bytes_each(
    mode,
    role,
    elements,
    *,
    bias8=4,
    weight16=1,
    bias16=8,
    least=1024,
    half=("weight", "bias"),
    ranged=("weight",),
):
    """The rule of 41.0, or with an option changed, one of its mistakes."""
    if mode == "int8":
        return bias8 if role == "bias" else 1
    if mode == "int16x8":
        return {"weight": weight16, "bias": bias16}.get(role, 2)
    if mode == "float16":
        return 2 if role in half else 4
    return 1 if mode == "dynamic" and role in ranged and elements >= least else 4


@exercise(
    "41.0",
    bytes_each,
    {
        "in int8 the bias is added to products: it needs 32 bits": {"bias8": 1},
        "int16x8: 16 bits for activations, 8 for weights": {"weight16": 2},
        "with 16-bit activations the biases have 64 bits": {"bias16": 4},
        "dynamic leaves weights of fewer than 1,024 elements in float32": {"least": 0},
        "dynamic quantizes weights of exactly 1,024 elements, too": {"least": 1025},
        "float16 stores halves, but computes in float32: activations have 4 bytes": {
            "half": ("weight", "bias", "activation", "input")
        },
        "float16 halves the biases, too": {"half": ("weight",)},
        "dynamic keeps activations in float32, and quantizes them as it runs": {
            "ranged": ("weight", "activation", "input")
        },
        "dynamic keeps every bias in float32": {"ranged": ("weight", "bias")},
        "bytes are asked for, not bits": lambda *case: 8 * bytes_each(*case),
    },
)
def check_bytes_each(answer: Answer) -> None:
    """A number of bytes."""
    sizes = {"input": 784, "activation": 12544, "weight": 2304, "bias": 16}
    cases = [(mode, role, sizes[role]) for mode in MODES for role in sizes]
    cases += [(mode, "weight", n) for mode in MODES for n in (144, 1023, 1024)]
    cases += [("dynamic", "bias", 2000)]
    compare(answer, cases, "bytes")


def activation_params(low, high, *, zero=True, steps=255, offset=-128, sign=-1, whole=True):
    """The scale and zero point of 41.1, or with an option changed, one of its mistakes."""
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / steps
    zero_point = offset + sign * low / scale
    return scale, round(zero_point) if whole else zero_point


@exercise(
    "41.1",
    activation_params,
    {
        "the range must hold 0: padding and ReLU need an integer for it": {"zero": False},
        "256 levels have 255 steps between them": {"steps": 256},
        "int8 begins at -128: low must become -128": {"offset": 0},
        "int8 goes from -128 to 127, and low becomes -128, not 127": {"offset": 127},
        "low is subtracted: with low = -0.1 the zero point lies above -128": {"sign": 1},
        "the zero point is an integer": {"whole": False},
        "activations are not symmetric: the range is from low to high": lambda low, high: (
            max(abs(low), abs(high)) / 127,
            0,
        ),
    },
)
def check_activation_params(answer: Answer) -> None:
    """A scale and a zero point."""
    cases = [(-0.1, 0.6), (0.0, 2.985), (-14.3, 21.7), (0.5, 3.0), (-4.0, -1.0), (-1.0, 1.0)]
    compare(answer, cases, "scale, zero_point")


def takes_pixels(scale, zero_point, *, shift=128, exact=True, all_of=True):
    """The verdict of 41.3 as 0 or 1, or with an option changed, one of its mistakes."""
    pixels = np.arange(256)
    stored = np.rint(pixels / 255 / scale) + zero_point
    if not exact:
        return int(abs(scale - 1 / 255) < 1e-6)
    right = stored == pixels - shift
    return int(right.all() if all_of else right.any())


@exercise(
    "41.3",
    takes_pixels,
    {
        "the zero point must be right as well": {"exact": False},
        "int8 begins at -128: pixel 0 must become -128": {"shift": 0},
        "every pixel from 0 to 255 must fit, not one": {"all_of": False},
        "the model reads pixels / 255, not pixels": lambda scale, zero_point: int(
            (np.rint(np.arange(256) / scale) + zero_point == np.arange(256) - 128).all()
        ),
        "a scale from a file has 32 bits: compare integers, not floats": lambda s, z: int(
            s == 1 / 255 and z == -128
        ),
    },
)
def check_takes_pixels(answer: Answer) -> None:
    """True or False."""
    near = float(np.float32(1 / 255))
    cases = [(1 / 255, -128), (near, -128), (1.0, -128), (near, 0), (near, -127), (2 * near, -128)]
    cases += [(near / 255, -128), (0.5 * near, -128), (near, 127), (1.001 * near, -128)]
    cases += [(1.003 * near, -128)]

    def verdict(function, scale, zero_point):
        given = function(scale, zero_point)
        return int(given) if isinstance(given, bool | np.bool) else given

    compare(answer, cases, "the verdict", run=verdict)


def dynamic_bytes(weights, biases, *, least=1024, each=1, bias=4, small=4):
    """The bytes of 41.2, or with an option changed, one of its mistakes."""
    weights, biases = np.asarray(weights), np.asarray(biases)
    large = weights >= least
    return int(weights[large].sum() * each + weights[~large].sum() * small + biases.sum() * bias)


@exercise(
    "41.2",
    dynamic_bytes,
    {
        "weights of fewer than 1,024 elements stay float32: 4 bytes each": {"small": 1},
        "that is all in float32: large weights take one byte each": {"each": 4},
        "biases stay float32: 4 bytes each": {"bias": 1},
        "biases count, too": {"bias": 0},
        "1,024 is large enough": {"least": 1025},
        "the limit is for each layer's weights, not for their sum": lambda weights, biases: int(
            (1 if np.sum(weights) >= 1024 else 4) * np.sum(weights) + 4 * np.sum(biases)
        ),
    },
)
def check_dynamic_bytes(answer: Answer) -> None:
    """A number of bytes."""
    cases = [([144, 2304], [16, 16]), ([1024], [8]), ([1023, 500, 600], [1, 2, 3])]
    cases += [([235200, 30000, 1000], [300, 100, 10]), ([10, 20], [2000, 1])]
    compare(answer, [tuple(np.array(part) for part in case) for case in cases], "bytes")
