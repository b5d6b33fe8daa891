"""From a trained model to the file that a device runs: the ways out of PyTorch and Keras."""

from helpers.bundle import bundle
from helpers.convert_executorch import to_executorch
from helpers.convert_onnx import to_onnx, to_onnx_int8
from helpers.convert_streaming import to_streaming_tflite
from helpers.convert_tflite import to_tflite
from helpers.tflite_file import graph_of, with_signature

__all__ = [
    "bundle",
    "graph_of",
    "to_executorch",
    "to_onnx",
    "to_onnx_int8",
    "to_streaming_tflite",
    "to_tflite",
    "with_signature",
]
