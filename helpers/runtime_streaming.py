"""A .tflite file of one time step, run over windows: the loop that a device runs. NumPy and LiteRT.

The file has a signature "step" that reads x and a state and returns the next state and logits, as
helpers.convert.to_streaming_tflite writes it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping

import numpy as np

from helpers.arguments import one_of, whole
from helpers.deployed import Tensor, as_array
from helpers.runtime import read_tflite
from helpers.runtime_litert import KERNELS, open_interpreter, tensor_of

SIGNATURE = "step"
BATCH = 256  # windows that run side by side; the rows of a batch do not meet


def open_stream(
    path_or_bytes: str | os.PathLike | bytes, threads: int = 1, runtime: str = "litert"
) -> Stream:
    """The network behind a file of one time step: the path of a .tflite file, or its bytes.

    runtime: "litert", "litert-builtin" or "litert-reference", as helpers.runtime.open_model.
    Raises ValueError for another runtime, a file without a signature "step", or whose inputs and
    outputs are not one x, states under the same names on both sides, and logits;
    FileNotFoundError; TypeError.

    >>> open_stream(b"not a model")
    Traceback (most recent call last):
    ValueError: the model (11 bytes) is not a .tflite file: bytes 4 to 8 are b'a mo' instead of \
b'TFL3'; convert the model again
    """
    one_of("runtime", runtime, KERNELS)
    return Stream(read_tflite(path_or_bytes), whole("threads", threads), runtime)


def requantize(q: np.ndarray, source: Tensor, target: Tensor) -> np.ndarray:
    """Integers with the source's scale and zero point as integers with the target's.

    >>> source, target = Tensor((1,), np.int8, 0.02, 0), Tensor((1,), np.int8, 0.01, -28)
    >>> requantize(np.array([50], np.int8), source, target)  # both stand for 1.0
    array([72], dtype=int8)
    """
    same = (source.dtype, source.scale, source.zero_point) == (
        target.dtype,
        target.scale,
        target.zero_point,
    )
    return q if same else target.quantize(source.dequantize(q))


class Stream:
    """A network that is run one time step after the other; threads may share it, and wait.

    size_bytes: of the file. inputs, outputs: {name: Tensor}, with scales and zero points. states:
    the names that are in both.
    """

    def __init__(self, content: bytes, threads: int = 1, runtime: str = "litert"):
        self.size_bytes = len(content)
        self._interpreter = open_interpreter(content, KERNELS[runtime], threads)
        signatures = self._interpreter.get_signature_list()
        if SIGNATURE not in signatures:
            raise ValueError(
                f"the model has the signatures {list(signatures)}, and not {SIGNATURE!r}: convert "
                "a recurrent network with helpers.convert.to_streaming_tflite"
            )
        runner = self._interpreter.get_signature_runner(SIGNATURE)
        given, result = runner.get_input_details(), runner.get_output_details()
        self.states = tuple(sorted(given.keys() - {"x"}))
        if "x" not in given or result.keys() != {*self.states, "logits"} or not self.states:
            raise ValueError(
                f"the step reads {sorted(given)} and returns {sorted(result)}: expected x and a "
                "state, the same state and logits"
            )
        self.inputs = {name: tensor_of(f"input {name}", d) for name, d in given.items()}
        self.outputs = {name: tensor_of(f"output {name}", d) for name, d in result.items()}
        self._given = {name: d["index"] for name, d in given.items()}
        self._result = {name: d["index"] for name, d in result.items()}
        self._rows = 0  # for which the interpreter has memory
        self._lock = threading.Lock()  # from the first step of a batch to its last

    def predict(self, windows: np.ndarray, carry: Callable = requantize) -> np.ndarray:
        """Logits float32 [N, C] of windows float32 [N, time, features]: their mean over the steps.

        Each window starts from a state of zero. carry(integers, from this output Tensor, to this
        input Tensor) is what happens to a state between two steps. Raises TypeError and ValueError
        for other windows, and for NaN and infinity where the file reads integers.
        """
        windows = as_array("windows", windows)
        if windows.dtype != np.float32:
            raise TypeError(f"windows have dtype {windows.dtype}: pass float32")
        if (
            windows.ndim != 3
            or windows.shape[1] == 0
            or windows.shape[2:] != self.inputs["x"].shape
        ):
            expected = ", ".join(map(str, ("N", "time", *self.inputs["x"].shape)))
            raise ValueError(f"windows have shape {windows.shape}: expected [{expected}]")
        logits = np.empty((len(windows), *self.outputs["logits"].shape), np.float32)
        with self._lock:
            for start in range(0, len(windows), BATCH):
                part = slice(start, start + BATCH)
                logits[part] = self._run(self.inputs["x"].quantize(windows[part]), carry)
        return logits

    def _run(self, x: np.ndarray, carry: Callable) -> np.ndarray:
        """x [N, time, features] as the file reads it -> the mean of the logits over time."""
        state = {name: self._zero(name, len(x)) for name in self.states}
        total = np.zeros((len(x), *self.outputs["logits"].shape))
        for t in range(x.shape[1]):
            after = self._step({"x": x[:, t], **state})
            total += self.outputs["logits"].dequantize(after["logits"])
            state = {n: carry(after[n], self.outputs[n], self.inputs[n]) for n in self.states}
        return total / x.shape[1]

    def step(self, given: Mapping) -> dict:
        """One time step: {name: [N, ...]} of all inputs, as the file reads them -> its outputs.

        A quantized file reads and returns integers. Raises TypeError and ValueError for others.
        """
        if given.keys() != self.inputs.keys():
            raise ValueError(f"the step reads {sorted(self.inputs)}, not {sorted(given)}")
        values = {name: as_array(name, array) for name, array in given.items()}
        for name, array in values.items():
            tensor = self.inputs[name]
            if array.dtype != tensor.dtype:
                raise TypeError(f"{name} has dtype {array.dtype}: pass {tensor.dtype}")
            if array.shape[1:] != tensor.shape or len(array) != len(values["x"]) or not len(array):
                raise ValueError(f"{name} has shape {array.shape}: expected [N, *{tensor.shape}]")
        with self._lock:
            return self._step(values)

    def _step(self, given: Mapping) -> dict:
        rows = len(given["x"])
        if rows != self._rows:
            self._resize(rows)
            self._rows = rows
        for name, values in given.items():
            self._interpreter.set_tensor(self._given[name], values)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(i) for name, i in self._result.items()}

    def _zero(self, name: str, rows: int) -> np.ndarray:
        return self.inputs[name].quantize(np.zeros((rows, *self.inputs[name].shape), np.float32))

    def _resize(self, rows: int) -> None:
        for name, index in self._given.items():
            self._interpreter.resize_tensor_input(index, (rows, *self.inputs[name].shape))
        self._interpreter.allocate_tensors()
