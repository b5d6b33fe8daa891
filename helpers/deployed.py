"""What every deployed model has, whatever runs it: images in, logits out. NumPy only."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np


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


class Tensor:
    """An input or output of a file.

    shape: without the batch. dtype: NumPy's. scale, zero_point: of quantized integers; the scale
    is 0.0 where the numbers mean themselves.
    """

    def __init__(self, shape: tuple, dtype: type, scale: float = 0.0, zero_point: int = 0):
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype)
        self.scale, self.zero_point = float(scale), int(zero_point)

    def quantize(self, x: np.ndarray) -> np.ndarray:
        """float32 of any shape -> the numbers in the tensor; NaN has no integer: ValueError."""
        if self.scale == 0:
            return x.astype(self.dtype)
        if not np.isfinite(x).all():
            raise ValueError(
                f"the inputs hold NaN or infinity, and the model reads {self.dtype}, which has "
                "neither: replace them first"
            )
        limits = np.iinfo(self.dtype)
        q = np.rint(x / np.float64(self.scale)) + self.zero_point
        return q.clip(limits.min, limits.max).astype(self.dtype)

    def dequantize(self, q: np.ndarray) -> np.ndarray:
        """The numbers in the tensor -> float32."""
        if self.scale == 0:
            return q.astype(np.float32, copy=False)
        return (q.astype(np.float32) - self.zero_point) * np.float32(self.scale)


class DeployedModel:
    """A model file in a runtime; several threads may use it, and wait for one another.

    size_bytes: of the file. arena_bytes: of working memory, where the runtime tells it, else None.
    input_quantization: (scale, zero_point), (0.0, 0) for a float input.

    A runtime adds `run`.
    """

    arena_bytes: int | None = None

    def __init__(self, size_bytes: int, given: Tensor, result: Tensor):
        self.size_bytes = size_bytes
        self._given, self._result = given, result
        self._lock = threading.Lock()  # from an input to its output
        self._levels = given.quantize(np.arange(256, dtype=np.float32) / 255)

    @property
    def input_shape(self) -> tuple:
        """Of one input, without the batch."""
        return self._given.shape

    @property
    def classes(self) -> int:
        """The number of logits."""
        return self._result.shape[-1]

    @property
    def input_quantization(self) -> tuple[float, int]:
        return self._given.scale, self._given.zero_point

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 [N, C] of images uint8 [N, 28, 28], or [N, H, W, 3] if it reads colors.

        A float model reads pixels / 255, an int8 model pixels - 128; integer outputs come back as
        (q - zero_point) * scale. A model that reads no images takes float32 [N, *shape]: NaN and
        infinity are an error where it quantizes its input, else they are computed with.
        """
        rows = self.as_read(images)
        with self._lock:
            raw = self.run_all(rows)
        return self._result.dequantize(raw)

    def prepare(self, image: np.ndarray) -> Callable[[], None]:
        """A function without arguments that runs the model once on `image` uint8 [28, 28].

        It is what `helpers.timing.latency` times: copying the prepared input in, and inference.
        """
        row = self.as_read(np.asarray(image)[None])[0]

        def run() -> None:
            with self._lock:
                self.run(row)

        return run

    def run(self, row: np.ndarray) -> np.ndarray:
        """The raw output [C] of one prepared input [*shape]."""
        raise NotImplementedError

    def run_all(self, rows: np.ndarray) -> np.ndarray:
        """The raw outputs [N, C] of prepared inputs [N, *shape], one after the other."""
        raw = np.empty((len(rows), *self._result.shape), self._result.dtype)
        for i in range(len(rows)):
            raw[i] = self.run(rows[i])
        return raw

    def as_read(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [N, 28, 28] or [N, H, W, 3] as the numbers that the model reads."""
        images = as_array("the input", images)
        shape = self._given.shape
        pixels = pixels_of(shape)
        wanted, each = (np.float32, shape) if pixels is None else (np.uint8, pixels)
        if images.dtype != wanted:
            raise TypeError(
                f"the inputs have dtype {images.dtype}: pass "
                + ("float32" if pixels is None else "the raw pixels as uint8 in 0..255, unscaled")
            )
        if images.shape[1:] != each or images.ndim == 0:
            expected = ", ".join(map(str, ("N", *each)))
            raise ValueError(
                f"the inputs have shape {images.shape}: expected [{expected}]; "
                "for a single input use x[None]"
            )
        if pixels is None:
            return self._given.quantize(images)
        read = self._levels[images]
        read = read.transpose(0, 3, 1, 2) if shape[0] == 3 == images.shape[-1] else read
        return np.ascontiguousarray(read).reshape(len(images), *shape)


def pixels_of(shape: tuple) -> tuple | None:
    """The shape of the uint8 image that a model with this input shape reads; None if it reads none.

    >>> pixels_of((28, 28, 1)), pixels_of((1, 28, 28)), pixels_of((3, 224, 224))
    ((28, 28), (28, 28), (224, 224, 3))
    >>> pixels_of((100, 6))
    """
    if len(shape) != 3 or not {shape[0], shape[2]} & {1, 3}:
        return None
    first = shape[2] not in (1, 3)
    channels, height, width = shape if first else (shape[2], *shape[:2])
    return (height, width) if channels == 1 else (height, width, 3)
