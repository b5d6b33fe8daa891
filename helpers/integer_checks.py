"""What an operator of an int8 .tflite file must be before it is run: files are checked first."""

from __future__ import annotations

import numpy as np

from helpers.tflite_file import Operator, StoredTensor

OUTPUTS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": -1, "FULLY_CONNECTED": 0}  # axis of the weights
RANK = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "FULLY_CONNECTED": 2}
ARGUMENTS = {"ADD": 2, "SUB": 2, "MUL": 2, "MEAN": 2, "PAD": 2, "SPLIT": 2, "RESHAPE": None}
LARGEST = 2**24  # values in one tensor: files of the course have some thousands


def check_operator(op: Operator) -> None:
    """ValueError unless the operator has what its kind needs, in int8, and of sane sizes."""
    if not op.outputs or not op.inputs:
        raise ValueError(f"has {len(op.inputs)} inputs and {len(op.outputs)} outputs")
    for tensor in (*op.inputs, *op.outputs):
        if tensor.values is None:
            check_activation(tensor)
    if op.name in OUTPUTS:
        return check_layer(op)
    expected = ARGUMENTS.get(op.name, 1)
    if expected and len(op.inputs) != expected:
        raise ValueError(f"has {len(op.inputs)} inputs: expected {expected}")
    for tensor in op.inputs:
        if tensor.values is not None and tensor.kind == "INT8":
            check_scales(tensor, 1)
    same = op.name in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "PAD", "RESHAPE", "SPLIT")
    ends = [t for t in (*op.inputs, *op.outputs) if t.kind == "INT8"]
    if same and len({(t.scales[0], t.zero_points[0]) for t in ends}) > 1:
        raise ValueError("has another scale or zero point at its output, which it cannot change")


def check_activation(tensor: StoredTensor) -> None:
    """ValueError unless it is int8 with one scale and zero point, and a batch of 1."""
    if tensor.kind != "INT8":
        raise ValueError(
            f"tensor {tensor.name!r} is {tensor.kind}: IntegerModel runs files of int8 alone; "
            "convert with mode 'int8'"
        )
    shape = tensor.shape
    if shape[:1] != (1,) or min(shape) < 1 or np.prod(shape, dtype=float) > LARGEST:
        raise ValueError(f"tensor {tensor.name!r} has shape {shape}: expected a batch of 1")
    check_scales(tensor, 1)


def check_scales(tensor: StoredTensor, count: int) -> None:
    """ValueError unless it has `count` scales above zero, and zero points that are int8."""
    scales, zero_points = tensor.scales, tensor.zero_points
    if len(scales) != count or len(zero_points) != count:
        raise ValueError(
            f"tensor {tensor.name!r} has {len(scales)} scales and {len(zero_points)} zero points: "
            f"expected {count}"
        )
    if not (np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny)).all():
        raise ValueError(f"tensor {tensor.name!r} has a scale of {scales.min()}")
    if zero_points.min() < -128 or zero_points.max() > 127:
        raise ValueError(f"tensor {tensor.name!r} has a zero point outside int8")


def weights_of(op: Operator) -> StoredTensor | None:
    """The weights of a layer, None for operators without."""
    return op.inputs[1] if op.name in OUTPUTS else None


def check_layer(op: Operator) -> None:
    """ValueError unless weights are symmetric int8, and the bias int32, one for each output."""
    if not 2 <= len(op.inputs) <= 3:
        raise ValueError(f"has {len(op.inputs)} inputs: expected x, weights and a bias")
    x, w, *biases = op.inputs
    if w.kind != "INT8" or w.values is None or len(w.shape) != RANK[op.name]:
        raise ValueError(f"has weights {w.name!r} of {w.kind} {w.shape}: expected stored int8")
    axis, outputs = OUTPUTS[op.name], w.shape[OUTPUTS[op.name]]
    check_scales(w, 1 if len(w.scales) == 1 else outputs)
    if w.zero_points.any():
        raise ValueError(f"has weights {w.name!r} with a zero point: expected 0")
    reads = x.shape[-1] if len(w.shape) == 4 else int(np.prod(x.shape))
    fits = {"DEPTHWISE_CONV_2D": w.shape[0] == 1 and outputs % reads == 0}
    if op.outputs[0].shape[-1] != outputs or not fits.get(op.name, w.shape[-1] == reads):
        raise ValueError(f"has weights {w.name!r} of shape {w.shape} for an input of {x.shape}")
    others = tuple(np.delete(range(len(w.shape)), axis))
    largest = 255 * np.abs(w.values.astype(np.int64)).sum(others)
    for bias in biases:
        if bias.kind != "INT32" or bias.values is None or bias.shape != (outputs,):
            raise ValueError(f"has a bias {bias.name!r} of {bias.kind} {bias.shape}")
        largest += np.abs(bias.values.astype(np.int64))
    if largest.max() >= 2**31:
        raise ValueError(f"has weights {w.name!r} whose sums may leave int32")
