"""Two quantization tools, called as lesson 26 needs them, and what is in their files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from helpers import convert, models, quiet
from helpers.convert_tflite import calibration_rows
from helpers.tflite_file import graph_of, signature, tensors


def exported(model: nn.Module, training: bool = False) -> nn.Module:
    """A Fashion-MNIST network as a graph of operations, for batches of any size."""
    example = models.as_input(np.zeros((4, 28, 28), np.uint8))
    batch = {0: torch.export.Dim("batch")}
    return torch.export.export(model.train(training), (example,), dynamic_shapes=(batch,)).module()


def by_recipe(
    content: bytes, steps: Sequence, images: np.ndarray | None = None, merge: Callable | None = None
) -> bytes:
    """A float .tflite file as ai-edge-quantizer's recipe changes it.

    images: for a recipe that calibrates, uint8 [N, 28, 28], or float32 [N, ...] as the file reads
    them; merge: how the ranges of the images are combined, a function of
    ai_edge_quantizer.utils.qsv_utils.
    """
    from ai_edge_quantizer import calibrator, quantizer, recipe_manager

    with quiet.quiet_quantizer():
        ranges = None
        if images is not None:
            if not graph_of(content)[0].signatureDefs:
                content = convert.with_signature(content)
            (name,) = signature(content)[0]
            rows = images if images.dtype == np.float32 else calibration_rows(images)
            shown = [{name: row[None]} for row in rows]
            manager = recipe_manager.RecipeManager()
            manager.load_quantization_recipe(steps)
            how = {} if merge is None else {"qsv_update_func": merge}
            seen = calibrator.Calibrator(content, num_threads=1, **how)
            seen.calibrate({"serving_default": shown}, manager)
            ranges = seen.get_model_qsvs()
        job = quantizer.Quantizer(content, steps)
        return bytes(job.quantize(ranges, enable_progress_report=False).quantized_model)


def layer_weights(content: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{name: (values, scales)} of the weights of convolutions and dense layers, filters first."""
    ends = ("olution", "/MatMul")
    return {t.name: (t.values, t.scales) for t in tensors(content) if t.name.endswith(ends)}


def with_scales(content: bytes, scales: np.ndarray) -> np.ndarray:
    """The int8 tensor of a .tflite file that has these scales, one for each filter."""
    for t in tensors(content):
        if t.kind == "INT8" and len(t.scales) == len(scales):
            if np.allclose(t.scales, scales, rtol=1e-5):
                return t.values
    raise LookupError(f"no tensor has these {len(scales)} scales")
