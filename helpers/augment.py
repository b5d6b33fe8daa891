"""Random changes of a training batch: moved images, and motion as if of other people."""

from __future__ import annotations

import torch
from torch import nn

from helpers.arguments import whole


def flip_and_shift(x: torch.Tensor, generator: torch.Generator, pixels: int = 2) -> torch.Tensor:
    """Mirror half of the images and shift each by up to `pixels` along both axes.

    x: [N, 1, H, W]; what is shifted in is 0. Only `generator` is drawn from. Raises ValueError for
    another shape.

    >>> x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    >>> flip_and_shift(x, torch.Generator().manual_seed(4), pixels=0)
    tensor([[[[3., 2., 1.]]]])
    """
    pixels = whole("pixels", pixels, 0)
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x has shape {list(x.shape)}: expected images [N, 1, H, W]")
    n, _, height, width = x.shape
    shift = torch.randint(0, 2 * pixels + 1, (2, n, 1), generator=generator)
    rows = shift[0] + torch.arange(height)
    columns = shift[1] + torch.arange(width)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirror, columns.flip(1), columns)
    padded = nn.functional.pad(x, (pixels,) * 4)
    moved = padded[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None, :]]
    return moved.unsqueeze(1)


def move_watch(
    x: torch.Tensor,
    generator: torch.Generator,
    tilt: float = 0.2,
    loudness: float = 0.1,
    tempo: float = 0.2,
    shift: float = 10.0,
) -> torch.Tensor:
    """Windows float32 [N, time, 6], time >= 2 -> the same shape, as if moved by somebody else.

    Each window draws its own changes. Its tempo is multiplied by up to exp(±tempo) and its middle
    moved by up to ±shift steps, linearly interpolated and reflected at the ends; the rotation rate
    is scaled with the tempo. The watch is turned, both sensors alike, by a rotation vector with
    deviation `tilt` (rad) on each axis. Each sensor is scaled by exp(loudness * normal). Half of
    the windows move to the other wrist: a mirror turns the x axis of a vector (acceleration) and
    the y and z axes of a pseudovector (rotation). Only `generator` is drawn from.
    Raises ValueError for another shape.

    >>> still = dict(tilt=0.0, loudness=0.0, tempo=0.0, shift=0.0)
    >>> move_watch(torch.ones(1, 2, 6), torch.Generator().manual_seed(0), **still)[0, 0]
    tensor([-1.,  1.,  1.,  1., -1., -1.])
    """
    if x.ndim != 3 or x.shape[1] < 2 or x.shape[2] != 6:
        raise ValueError(f"x has shape {list(x.shape)}: expected windows [N, time >= 2, 6]")
    n, steps, _ = x.shape
    middle = (steps - 1) / 2
    speed = torch.exp(tempo * (2 * torch.rand(n, 1, generator=generator) - 1))
    offset = shift * (2 * torch.rand(n, 1, generator=generator) - 1)
    at = middle + offset + speed * (torch.arange(steps) - middle)
    at = (steps - 1) - ((steps - 1) - at.abs()).abs()  # reflected at both ends,
    at = at.clamp(min=0)  # and a window shorter than the shift stays at its first step
    left = at.long().clamp(0, steps - 2)
    rows = torch.arange(n)[:, None]
    x = torch.lerp(x[rows, left], x[rows, left + 1], (at - left)[:, :, None])

    skew = torch.zeros(n, 3, 3)
    turn = tilt * torch.randn(n, 3, generator=generator)
    skew[:, [2, 0, 1], [1, 2, 0]] = turn
    skew = skew - skew.mT
    x = (x.reshape(n, 2 * steps, 3) @ torch.linalg.matrix_exp(skew)).reshape(n, steps, 6)

    gain = torch.exp(loudness * torch.randn(n, 1, 2, generator=generator))
    gain = gain * torch.cat([torch.ones(n, 1, 1), speed[:, :, None]], dim=2)
    mirror = torch.tensor([-1.0, 1.0, 1.0, 1.0, -1.0, -1.0])
    other = torch.rand(n, 1, 1, generator=generator) < 0.5
    return x * gain.repeat_interleave(3, dim=2) * torch.where(other, mirror, 1.0)


def half_moved(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """flip_and_shift for half of the images [N, 1, H, W]; the others stay as they are.

    >>> half_moved(torch.zeros(2, 1, 28, 28), torch.Generator().manual_seed(0)).shape
    torch.Size([2, 1, 28, 28])
    """
    moved = flip_and_shift(x, generator)
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, moved, x)
