"""Two quantization tools, called as lesson 26 needs them, and what is in their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from helpers import convert, models, quiet
from helpers.convert_tflite import calibration_rows


def exported(model: nn.Module, training: bool = False) -> nn.Module:
    """A Fashion-MNIST network as a graph of operations, for batches of any size."""
    example = models.as_input(np.zeros((4, 28, 28), np.uint8))
    batch = {0: torch.export.Dim("batch")}
    return torch.export.export(model.train(training), (example,), dynamic_shapes=(batch,)).module()


def by_recipe(
    content: bytes, steps: Sequence, images: np.ndarray | None = None, merge: Callable | None = None
) -> bytes:
    """A float .tflite file as ai-edge-quantizer's recipe changes it.

    images: uint8 [N, 28, 28], for a recipe that calibrates; merge: how the ranges of the images
    are combined, a function of ai_edge_quantizer.utils.qsv_utils.
    """
    from ai_edge_quantizer import calibrator, quantizer, recipe_manager

    with quiet.quiet_quantizer():
        ranges = None
        if images is not None:
            content = convert.with_signature(content)
            shown = [{"input": row[None]} for row in calibration_rows(images)]
            manager = recipe_manager.RecipeManager()
            manager.load_quantization_recipe(steps)
            seen = calibrator.Calibrator(content, num_threads=1, qsv_update_func=merge)
            seen.calibrate({"serving_default": shown}, manager)
            ranges = seen.get_model_qsvs()
        job = quantizer.Quantizer(content, steps)
        return bytes(job.quantize(ranges, enable_progress_report=False).quantized_model)


def tensors(content: bytes) -> list[tuple[str, np.dtype, np.ndarray | None, np.ndarray]]:
    """(name, dtype, values, scales) of each tensor in a .tflite file; values None: not stored."""
    from ai_edge_litert.interpreter import Interpreter

    with quiet.captured_stderr():  # it tells which kernels it chose
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
    found = []
    for tensor in interpreter.get_tensor_details():
        try:
            values = interpreter.get_tensor(tensor["index"])
        except ValueError:  # what is computed has no values yet
            values = None
        scales = np.asarray(tensor["quantization_parameters"]["scales"])
        found.append((tensor["name"], np.dtype(tensor["dtype"]), values, scales))
    return found


def layer_weights(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (values, scales)} of the weights of convolutions and dense layers, filters first."""
    ends = ("olution", "/MatMul")
    return {name: (v, s) for name, _, v, s in tensors(content) if name.endswith(ends)}


def with_scales(content: bytes, scales: np.ndarray) -> np.ndarray:
    """The int8 tensor of a .tflite file that has these scales, one for each filter."""
    for _, dtype, values, found in tensors(content):
        if dtype == np.int8 and len(found) == len(scales) and np.allclose(found, scales, rtol=1e-5):
            return values
    raise LookupError(f"no tensor has these {len(scales)} scales")
