"""From the data as it is stored to what a PyTorch model reads."""

from __future__ import annotations

import numpy as np
import torch

from helpers.arguments import pixels


def as_tensor(values: object) -> torch.Tensor:
    """A tensor of any array or list, detached: of any memory layout, byte order or unsigned type.

    torch takes no NumPy array that is flipped or of the other byte order.

    >>> as_tensor(np.arange(3, dtype=">f4")[::-1])
    tensor([2., 1., 0.])
    """
    if isinstance(values, torch.Tensor):
        return values.detach()
    array = np.asarray(values)
    return torch.as_tensor(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def as_input(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 28, 28] in [0, 1]; anything else is an error.

    >>> as_input(np.full((1, 28, 28), 51, np.uint8))[0, 0, 0, :2]
    tensor([0.2000, 0.2000])
    """
    return as_tensor(pixels(images)).unsqueeze(1).float().div_(255)


def to_tensor(inputs: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 images become [N, 1, 28, 28] in [0, 1], channels last; float32 windows stay."""
    inputs = as_tensor(inputs)
    if inputs.dtype == torch.uint8:
        return as_input(inputs).to(memory_format=torch.channels_last)
    if inputs.dtype != torch.float32:
        raise TypeError(f"inputs have dtype {inputs.dtype}: pass uint8 images or float32 windows")
    return inputs
