"""Calibration: which range of a tensor the integers cover. Lesson 21 derives each of them."""

from __future__ import annotations

import torch

from helpers.quantize import _finite, affine_params, dequantize, quantize


def minmax(x: object) -> torch.Tensor:
    """[low, high]: all of x, clipping nothing."""
    x = _finite(x)
    return torch.stack([x.min(), x.max()])


def percentile(x: object, percent: float = 99.9) -> torch.Tensor:
    """[low, high] between which `percent` of the values lie, as many cut off at either end."""
    if not 50 < percent <= 100:
        raise ValueError(f"percent is {percent}: choose a number above 50, up to 100")
    x = _finite(x).flatten().sort().values
    cut = round((100 - percent) / 200 * (len(x) - 1))
    return torch.stack([x[cut], x[len(x) - 1 - cut]])


def mse(
    x: object, *, bits: int = 8, symmetric: bool = False, signed: bool = True, count: int = 100
) -> torch.Tensor:
    """[low, high], the fraction i / count of the range whose squared error on x is smallest."""
    x = _finite(x).flatten()

    def error(window: torch.Tensor) -> float:
        params = affine_params(window, bits=bits, symmetric=symmetric, signed=signed)
        return float((x - dequantize(quantize(x, params), params)).square().sum())

    widest = minmax(x)
    return min((widest * (i / count) for i in range(1, count + 1)), key=error)


def entropy(x: object, *, bits: int = 8, bins: int = 2048) -> torch.Tensor:
    """[low, high], clipped at the |x| whose histogram loses least in 2^(bits-1) levels.

    Kullback-Leibler divergence between the histogram of |x|, its tail moved into the last bin kept,
    and the same histogram merged into the levels (Migacz 2017, the calibration of TensorRT). Exact
    zeros, most of what leaves a ReLU, are not counted: each range keeps them, and their one bin
    would outweigh all others and clip nearly everything.
    """
    x = _finite(x).flatten()
    top = float(x.abs().max())
    levels = max(2 ** (bits - 1), 2)
    if top == 0 or levels >= bins:
        return minmax(x)
    counts = torch.histc(x[x != 0].abs(), bins, 0, top).double()
    best, kept = float("inf"), bins
    for n in range(levels, bins + 1, max(1, levels // 16)):
        p = counts[:n].clone()
        p[-1] += counts[n:].sum()
        group = torch.arange(n) * levels // n
        used = (counts[:n] > 0).double()
        mass = torch.zeros(levels, dtype=torch.double).index_add_(0, group, counts[:n])
        size = torch.zeros(levels, dtype=torch.double).index_add_(0, group, used)
        q = (mass / size.clamp(min=1))[group] * used
        seen = p > 0
        if (q[seen] == 0).any() or q.sum() == 0:
            continue  # a bin with values gets none: infinitely bad
        p, q = p / p.sum(), q / q.sum()
        divergence = float((p[seen] * (p[seen] / q[seen]).log()).sum())
        if divergence < best:
            best, kept = divergence, n
    threshold = top * kept / bins
    return minmax(x).clamp(-threshold, threshold)
