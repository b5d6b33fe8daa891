"""From a trained model to a .pte file, by ExecuTorch's exporter and torchao's quantizer."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from helpers.export import calibration_of, exporting, ready
from helpers.seal import sealed


def to_executorch(
    model: nn.Module, *, int8: bool = False, calibration: np.ndarray | None = None
) -> bytes:
    """A .pte file with a batch of 1, as bytes, from a PyTorch model of the course.

    model: reads images [N, 1, 28, 28], or [N, 3, 224, 224] where its first convolution has three
    input channels, or windows [N, 100, 6] where it is a SensorRNN, and returns logits [N, C]. It is
    exported in evaluation mode, and stays as it is. Whatever XNNPACK has a kernel for is compiled
    for it; the rest is left to ExecuTorch's own kernels.
    After its last part comes its SHA-256, which `helpers.runtime.open_model` checks.
    Several threads may convert; they wait for one another. A recurrent network takes minutes, and
    a file 25 times its weights: the loop over its 100 steps is unrolled.

    int8: weights int8, one scale for each output channel; activations int8 with a zero point, their
    range from a histogram of the calibration images. Input and output stay float32.
    calibration: uint8 images [N, 28, 28] or [N, 224, 224, 3], as `helpers.convert.to_tflite` takes
    them; float files ignore it.

    Raises TypeError for what is no model, ValueError for one that has forward hooks, quantizers
    without a step, or another input or output, and RuntimeError, with the exporter's own words, for
    a layer that it cannot express. With int8 also ValueError for missing or empty calibration, for
    a network of windows and for a quantization-aware model, and TypeError for calibration that is
    not a uint8 array.

    >>> to_executorch(nn.Flatten(), int8=True)
    Traceback (most recent call last):
    ValueError: mode 'int8' needs calibration: pass some training images, for example \
calibration=helpers.data.fashion_mnist('train').images[:200]
    """
    network, inputs = ready(model, integer="int8=True" if int8 else "")
    rows = calibration_of(calibration, inputs) if int8 else None
    with exporting("ExecuTorch"):
        if int8:
            network = _quantized(network, torch.from_numpy(rows))
        content = _lowered(torch.export.export(network, (inputs[:1],))).to_executorch().buffer
    return sealed(bytes(content), ".pte")


def _quantized(network: nn.Module, rows: torch.Tensor) -> nn.Module:
    """The network with pairs of quantize and dequantize, calibrated on rows float32 [N, C, H, W].

    The four lines of PT2E (lesson 26), for the operations that XNNPACK computes in integers.
    """
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e import quantize_pt2e

    batch = ({0: torch.export.Dim("batch")},)
    graph = torch.export.export(network, (rows[:1].repeat(2, 1, 1, 1),), dynamic_shapes=batch)
    target = xnnpack_quantizer.XNNPACKQuantizer()
    target.set_global(xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True))
    observed = quantize_pt2e.prepare_pt2e(graph.module(), target)
    for part in rows.split(64):
        observed(part)
    return quantize_pt2e.convert_pt2e(observed)


def _lowered(program: torch.export.ExportedProgram):
    """The program with everything that XNNPACK computes handed to it, as one call or several."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
