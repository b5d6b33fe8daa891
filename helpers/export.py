"""What a model must be to be exported from PyTorch, and exporters kept silent."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as torch_module

from helpers.architectures import SensorRNN
from helpers.convert_tflite import calibration_for
from helpers.qat import LSQ
from helpers.quiet import silence

_exporting = threading.RLock()  # torch traces one model at a time


def ready(model: nn.Module, integer: str = "") -> tuple[nn.Module, torch.Tensor]:
    """A copy of a model in evaluation mode that can be traced, and two inputs to trace it with.

    integer: the function that makes an integer file of it, if one does; it takes images only, and
    no quantization-aware model.
    Raises TypeError for what is no model, ValueError for one that no exporter should see.

    >>> ready(nn.Linear(28, 10))
    Traceback (most recent call last):
    ValueError: the model returns a tensor [2, 1, 28, 10] of 2 inputs [1, 28, 28]: expected \
float32 logits [2, C]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: pass a PyTorch model")
    refuse_hooks(model)
    quantizers = [name for name, m in model.named_modules() if isinstance(m, LSQ)]
    if integer and isinstance(model, SensorRNN):
        raise ValueError(
            f"{integer} is for models that read images, and a {type(model).__name__} reads "
            "windows: convert it in float32"
        )
    if integer and quantizers:
        raise ValueError(
            f"the model has quantizers ({quantizers[0]} is the first), and {integer} measures "
            "ranges itself: pass the float model, or convert this one with to_tflite"
        )
    network = copy.deepcopy(model).eval().float()
    for name, module in network.named_modules():
        if isinstance(module, LSQ):
            freeze(name, module)
    rows = torch.zeros(2, *input_shape(model))
    check_ends(network, rows)
    return network, rows


def input_shape(model: nn.Module) -> tuple:
    """The shape of one input: a window's, a color image's, or a gray image's.

    >>> input_shape(nn.Conv2d(3, 8, 3)), input_shape(nn.Conv2d(1, 8, 3))
    ((3, 224, 224), (1, 28, 28))
    """
    if isinstance(model, SensorRNN):
        return 100, 6
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return (3, 224, 224) if first is not None and first.in_channels == 3 else (1, 28, 28)


def calibration_of(calibration: np.ndarray | None, rows: torch.Tensor) -> np.ndarray:
    """Calibration images as float32 [N, C, H, W]; rows: inputs that the model takes.

    Raises as `helpers.convert.to_tflite` does for mode "int8".
    """
    channels, height, width = rows.shape[1:]
    found = calibration_for("int8", calibration, False, (height, width, channels))
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2))


def refuse_hooks(model: nn.Module) -> None:
    """ValueError if a forward hook runs besides the layers: a file would lose it, or trace it."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise ValueError("a forward hook of all modules would be exported: remove it first")
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            where = name or type(module).__name__
            raise ValueError(f"{where} has a forward hook, which no file holds: remove it first")


def freeze(name: str, quantizer: LSQ) -> None:
    """Let "has it a step?" be a fact of the program, not a question to its data."""
    if not quantizer.started:
        raise ValueError(f"the quantizer {name} has no step yet: start it with qat.start_steps")
    del quantizer.started
    quantizer.started = True


def check_ends(network: nn.Module, rows: torch.Tensor) -> None:
    """ValueError unless the network maps N inputs to float32 logits [N, C], for N of 2 and 3."""
    given = list(rows.shape[1:])
    for inputs in (rows, rows[[0, 0, 1]]):
        try:
            with torch.no_grad():
                found = network(inputs)
        except Exception as error:
            raise ValueError(f"the model does not take inputs [N, {given}]: {error}") from error
        n = len(inputs)
        shape = list(found.shape) if isinstance(found, torch.Tensor) else None
        if shape is None or found.dtype != torch.float32 or len(shape) != 2 or shape[0] != n:
            what = f"a tensor {shape}" if shape is not None else f"a {type(found).__name__}"
            raise ValueError(
                f"the model returns {what} of {n} inputs {given}: expected float32 logits [{n}, C]"
            )


@contextmanager
def exporting(kind: str) -> Iterator[None]:
    """One export at a time, in silence; an error becomes a RuntimeError with its first cause.

    >>> with exporting("ONNX"):
    ...     raise ValueError("no such operation") from KeyError("bessel_j0")
    Traceback (most recent call last):
    RuntimeError: the conversion to ONNX failed: 'bessel_j0'
    """
    with _exporting, torch.no_grad(), silence():
        try:
            yield
        except Exception as error:
            raise RuntimeError(f"the conversion to {kind} failed: {first_cause(error)}") from error


def first_cause(error: BaseException) -> str:
    """The first paragraph of what an error was raised from, without pages of advice."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    text = next((str(e).strip() for e in reversed(seen) if str(e).strip()), repr(seen[-1]))
    return " ".join(text.split("\n\n")[0].split())
