"""Keras on TensorFlow, on the CPU, in silence, and without the reader's settings."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable

import numpy as np

from helpers.quiet import captured_stderr

_lock = threading.Lock()


def import_keras():
    """The module keras, without the log lines that it and TensorFlow write while starting.

    It runs on TensorFlow, whatever KERAS_BACKEND or keras.json say; two threads import it once.
    Raises RuntimeError if keras runs on another backend already.

    >>> import_keras().config.backend()
    'tensorflow'
    """
    with _lock:
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = "tensorflow"
        if "tensorflow" not in sys.modules:
            _import_tensorflow()
        import keras
    if keras.config.backend() != "tensorflow":
        raise RuntimeError(
            f"keras was imported on {keras.config.backend()}, and the workbook needs TensorFlow: "
            "restart the kernel, and set KERAS_BACKEND=tensorflow before keras is imported"
        )
    return keras


def _import_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with captured_stderr():
        # Optimizers of PyTorch import Triton, which crashes if TensorFlow was loaded first.
        if importlib.util.find_spec("triton"):
            importlib.import_module("triton")
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
        tensorflow.get_logger().setLevel("ERROR")


def keras_layer(kind: str | Callable, tensor, weights: list[np.ndarray] = (), **options):
    """What a new Keras layer with these weights makes of the tensor.

    Its dtype is said here, and its layout is where it has one: else the reader's settings count.
    """
    kind = getattr(import_keras().layers, kind) if isinstance(kind, str) else kind
    layer = kind(dtype="float32", **options)
    result = layer(tensor)
    layer.set_weights(weights)
    return result
