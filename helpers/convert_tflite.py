"""From a trained model to a .tflite file, by TensorFlow's converter."""

from __future__ import annotations

import threading

import numpy as np
from torch import nn

from helpers.arguments import one_of, pixels
from helpers.deployed import as_array, pixels_of
from helpers.keras_start import import_keras
from helpers.qat import LSQ
from helpers.quiet import quiet_converter
from helpers.tflite_file import graph_of
from helpers.twins import keras_twin

MODES = ("float32", "float16", "dynamic", "int8", "int16x8", "sparse")
INTEGER = ("int8", "int16x8")
LOOPS = ("While", "StatelessWhile", "If", "StatelessIf")  # graphs inside the graph

converting = threading.RLock()  # TensorFlow traces and converts one model at a time


def to_tflite(model_or_keras, mode: str, calibration: np.ndarray | None = None) -> bytes:
    """A .tflite file with a batch of 1, as bytes, from a PyTorch model of the course or from Keras.

    model_or_keras: what `helpers.twins.keras_twin` takes, or a keras.Model with one float32 input.
    Several threads may convert; they wait for one another.

    mode, and what is stored and computed:
    "float32": everything in float32.
    "float16": weights stored in float16, computed in float32; input and output are float32.
    "dynamic": weights of at least 1,024 elements in int8, the others and every bias in float32;
        each layer quantizes its input as it runs and returns float32.
    "int8": integers only, input and output too; an operation that has no integer version is an
        error, so nothing stays float. Activations int8, weights int8 per output channel (of dense
        layers too), biases int32. The input is exactly uint8 - 128.
    "int16x8": the same with int16 activations, int64 biases, and an int16 input and output.
    "sparse": float32, and the weights of a layer with enough zeros in LiteRT's sparse format, in
        blocks of 1 x 4 inputs where all that is not zero lies in few of them. A layer with few
        zeros is stored as in "float32".

    calibration: uint8 images [N, 28, 28], or [N, H, W, 3] for a model that reads colors, whose
    activations set the ranges of "int8" and "int16x8", which need it; the other modes ignore it. A
    copy has its darkest pixel set to 0 and its brightest to 255, so that the input's range is
    [0, 1]: scale 1/255, zero point -128.
    A quantization-aware model of 8 bits (helpers.qat, folded) converts to "int8" without: the file
    holds its learned steps.

    Raises ValueError for an unknown mode, a model or module that cannot become such a file, missing
    or empty calibration, and calibration beside learned steps; TypeError for what is no model, a
    module without a Keras twin, and calibration that is not a uint8 array; RuntimeError with the
    converter's own words if it fails.

    >>> from helpers.models import build
    >>> content = to_tflite(build("LeNet300"), "float32")
    >>> content[4:8], round(len(content) / 4e3)  # a header, and 266,610 numbers of 4 bytes
    (b'TFL3', 267)
    """
    one_of("mode", mode, MODES)
    learned = has_learned_ranges(model_or_keras)
    with converting:
        model = as_keras(model_or_keras)
        check_input(model, mode)
        rows = calibration_for(mode, calibration, learned, model.inputs[0].shape[1:])
        function = traced(model, mode)
        with quiet_converter(mode):
            content = converter(function, mode, rows).convert()
    if learned:
        check_integers(content)
    return content


def has_learned_ranges(model: object) -> bool:
    """Whether the model is quantization-aware: its quantizers know the range of every tensor."""
    return isinstance(model, nn.Module) and any(isinstance(m, LSQ) for m in model.modules())


def calibration_for(
    mode: str, calibration: np.ndarray | None, learned: bool, shape: tuple = (28, 28, 1)
) -> np.ndarray | None:
    """The rows on which the converter measures ranges; None if it needs none, or has them."""
    if learned:
        if mode != "int8" or calibration is not None:
            raise ValueError(
                "the model has learned its ranges: convert it with mode 'int8' and without "
                "calibration"
            )
        return None
    if mode not in INTEGER:
        return None
    if calibration is None:
        raise ValueError(
            f"mode {mode!r} needs calibration: pass some training images, for example "
            "calibration=helpers.data.fashion_mnist('train').images[:200]"
        )
    return calibration_rows(calibration, shape)


def calibration_rows(images: np.ndarray, shape: tuple = (28, 28, 1)) -> np.ndarray:
    """uint8 [N, 28, 28] -> float32 [N, 28, 28, 1] that reaches from exactly 0 to exactly 1.

    shape: what the model reads; for (H, W, 3) the images are uint8 [N, H, W, 3].

    >>> rows = calibration_rows(np.full((2, 28, 28), 102, np.uint8))
    >>> rows.min(), rows.max(), rows[1, 27, 27, 0]
    (np.float32(0.0), np.float32(1.0), np.float32(0.4))
    """
    images = pixels(as_array("calibration", images), pixels_of(shape))
    if len(images) == 0:
        raise ValueError("calibration holds no image: pass at least one, better a few hundred")
    images = np.array(images)
    images.flat[images.argmin()] = 0
    images.flat[images.argmax()] = 255
    return images.reshape(-1, *shape) / np.float32(255)


