"""From the data as it is stored to what a PyTorch model reads."""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from torch import nn

from helpers.arguments import pixels


def as_tensor(values: object) -> torch.Tensor:
    """A tensor of any array or list, detached: of any memory layout, byte order or unsigned type.

    It shares memory with `values` where torch can, so write to a clone. torch itself takes no NumPy
    array that is flipped or of the other byte order, and warns of a read-only one.
    Raises TypeError for what is not numbers.

    >>> as_tensor(np.arange(3, dtype=">f4")[::-1])
    tensor([2., 1., 0.])
    """
    if isinstance(values, torch.Tensor):
        values = values.detach()
        with torch.inference_mode(False):  # an inference tensor cannot be trained on
            return values.clone() if values.is_inference() else values
    array = np.asarray(values)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"the values have dtype {array.dtype}: pass an array of numbers")
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    flipped = min(array.strides, default=0) < 0  # NumPy calls one flipped value contiguous
    if flipped or not array.flags.writeable:
        array = array.copy()
    return torch.from_numpy(array)


def as_input(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28] in [0, 1]; anything else is an error.

    >>> as_input(np.full((1, 28, 28), 51, np.uint8))[0, 0, 0, :2]
    tensor([0.2000, 0.2000])
    """
    return as_tensor(pixels(images)).unsqueeze(1).float().div_(255)


def to_tensor(inputs: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 images become float32 [N, 1, 28, 28] in [0, 1], channels last; float32 windows stay.

    Raises TypeError for other dtypes, ValueError for images of another shape.

    >>> to_tensor(np.full((1, 28, 28), 51, np.uint8)).shape
    torch.Size([1, 1, 28, 28])
    >>> to_tensor(np.ones((2, 3))[:, :1])
    Traceback (most recent call last):
    TypeError: inputs are float64: pass uint8 images or float32 windows, x.astype(np.float32)
    """
    inputs = as_tensor(inputs)
    if inputs.dtype == torch.uint8:
        return as_input(inputs).to(memory_format=torch.channels_last)
    if inputs.dtype != torch.float32:
        given = str(inputs.dtype).removeprefix("torch.")
        raise TypeError(
            f"inputs are {given}: pass uint8 images or float32 windows, x.astype(np.float32)"
        )
    return inputs


def in_dtype_of(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The batch in the dtype of the model's weights: a model in half precision reads halves.

    >>> in_dtype_of(nn.Linear(3, 2).bfloat16(), torch.ones(1, 3)).dtype
    torch.bfloat16
    """
    weights = chain(model.parameters(), model.buffers())
    return batch.to(next((w.dtype for w in weights if w.is_floating_point()), batch.dtype))


def stored(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 images [N, 28, 28] or float32 windows [N, ...] as a tensor of the same numbers.

    Raises TypeError and ValueError as to_tensor does, and ValueError for what has no rows.

    >>> stored(np.zeros((0, 28, 28), np.uint8)).shape
    torch.Size([0, 28, 28])
    """
    inputs = as_tensor(images)
    if inputs.ndim < 2:
        raise ValueError(f"inputs have shape {list(inputs.shape)}: expected N examples, [N, ...]")
    to_tensor(inputs[:1])
    return inputs


def examples(
    images: np.ndarray | torch.Tensor, labels: np.ndarray | torch.Tensor, *, soft: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs as `stored`, and as many labels: int64, or floating point where `soft` allows it.

    Raises ValueError for different numbers of rows, for none, for NaN and infinity; TypeError.

    >>> examples(np.zeros((2, 28, 28), np.uint8), np.array([3, 4], np.uint8))[1]
    tensor([3, 4])
    """
    inputs, targets = stored(images), torch.atleast_1d(as_tensor(labels))
    if len(inputs) != len(targets) or len(targets) == 0:
        raise ValueError(f"{len(inputs)} images, {len(targets)} labels: pass as many, at least one")
    floating = targets.is_floating_point()
    if targets.dtype == torch.bool or targets.is_complex() or (floating and not soft):
        allowed = "integers, or float32 for soft targets" if soft else "integers"
        raise TypeError(f"labels are {targets.dtype}: pass {allowed}")
    for name, values in (("images", inputs), ("labels", targets)):
        if values.is_floating_point() and not values.isfinite().all():
            raise ValueError(f"{name} hold NaN or infinity: leave those rows out")
    return inputs, targets if floating else targets.long()


def fitting_labels(outputs: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> None:
    """ValueError if cross-entropy cannot take this batch, or one of all the targets.

    outputs: [N, C, ...] with C >= 2. labels: integers [N, ...] in 0..C-1, or soft [N, C, ...].

    >>> fitting_labels(torch.zeros(2, 10), torch.tensor([3, 9]), torch.tensor([3, 9, 0]))
    """
    shape = list(getattr(outputs, "shape", ()))
    if len(shape) < 2 or shape[1] < 2:
        raise ValueError(
            f"the model returned a {type(outputs).__name__} {shape}: cross-entropy needs logits "
            "[N, C] with C >= 2; or pass a loss of your own"
        )
    soft, one_each = targets.is_floating_point(), shape[:1] + shape[2:]
    if list(labels.shape) != (shape if soft else one_each):
        raise ValueError(
            f"logits {shape} and labels {labels.dtype} {list(labels.shape)}: expected integers "
            f"{one_each}, or soft targets {shape}"
        )
    if not soft and not 0 <= targets.min() <= targets.max() < shape[1]:
        raise ValueError(  # torch would ignore -100 without a word
            f"labels run from {targets.min()} to {targets.max()}, for {shape[1]} classes: "
            f"pass 0 to {shape[1] - 1}, and leave other rows out"
        )
