"""Looking into ONNX Runtime, as lesson 42 needs it: its graphs, its levels, its quantizers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from helpers.convert_onnx import with_pairs
from helpers.export import exporting
from helpers.quiet import captured_stderr

LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}  # of GraphOptimizationLevel


def session(content: bytes, level: str = "all", save: Path | None = None):
    """An onnxruntime.InferenceSession on one thread of the processor, opened in silence.

    level: how much it may rewrite the graph. save: where it writes what became of the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a saved graph is for this processor only, which it would say
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel(LEVELS[level])
    if save is not None:
        options.optimized_model_filepath = str(save)
    with captured_stderr():
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def optimized(content: bytes, level: str = "all"):
    """The onnx.GraphProto that ONNX Runtime runs for a file on this processor."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        session(content, level, path)
        return onnx.load(path).graph


def run(opened, images: np.ndarray) -> np.ndarray:
    """Logits float32 [N, C] of a session for images uint8 [N, 28, 28], 250 at a time."""
    name = opened.get_inputs()[0].name
    rows = images[:, None] / np.float32(255)
    parts = np.split(rows, range(250, len(rows), 250))
    return np.concatenate([opened.run(None, {name: part})[0] for part in parts])


def static(content: bytes, calibration: np.ndarray, activations: str, weight_bits: int) -> bytes:
    """A float .onnx file with QDQ pairs. activations: "QUInt8" or "QInt8"; weight_bits: 7 or 8."""
    import onnx

    rows = calibration[:, None] / np.float32(255)
    settings = {"activations": activations, "reduce_range": weight_bits == 7}
    with exporting("int8 ONNX"):
        proto = with_pairs(onnx.load_from_string(content), rows, **settings)
    return proto.SerializeToString()


def dynamic(content: bytes) -> bytes:
    """A float .onnx file with int8 weights, whose activations are quantized as it runs."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    proto = onnx.load_from_string(content)
    add_pre_process_metadata(proto)
    with exporting("dynamic ONNX"), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        kind = quantization.QuantType.QInt8
        quantization.quantize_dynamic(proto, path, per_channel=True, weight_type=kind)
        return path.read_bytes()
