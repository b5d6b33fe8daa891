"""From PyTorch to a .tflite file without Keras: what litert-torch makes of a network."""

from __future__ import annotations

import importlib.util

from torch import nn

from helpers.export import exporting, ready


def available() -> bool:
    """Whether litert-torch is installed: it is an extra, with wheels for Linux and macOS."""
    return importlib.util.find_spec("litert_torch") is not None


def torch_to_tflite(model: nn.Module) -> bytes:
    """A float32 .tflite file with a batch of 1, from a PyTorch model of the course.

    Its input keeps PyTorch's order, [1, 28, 28] for an image. The file computes what the model does
    in evaluation mode; the model is left as it was.
    Raises RuntimeError if litert-torch is not installed, or with its own words if it fails;
    TypeError for what is no model, ValueError for one that returns no logits, or has hooks.
    """
    if not available():
        raise RuntimeError(
            "litert-torch is not installed: run `make test` once, or install it beside the "
            "workbook with `uv pip install -e '.[litert-torch]' -c requirements.txt`"
        )
    network, rows = ready(model)
    with exporting("float32"):
        import litert_torch
        from litert_torch import progress

        progress.config.show_progress = False
        return litert_torch.convert(network, (rows[:1],)).model_content()
