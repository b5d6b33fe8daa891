"""An int8 .tflite file, run in NumPy's integers as LiteRT's kernels run it, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping

import numpy as np
from threadpoolctl import ThreadpoolController

from helpers import integer_layers as layers
from helpers import integer_ops as ops
from helpers.arguments import one_of
from helpers.deployed import Tensor, as_array
from helpers.integer_checks import check_activation, check_operator, weights_of
from helpers.runtime import read_tflite
from helpers.tflite_file import Operator, StoredTensor, operators, signature

ROUNDINGS = ("reference", "xnnpack")
IN_CACHE = 2**17  # values of the largest tensor that are worked on at a time
BLAS = ThreadpoolController()
KERNELS = {
    "CONV_2D": layers.conv_2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv_2d,
    "FULLY_CONNECTED": layers.fully_connected,
    "ADD": ops.add,
    "SUB": ops.add,
    "MUL": ops.mul,
    "RELU": ops.relu,
    "MAX_POOL_2D": ops.max_pool_2d,
    "AVERAGE_POOL_2D": ops.average_pool_2d,
    "MEAN": ops.mean,
    "LOGISTIC": ops.table,
    "TANH": ops.table,
    "SOFTMAX": ops.softmax,
    "PAD": ops.pad,
    "RESHAPE": ops.reshape,
    "SPLIT": ops.split,
}


class IntegerModel:
    """An int8 .tflite file as a function of int8 arrays, for batches of any size.

    path_or_bytes: a file or its content, as helpers.convert.to_tflite(model, "int8", ...) or
    to_streaming_tflite makes it; a batch of 1 in the file.
    rounding: "reference" gives the integers of LiteRT's reference kernels (and TFLite Micro's),
    "xnnpack" those of XNNPACK, which runs on phones by default.
    inputs, outputs: {name: Tensor}, with scales and zero points; the names of the file's signature
    if it has one.

    Raises ValueError for damaged files, an operator that is not in KERNELS, tensors that are no
    integers, and in "xnnpack" for factors that XNNPACK leaves to other kernels; FileNotFoundError;
    TypeError. The message names the operator or tensor.
    """

    def __init__(self, path_or_bytes: str | os.PathLike | bytes, rounding: str = "reference"):
        one_of("rounding", rounding, ROUNDINGS)
        content = read_tflite(path_or_bytes)
        self.operators = operators(content)
        self._given, self._result = signature(content)
        self.inputs = {name: described(tensor) for name, tensor in self._given.items()}
        self.outputs = {name: described(tensor) for name, tensor in self._result.items()}
        self._steps = []
        known = {t.index: np.zeros((1, *t.shape[1:]), np.int8) for t in self._given.values()}
        for number, op in enumerate(self.operators):
            self._steps.append(prepared(f"operator {number}, {op.name},", op, rounding, known))
        for name, tensor in self._result.items():
            if tensor.index not in known:
                raise ValueError(f"no operator computes the output {name!r}: convert it again")
        self._rows = max(1, IN_CACHE // max(values.size for values in known.values()))

    def run(self, x: np.ndarray | Mapping) -> np.ndarray | dict:
        """int8 [N, ...] -> int8 [N, C]; a dictionary of inputs by name -> one of outputs by name.

        A pixel p of an image model is p - 128: `(images.astype(np.int16) - 128).astype(np.int8)`;
        the images may lack the channel axis. Raises TypeError and ValueError for other arrays.
        """
        found = self.activations(x, {tensor.index for tensor in self._result.values()})
        outputs = {name: found[tensor.index] for name, tensor in self._result.items()}
        return outputs if isinstance(x, Mapping) else outputs.popitem()[1]

    def activations(self, x: np.ndarray | Mapping, kept: Collection | None = None) -> dict:
        """{index in the file: int8 [N, ...]} of what stands in each tensor on the way.

        kept: only these indices. x, errors: as run.
        """
        given = self._checked(x)
        n = len(next(iter(given.values())))
        parts = []
        with BLAS.limit(limits=1, user_api="blas"):  # two threads wait more than they multiply
            for start in range(0, n, self._rows):
                values = {index: q[start : start + self._rows] for index, q in given.items()}
                for step in self._steps:
                    step(values)
                parts.append({i: q for i, q in values.items() if kept is None or i in kept})
        return {index: np.concatenate([part[index] for part in parts]) for index in parts[0]}

    def _checked(self, x: np.ndarray | Mapping) -> dict[int, np.ndarray]:
        """{index: int8 [N, *shape]}, as many rows for each input, at least one."""
        if not isinstance(x, Mapping):
            x = dict.fromkeys(self.inputs, x) if len(self.inputs) == 1 else {}
        if x.keys() != self.inputs.keys():
            raise ValueError(f"the model reads {list(self.inputs)}: pass a dictionary of these")
        given = {}
        for name, tensor in self._given.items():
            q, shape = as_array(f"input {name!r}", x[name]), tensor.shape[1:]
            if q.dtype != np.int8:
                raise TypeError(
                    f"input {name!r} has dtype {q.dtype}: pass int8; images uint8 become "
                    "(images.astype(np.int16) - 128).astype(np.int8)"
                )
            if q.ndim == len(shape) and shape[-1] == 1:
                q = q[..., None]
            if q.shape[1:] != shape or len(q) == 0:
                expected = ", ".join(map(str, ("N", *shape)))
                raise ValueError(f"input {name!r} has shape {q.shape}: expected [{expected}]")
            given[tensor.index] = q
        rows = {len(q) for q in given.values()}
        if len(rows) > 1:
            raise ValueError(f"the inputs have {sorted(rows)} rows: pass as many of each")
        return given


def prepared(where: str, op: Operator, rounding: str, known: dict) -> Callable[[dict], None]:
    """A function that computes the operator's outputs into {index: int8}, tried once on zeros.

    where: what to call the operator in a message. known: zeros in the tensors computed so far;
    gains this operator's outputs. ValueError for what the operator cannot be.
    """
    if op.name not in KERNELS:
        raise ValueError(f"{where} is unknown to IntegerModel, which knows {', '.join(KERNELS)}")
    try:
        check_operator(op)
        kernel = KERNELS[op.name](op, rounding)
        read = [t for t in op.inputs if t.kind == "INT8" and t is not weights_of(op)]
        stored = {t.index: t.values for t in read if t.values is not None}
        missing = [t.name for t in read if t.index not in known and t.index not in stored]
        if missing:
            raise ValueError(f"reads {missing}, which nothing computes before it")
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} {error}") from error

    def step(values: dict) -> None:
        found = kernel(*(stored.get(t.index, values.get(t.index)) for t in read))
        values.update(zip(written, found if len(written) > 1 else [found], strict=True))

    written = [t.index for t in op.outputs]
    try:
        step(known)
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{where} does not fit its inputs: {error}") from error
    for tensor in op.outputs:
        if known[tensor.index].shape != tensor.shape:
            raise ValueError(
                f"{where} makes {known[tensor.index].shape} for tensor {tensor.name!r} of shape "
                f"{tensor.shape}: the file is damaged; convert the model again"
            )
    return step


def described(tensor: StoredTensor) -> Tensor:
    """An input or output as the other runtimes describe it."""
    check_activation(tensor)
    return Tensor(tensor.shape[1:], np.int8, tensor.scales[0], tensor.zero_points[0])
