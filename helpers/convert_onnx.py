"""From a trained model to an .onnx file, by torch's exporter and ONNX Runtime's quantizer."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from helpers.export import calibration_of, exporting, ready
from helpers.seal import sealed


def to_onnx(model: nn.Module) -> bytes:
    """An .onnx file in float32, as bytes, from a PyTorch model of the course.

    model: reads images [N, 1, 28, 28], or [N, 3, 224, 224] where its first convolution has three
    input channels, or windows [N, 100, 6] where it is a SensorRNN, and returns logits [N, C]. It is
    exported in evaluation mode, and stays as it is. The input is called "input", the output
    "output", N may be anything. The weights are in the file, and nothing about this machine: torch
    notes for each node the lines of code, with their paths, that it comes from.
    Its metadata ends with its SHA-256, which `helpers.runtime.open_model` checks.
    A quantization-aware model keeps its staircases, computed in float32.
    Several threads may convert; they wait for one another.

    Raises TypeError for what is no model, ValueError for one that has forward hooks, quantizers
    without a step, or another input or output, and RuntimeError, with the exporter's own words, for
    a layer that it cannot express.

    >>> content = to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    >>> content[:1], round(len(content) / 1e3)  # a field number; 7,850 numbers of 4 bytes
    (b'\\x08', 32)
    """
    network, inputs = ready(model)
    with exporting("ONNX"):
        proto = _exported(network, inputs)
        _strip(proto)
        _check(proto)
    return sealed(proto.SerializeToString(), ".onnx")


def to_onnx_int8(model: nn.Module, calibration: np.ndarray, *, per_channel: bool = True) -> bytes:
    """The same in int8: the file of `to_onnx` with pairs of QuantizeLinear and DequantizeLinear.

    A runtime that knows integer kernels replaces a layer between such pairs by one; any other
    computes in float32 what the pairs leave. Weights are int8 and symmetric, from -64 to 64, with
    one scale for each output channel, or with per_channel=False for the tensor; activations are
    uint8 with a zero point, their range the least to the largest of the calibration images; biases
    are int32. Input and output stay float32.

    calibration: uint8 images [N, 28, 28] or [N, 224, 224, 3], as `helpers.convert.to_tflite` takes
    them.
    Raises as `to_onnx`; ValueError for missing or empty calibration, for a network of windows, and
    for a quantization-aware model; TypeError for calibration that is not a uint8 array.
    """
    network, inputs = ready(model, integer="to_onnx_int8")
    rows = calibration_of(calibration, inputs)
    with exporting("int8 ONNX"):
        proto = _exported(network, inputs)
        _strip(proto)
        proto = with_pairs(proto, rows, per_channel=per_channel)
        _check(proto)
    return sealed(proto.SerializeToString(), ".onnx")


def _exported(network: nn.Module, inputs: torch.Tensor):
    """The model as a protocol buffer, its weights inside."""
    program = torch.onnx.export(
        network,
        (inputs,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["input"],
        output_names=["output"],
        verbose=False,
    )
    return program.model_proto


def _strip(proto) -> None:
    """Remove torch's notes on where each part comes from, and shapes that follow from the rest."""
    graph = proto.graph
    parts = [*graph.node, *graph.input, *graph.output, *graph.initializer, graph, proto]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]


def _check(proto) -> None:
    """ValidationError or InferenceError unless every node is a valid one, with shapes that fit."""
    import onnx

    onnx.checker.check_model(proto, full_check=True)


def with_pairs(
    proto,
    rows: np.ndarray,
    *,
    per_channel: bool = True,
    activations: str = "QUInt8",
    reduce_range: bool = True,
):
    """The model with QDQ pairs, calibrated on rows float32 [N, C, H, W].

    activations: "QUInt8" or "QInt8"; reduce_range: weights from -64 to 64 instead of -127 to 127.

    The settings left out are for ONNX Runtime's kernels on x86 (lesson 42 measures the others).
    With int8 activations it leaves most of ResNet8's convolutions in float32; with uint8 ones all
    run in integers. Without VNNI the kernel for uint8 and int8 adds two products in 16 bits, which
    hold 2 * 255 * 64 and not 2 * 255 * 127: with 7 bits for the weights the file computes the same
    on each processor.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    add_pre_process_metadata(proto)  # torch has folded batch norm: it would advise to do that
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantization.quantize_static(
            proto,
            path,
            _Reader(rows),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=per_channel,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType[activations],
            weight_type=quantization.QuantType.QInt8,
        )
        found = onnx.load(path)
    _strip(found)
    return found


class _Reader:
    """What ONNX Runtime's calibrator asks for inputs, 64 at a time."""

    def __init__(self, rows: np.ndarray):
        self._batches = iter(np.split(rows, range(64, len(rows), 64)))

    def get_next(self) -> dict | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch}
