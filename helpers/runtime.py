"""One interface over deployed model files. It imports NumPy and a runtime, no training library."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.arguments import one_of, whole
from helpers.quiet import captured_stderr

RUNTIMES = {
    "litert": "BUILTIN",
    "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "litert-reference": "BUILTIN_REF",
}
IMAGE_SHAPE = (28, 28, 1)


def open_model(
    path_or_bytes: str | os.PathLike | bytes, runtime: str = "litert", threads: int = 1
) -> LiteRTModel:
    """A deployed model, ready to run: the path of a .tflite file, or its bytes.

    runtime: "litert" hands what it can to XNNPACK's kernels, as phones do by default;
    "litert-builtin" runs LiteRT's own optimized kernels; "litert-reference" its plain C++ loops,
    which are slow and define what the integer operations mean.
    Raises ValueError for an unknown runtime, a thread count below 1, and bytes that are not a whole
    .tflite model of the kind that `LiteRTModel` runs; FileNotFoundError; TypeError.

    >>> open_model(b"not a model")
    Traceback (most recent call last):
    ValueError: the model (11 bytes) is not a .tflite file: bytes 4 to 8 are b'a mo' instead of \
b'TFL3'; convert the model again
    """
    one_of("runtime", runtime, RUNTIMES)
    return LiteRTModel(read_tflite(path_or_bytes), RUNTIMES[runtime], whole("threads", threads))


def read_tflite(path_or_bytes: str | os.PathLike | bytes) -> bytes:
    """The bytes of a .tflite file, which carry the identifier TFL3 at offset 4."""
    if isinstance(path_or_bytes, bytes):
        content, shown = path_or_bytes, "the model"
    elif isinstance(path_or_bytes, (str, os.PathLike)):
        path = Path(path_or_bytes)
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no model file {path}: write one first, "
                "with path.write_bytes(helpers.convert.to_tflite(model, mode))"
            )
        content, shown = path.read_bytes(), path
    else:
        raise TypeError(
            f"path_or_bytes is a {type(path_or_bytes).__name__}: pass the path of a .tflite file, "
            "or its bytes as helpers.convert.to_tflite returns them"
        )
    if content[4:8] != b"TFL3":
        raise ValueError(
            f"{shown} ({len(content)} bytes) is not a .tflite file: bytes 4 to 8 are "
            f"{content[4:8]!r} instead of b'TFL3'; convert the model again"
        )
    return content


def as_array(name: str, values: object) -> np.ndarray:
    """A NumPy array of numbers in this machine's byte order; TypeError for what is none.

    >>> as_array("calibration", iter([1, 2]))
    Traceback (most recent call last):
    TypeError: calibration is a list_iterator: pass one NumPy array of numbers
    """
    try:
        array = np.asarray(values)
        if array.dtype == object:
            raise TypeError("an object, not numbers")
    except (RuntimeError, TypeError, ValueError) as error:  # also ragged, or with a graph of torch
        raise TypeError(
            f"{name} is a {type(values).__name__}: pass one NumPy array of numbers"
        ) from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class LiteRTModel:
    """A .tflite model in a LiteRT interpreter, one input at a time.

    It has one input and one output [1, C], both float32, or integers with a scale; several threads
    may use it, and wait for one another.
    size_bytes: of the file. input_quantization: (scale, zero_point), (0.0, 0) for a float input.
    """

    def __init__(self, content: bytes, kernels: str, threads: int):
        self.size_bytes = len(content)
        self._lock = threading.Lock()  # from an input to its output
        self._interpreter = _interpreter(content, kernels, threads)
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs: expected one of "
                "each; run other models with ai_edge_litert itself"
            )
        self._input, self._output = inputs[0], outputs[0]
        _check("input", self._input)
        _check("output", self._output, rank=2)
        self.input_quantization = self._input["quantization"]
        self._shape = tuple(self._input["shape"][1:].tolist())
        self._levels = self._quantize(np.arange(256, dtype=np.float32) / 255)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 [N, C] of images uint8 [N, 28, 28].

        A float model reads pixels / 255, an int8 model pixels - 128; integer outputs come back as
        (q - zero_point) * scale. A model of another input shape takes float32 [N, *shape]: NaN and
        infinity are an error where it quantizes its input, else they are computed with.
        """
        rows = self.as_read(images)
        given, result = self._input["index"], self._output["index"]
        raw = np.empty((len(rows), self._output["shape"][-1]), self._output["dtype"])
        with self._lock:
            for i in range(len(rows)):
                self._interpreter.set_tensor(given, rows[i : i + 1])
                self._interpreter.invoke()
                raw[i] = self._interpreter.get_tensor(result)[0]
        scale, zero_point = self._output["quantization"]
        if scale == 0:
            return raw
        return (raw.astype(np.float32) - zero_point) * np.float32(scale)

    def prepare(self, image: np.ndarray) -> Callable[[], None]:
        """A function without arguments that runs the model once on `image` uint8 [28, 28].

        It is what `helpers.timing.latency` times: copying the prepared input in, and inference.
        """
        row = self.as_read(np.asarray(image)[None])
        interpreter, index, lock = self._interpreter, self._input["index"], self._lock

        def run() -> None:
            with lock:
                interpreter.set_tensor(index, row)
                interpreter.invoke()

        return run

    def as_read(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [N, 28, 28] as the numbers that the model reads, [N, 28, 28, 1]."""
        images = as_array("the input", images)
        image = self._shape == IMAGE_SHAPE
        wanted, shape = (np.uint8, IMAGE_SHAPE[:2]) if image else (np.float32, self._shape)
        if images.dtype != wanted:
            raise TypeError(
                f"the inputs have dtype {images.dtype}: pass "
                + ("the raw pixels as uint8 in 0..255, unscaled" if image else "float32")
            )
        if images.shape[1:] != shape or images.ndim == 0:
            expected = ", ".join(map(str, ("N", *shape)))
            raise ValueError(
                f"the inputs have shape {images.shape}: expected [{expected}]; "
                "for a single input use x[None]"
            )
        return self._levels[images][..., None] if image else self._quantize(images)

    def _quantize(self, x: np.ndarray) -> np.ndarray:
        """float32 of any shape -> the numbers that the model reads."""
        dtype = self._input["dtype"]
        scale, zero_point = self._input["quantization"]
        if scale == 0:
            return x.astype(dtype)
        if not np.isfinite(x).all():
            raise ValueError(
                f"the inputs hold NaN or infinity, and the model reads {dtype.__name__}, which has "
                "neither: replace them first"
            )
        limits = np.iinfo(dtype)
        q = np.rint(x / np.float64(scale)) + zero_point
        return q.clip(limits.min, limits.max).astype(dtype)


def _interpreter(content: bytes, kernels: str, threads: int):
    """LiteRT's interpreter with its tensors allocated, opened in silence."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with captured_stderr():
        try:
            interpreter = Interpreter(
                model_content=content,
                num_threads=threads,
                experimental_op_resolver_type=OpResolverType[kernels],
            )
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"LiteRT cannot open the model ({len(content)} bytes): it is damaged, or uses "
                f"operations that LiteRT does not have; convert it again ({error})"
            ) from error
    return interpreter


def _check(which: str, tensor: dict, rank: int | None = None) -> None:
    """ValueError unless the tensor is float32, or integers with a scale, and of a known shape."""
    shape = tensor["shape_signature"].tolist()  # -1 stands for any size
    if shape[:1] not in ([1], [-1]) or -1 in shape[1:] or rank not in (None, len(shape)):
        raise ValueError(
            f"the model's {which} has shape {shape}: expected "
            + ("[1, C]" if rank else "a batch of 1 and known sizes")
            + "; run other models with ai_edge_litert itself"
        )
    if tensor["dtype"] != np.float32 and tensor["quantization"][0] == 0:
        raise ValueError(
            f"the model's {which} is {tensor['dtype'].__name__} without a scale: expected float32 "
            "or quantized integers; run other models with ai_edge_litert itself"
        )
