"""What a C kernel needs of an operator of a .tflite file: its constants, and its sizes and limits.

Each function here returns two dictionaries, {name: array} and {field of the C struct: integer}, and
raises ValueError, "is dilated: ...", for an operator of a form that the kernels in helpers/c lack.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.fixed_point import multiplier_and_shift
from helpers.integer_ops import SAME, limits
from helpers.tflite_file import Operator, StoredTensor

SUMS = 2**30  # the rounding shift adds at most half of it


def factor_of(factor: float) -> tuple[int, int]:
    """(m, n) of one factor."""
    m, shift = multiplier_and_shift(np.float64(factor))
    return int(m), -int(shift)


def weighted(op: Operator) -> tuple[dict, dict]:
    """What convolutions and dense layers share: weights, bias, factors, limits."""
    x, w, *rest = op.inputs
    (y,) = op.outputs
    bias = rest[0].values if rest else np.zeros(len(w.values), np.int32)
    sums = 255 * np.abs(w.values.astype(np.int64)).reshape(len(w.values), -1).sum(1)
    largest = (sums + np.abs(bias.astype(np.int64))).max()
    factors = np.broadcast_to(x.scales.astype(np.float64) * w.scales / y.scales, len(w.values))
    m, shift = multiplier_and_shift(factors)
    if largest >= SUMS:
        raise ValueError(f"has sums up to {largest}: the kernels take less than {SUMS}")
    if shift.max() > 30:
        raise ValueError(f"multiplies by {factors.max():.3g}: the kernels take less than 2^30")
    low, high = limits(op, "reference")
    arrays = {"weights": w.values, "bias": bias, "m": m.astype(np.int32)}
    arrays["n"] = (-shift).astype(np.int8)
    fields = {"x_zero": int(x.zero_points[0]), "zero": int(y.zero_points[0])}
    return arrays, fields | {"low": low, "high": high}


def around(op: Operator, kernel: Sequence[int]) -> dict:
    """Sizes of input and output, steps, and the rows and columns of padding before the image."""
    (_, in_h, in_w, _), (_, out_h, out_w, _) = op.inputs[0].shape, op.outputs[0].shape
    step_h, step_w = op.options["strideH"], op.options["strideW"]
    if {op.options.get("dilationHFactor", 1), op.options.get("dilationWFactor", 1)} != {1}:
        raise ValueError("is dilated: the kernels are not")
    missing = [0, 0]
    if op.options["padding"] == SAME:
        missing = [
            max((out - 1) * step + k - n, 0)
            for out, step, k, n in zip(
                (out_h, out_w), (step_h, step_w), kernel, (in_h, in_w), strict=True
            )
        ]
    return {
        **{"in_h": in_h, "in_w": in_w, "out_h": out_h, "out_w": out_w},
        **{"k_h": kernel[0], "k_w": kernel[1], "step_h": step_h, "step_w": step_w},
        **{"top": missing[0] // 2, "left": missing[1] // 2},
    }


def conv_2d(op: Operator) -> tuple[dict, dict]:
    """Weights [O, kh, kw, I]."""
    arrays, fields = weighted(op)
    out_c, *kernel, in_c = op.inputs[1].shape
    if in_c != op.inputs[0].shape[3]:
        raise ValueError("has groups: the kernels have none")
    return arrays, {**around(op, kernel), "in_c": in_c, "out_c": out_c, **fields}


def fully_connected(op: Operator) -> tuple[dict, dict]:
    """Weights [O, I], one row of input."""
    arrays, fields = weighted(op)
    out, width = op.inputs[1].shape
    if np.prod(op.inputs[0].shape) != width:
        raise ValueError(f"reads {op.inputs[0].shape}: the kernel takes one row of {width}")
    return arrays, {"in": width, "out": out, **fields}


def add(op: Operator) -> tuple[dict, dict]:
    """Two computed tensors of one shape."""
    a, b = op.inputs
    (y,) = op.outputs
    if a.shape != y.shape or b.shape != y.shape or not computed(a, b):
        raise ValueError(f"adds {a.shape} and {b.shape}: the kernel takes two computed, alike")
    s_a, s_b, s_y = (np.float64(t.scales[0]) for t in (a, b, y))
    common = 2 * max(s_a, s_b)
    fields: dict = {"size": int(np.prod(y.shape))}
    for name, factor in zip(
        "aby", (s_a / common, s_b / common, common / (s_y * 2**20)), strict=True
    ):
        fields[f"{name}_m"], fields[f"{name}_n"] = factor_of(factor)
    for name, tensor in zip("aby", (a, b, y), strict=True):
        fields[f"{name}_zero"] = int(tensor.zero_points[0])
    low, high = limits(op, "reference")
    return {}, fields | {"low": low, "high": high}


def max_pool_2d(op: Operator) -> tuple[dict, dict]:
    """The largest of each window."""
    kernel = op.options["filterHeight"], op.options["filterWidth"]
    low, high = limits(op, "reference")
    channels = op.inputs[0].shape[3]
    return {}, {**around(op, kernel), "channels": channels, "low": low, "high": high}


def mean(op: Operator) -> tuple[dict, dict]:
    """Over height and width; the factor as helpers.integer_ops.mean has it."""
    x, axes = op.inputs
    (y,) = op.outputs
    over = sorted(int(axis) % len(x.shape) for axis in axes.values.ravel())
    if len(x.shape) != 4 or over != [1, 2]:
        raise ValueError(f"is over the axes {over} of {x.shape}: the kernel takes height and width")
    count = x.shape[1] * x.shape[2]
    m, n = factor_of(np.float64(x.scales[0]) / y.scales[0])
    gained = min(count.bit_length() - 1, 31 - n)
    m, n = (m << gained) // count, n + gained
    fields = {"places": count, "channels": x.shape[3], "m": m, "left": max(-n, 0)}
    fields["offset"] = -count * int(x.zero_points[0])
    return {}, {**fields, "right": max(n, 0), "y_zero": int(y.zero_points[0])}


def pad(op: Operator) -> tuple[dict, dict]:
    """Rows and columns around the image."""
    x, widths = op.inputs[:2]
    (_, in_h, in_w, channels), (_, out_h, out_w, out_c) = x.shape, op.outputs[0].shape
    before = widths.values[:, 0].tolist()
    if out_c != channels or before[0] or before[3]:
        raise ValueError("pads batch or channels: the kernel pads height and width")
    sizes = {"in_h": in_h, "in_w": in_w, "channels": channels, "out_h": out_h, "out_w": out_w}
    return {}, {**sizes, "top": before[1], "left": before[2], "value": int(x.zero_points[0])}


def computed(*tensors: StoredTensor) -> bool:
    """Whether none of them is stored in the file."""
    return all(t.values is None for t in tensors)


LAYERS = {
    "CONV_2D": conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "ADD": add,
    "MAX_POOL_2D": max_pool_2d,
    "MEAN": mean,
    "PAD": pad,
}
