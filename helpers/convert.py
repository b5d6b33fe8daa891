"""From a trained model to the file that a device runs."""

from __future__ import annotations

import numpy as np
from torch import nn

from helpers.arguments import one_of, pixels
from helpers.qat import LSQ
from helpers.quiet import quiet_converter
from helpers.twins import import_keras, keras_twin

MODES = ("float32", "float16", "dynamic", "int8", "int16x8")


def to_tflite(model_or_keras, mode: str, calibration: np.ndarray | None = None) -> bytes:
    """A .tflite file with a batch of 1, as bytes, from a PyTorch model of the course or from Keras.

    mode, and what is stored and computed:
    "float32": everything in float32.
    "float16": weights stored in float16, computed in float32; input and output are float32.
    "dynamic": weights of at least 1,024 elements in int8, the others and every bias in float32;
        each layer quantizes its input as it runs and returns float32.
    "int8": integers only, input and output too; an operation that has no integer version is an
        error, so nothing stays float. Activations int8, weights int8 per output channel (of dense
        layers too), biases int32. The input is exactly uint8 - 128.
    "int16x8": the same with int16 activations, int64 biases, and an int16 input and output.

    calibration: uint8 images [N, 28, 28] whose activations set the ranges of "int8" and "int16x8",
    which need it; the other modes ignore it. A copy has its darkest pixel set to 0 and its
    brightest to 255, so that the input's range is [0, 1]: scale 1/255, zero point -128.
    A quantization-aware model of 8 bits (helpers.qat, folded) converts to "int8" without: the file
    holds its learned steps.
    Raises ValueError, TypeError; RuntimeError with the converter's own words if it fails.
    """
    one_of("mode", mode, MODES)
    integer = mode in ("int8", "int16x8")
    learned = isinstance(model_or_keras, nn.Module) and any(
        isinstance(module, LSQ) for module in model_or_keras.modules()
    )
    if learned and (mode != "int8" or calibration is not None):
        raise ValueError(
            "the model has learned its ranges: convert it with mode 'int8' and without calibration"
        )
    if integer and calibration is None and not learned:
        raise ValueError(
            f"mode {mode!r} needs calibration: pass some training images, for example "
            "calibration=helpers.data.fashion_mnist('train').images[:200]"
        )
    rows = calibration_rows(calibration) if integer and not learned else None
    keras = import_keras()
    import tensorflow as tf

    model = keras_twin(model_or_keras) if isinstance(model_or_keras, nn.Module) else model_or_keras
    if not isinstance(model, keras.Model):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch or a Keras model")
    shape = model.inputs[0].shape[1:]
    if integer and shape != (28, 28, 1):
        raise ValueError(
            f"mode {mode!r} is for image models, and this one reads {shape}: a recurrent network "
            "becomes an integer one by converting a single time step; or choose another mode"
        )

    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(
        tf.TensorSpec((1, *shape), tf.float32, name=model.inputs[0].name)
    )
    with quiet_converter(mode):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if learned:  # without a representative data set the converter reads the fake-quantize nodes
            converter.inference_input_type = converter.inference_output_type = tf.int8
        elif integer:
            ops, dtype = {
                "int8": ("TFLITE_BUILTINS_INT8", tf.int8),
                "int16x8": (
                    "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8",
                    tf.int16,
                ),
            }[mode]
            converter.target_spec.supported_ops = [tf.lite.OpsSet[ops]]
            converter.inference_input_type = converter.inference_output_type = dtype
            converter.representative_dataset = lambda: ([row[None]] for row in rows)
        return converter.convert()


def calibration_rows(images: np.ndarray) -> np.ndarray:
    """uint8 [N, 28, 28] -> float32 [N, 28, 28, 1] that reaches from exactly 0 to exactly 1."""
    images = pixels(images)
    if len(images) == 0:
        raise ValueError("calibration holds no image: pass at least one, better a few hundred")
    images = np.array(images)
    images.flat[images.argmin()] = 0
    images.flat[images.argmax()] = 255
    return images[..., None] / np.float32(255)


def with_signature(content: bytes) -> bytes:
    """The same .tflite model with a signature "serving_default", from "input" to "output".

    ai-edge-quantizer calibrates through a signature, and the files of to_tflite have none.
    Raises ValueError if the model has several inputs or outputs.
    """
    from ai_edge_litert.schema_py_generated import SignatureDefT, TensorMapT
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ValueError(
            f"the model has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs: "
            "expected one of each"
        )
    inputs = [TensorMapT("input", int(graph.inputs[0]))]
    outputs = [TensorMapT("output", int(graph.outputs[0]))]
    model.signatureDefs = [SignatureDefT(inputs, outputs, "serving_default", 0)]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