def as_keras(model: object):
    """The keras.Model itself, or the twin of a PyTorch model."""
    if isinstance(model, nn.Module):
        return keras_twin(model)
    if not isinstance(model, import_keras().Model):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch or a Keras model")
    return model


def check_input(model, mode: str) -> None:
    """ValueError unless the Keras model reads one float32 tensor of a known shape."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        raise ValueError(
            f"the Keras model {model.name} does not say what it reads: begin it with "
            "keras.Input(shape), as a Sequential or a functional model"
        )
    if len(inputs) != 1:
        raise ValueError(f"the Keras model has {len(inputs)} inputs: a file reads one")
    batch, *shape = inputs[0].shape
    if batch not in (None, 1) or None in shape:
        raise ValueError(
            f"the Keras model reads {inputs[0].shape}: only its batch may be unknown, and a file "
            "has a batch of 1; begin it with keras.Input(shape), all sizes given"
        )
    if inputs[0].dtype != "float32":
        raise ValueError(
            f"the Keras model reads {inputs[0].dtype}: a file reads float32, images as pixels / "
            "255; begin it with a float32 keras.Input, without a Rescaling from 0..255"
        )
    if mode in INTEGER and pixels_of(shape) is None:
        raise ValueError(
            f"mode {mode!r} is for models that read images [H, W, 1] or [H, W, 3], and this one "
            f"reads {list(shape)}: choose another mode; a recurrent network becomes an integer one "
            "by converting a single time step, with helpers.convert.to_streaming_tflite"
        )


def traced(model, mode: str):
    """The Keras model as one TensorFlow function of a batch of 1, in float32 throughout."""
    import tensorflow as tf

    start = model.inputs[0]
    spec = tf.TensorSpec((1, *start.shape[1:]), tf.float32, name=start.name)
    with quiet_converter(mode):
        function = tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    for operation in function.graph.get_operations():
        if mode in INTEGER and operation.type in LOOPS:
            raise ValueError(
                f"{operation.name} is a loop, and the converter to mode {mode!r} ends the whole "
                "process at one: choose another mode; a recurrent network becomes an integer one "
                "by converting a single time step, with helpers.convert.to_streaming_tflite"
            )
        for tensor in operation.outputs:
            if tensor.dtype.is_floating and tensor.dtype != tf.float32:
                raise ValueError(
                    f"{operation.name} computes in {tensor.dtype.name}: build the Keras model "
                    "with dtype='float32' layers, and let `mode` choose what the file holds"
                )
    return function


def converter(function, mode: str, rows: np.ndarray | None):
    """TensorFlow's converter, set for the mode. rows: what it measures ranges on.

    Without them it reads the fake-quantize nodes of a quantization-aware model.
    """
    import tensorflow as tf

    settings = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if mode != "float32":
        chosen = tf.lite.Optimize
        settings.optimizations = [
            chosen.EXPERIMENTAL_SPARSITY if mode == "sparse" else chosen.DEFAULT
        ]
    if mode == "float16":
        settings.target_spec.supported_types = [tf.float16]
    if mode in INTEGER:
        dtype = tf.int8 if mode == "int8" else tf.int16
        settings.inference_input_type = settings.inference_output_type = dtype
    if rows is not None:
        integers_only(settings, mode)
        settings.representative_dataset = lambda: ([row[None]] for row in rows)
    return settings


def integers_only(settings, mode: str) -> None:
    """Set TensorFlow's converter to integers throughout, inputs and outputs too."""
    import tensorflow as tf

    sets, dtype = tf.lite.OpsSet, tf.int8 if mode == "int8" else tf.int16
    int16 = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    settings.optimizations = [tf.lite.Optimize.DEFAULT]
    settings.target_spec.supported_ops = [sets.TFLITE_BUILTINS_INT8 if mode == "int8" else int16]
    settings.inference_input_type = settings.inference_output_type = dtype


def check_integers(content: bytes) -> None:
    """ValueError if something in the file computes in floating point: it had no quantizer."""
    from ai_edge_litert.schema_py_generated import TensorType

    floats = [t.name.decode() for t in graph_of(content)[1].tensors if t.type == TensorType.FLOAT32]
    if floats:
        raise ValueError(
            f"{floats[0]} stays in floating point, because a quantizer is missing: put one where "
            "helpers.qat.insert_quantizers does, at the input, and after each layer and each sum"
        )
