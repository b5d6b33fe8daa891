"""Calibration: which range of a tensor the integers cover. Lesson 21 derives each of them.

x is a tensor, an array or a list of real numbers, of any shape; a range is float32 [2], low and
high. c * x has the range of x times c, for each c that stays within float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from helpers.arguments import whole
from helpers.qparams import finite
from helpers.quantize import affine_params, dequantize, quantize


def minmax(x: object) -> torch.Tensor:
    """[low, high]: all of x, clipping nothing.

    >>> minmax([3.0, -1.0, 2.0])
    tensor([-1.,  3.])
    """
    x = finite(x)
    return torch.stack([x.min(), x.max()])


def percentile(x: object, percent: float = 99.9) -> torch.Tensor:
    """[low, high] between which `percent` of the values lie, as many cut off at either end.

    Both are values of x: the nearest ranks, as np.quantile(method="nearest") counts them.

    >>> percentile([float(i) for i in range(101)], 90)
    tensor([ 5., 95.])
    """
    if not 50 < percent <= 100:
        raise ValueError(f"percent is {percent}: choose a number above 50, up to 100")
    x = finite(x).flatten()
    cut = round((100 - percent) / 200 * (len(x) - 1))
    return torch.stack([x.kthvalue(cut + 1).values, x.kthvalue(len(x) - cut).values])


def unit(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row [C, N] divided by the power of two that leaves its largest size in [1, 2), powers.

    Squares of the result neither overflow nor vanish, and no digit has changed. powers: float32
    [C, 1]; a row of zeros has 1.

    >>> unit(torch.tensor([[12.0, -3.0]]))
    (tensor([[ 1.5000, -0.3750]]), tensor([[8.]]))
    """
    top = rows.abs().amax(1, keepdim=True).double()
    mantissa, _ = torch.frexp(top)  # in [0.5, 1)
    powers = torch.where(top > 0, top / (2 * mantissa), 1.0).float()
    return rows / powers, powers


def best_fraction(
    rows: torch.Tensor, rebuilt: Callable[[torch.Tensor], torch.Tensor], count: int = 100
) -> torch.Tensor:
    """Of 1/count, 2/count, ..., 1: the fraction with the least squared error on each row [C, N].

    rebuilt: fraction (float32 []) -> what is left of rows when the range is that much of its
    largest, [C, N]. Of equal errors the smaller range wins. Returns float32 [C, 1].

    >>> rows = torch.tensor([[0.1, 0.2, 0.3, 9.0]])
    >>> best_fraction(rows, lambda fraction: rows.clamp(max=10 * fraction), 10)
    tensor([[0.9000]])
    """
    least = rows.new_full((len(rows), 1), float("inf"))
    best = torch.ones_like(least)
    for i in range(1, whole("count", count) + 1):
        fraction = rows.new_tensor(i / count)
        error = (rebuilt(fraction) - rows).square_().sum(1, keepdim=True)
        best = torch.where(error < least, fraction, best)
        least = torch.minimum(error, least)
    return best


def mse(
    x: object, *, bits: int = 8, symmetric: bool = False, signed: bool = True, count: int = 100
) -> torch.Tensor:
    """[low, high], the fraction i / count of the range whose squared error on x is smallest.

    >>> mse([0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 4.0], bits=2, count=4)
    tensor([0., 3.])
    """
    x = finite(x).reshape(1, -1)
    rows, _ = unit(x)
    widest = minmax(rows)

    def rebuilt(fraction: torch.Tensor) -> torch.Tensor:
        window = widest * fraction
        params = affine_params(window, bits=bits, symmetric=symmetric, signed=signed)
        return dequantize(quantize(rows, params), params)

    return minmax(x) * best_fraction(rows, rebuilt, count)[0]


def entropy(x: object, *, bits: int = 8, bins: int = 2048) -> torch.Tensor:
    """[low, high], clipped at the |x| whose histogram loses least in 2^(bits-1) levels.

    Kullback-Leibler divergence between the histogram of |x|, its tail moved into the last bin kept,
    and the same histogram merged into the levels (Migacz 2017, the calibration of TensorRT). The
    first range tried has as many bins as levels, each next one a sixteenth of that more. Exact
    zeros, most of what leaves a ReLU, are not counted: each range keeps them, and their one bin
    would outweigh all others and clip nearly everything. With no more bins than levels nothing is
    clipped.

    >>> entropy([0.5] * 90 + [1.0] * 9 + [8.0], bits=2, bins=16)
    tensor([0.5000, 1.0000])
    """
    x = finite(x).flatten()
    levels = max(2 ** (whole("bits", bits, 1, 16) - 1), 2)
    sizes = x[x != 0].abs().double()  # float32 would overflow on the way to a bin
    if len(sizes) == 0 or levels >= whole("bins", bins):
        return minmax(x)
    top = float(sizes.max())
    counts = torch.histc(sizes, bins, 0, top)
    best, kept = float("inf"), bins
    for n in range(levels, bins + 1, max(1, levels // 16)):
        p, used = counts[:n].clone(), counts[:n] > 0
        p[-1] += counts[n:].sum()
        group = torch.arange(n) * levels // n  # the level that a bin falls into
        mass = torch.bincount(group, counts[:n], levels)
        size = torch.bincount(group, used.double(), levels)
        q = (mass / size.clamp(min=1))[group] * used
        seen = p > 0
        if (q[seen] == 0).any():
            continue  # a bin with values gets none: infinitely bad
        p, q = p[seen] / p.sum(), q[seen] / q.sum()
        divergence = float((p * (p / q).log()).sum())
        if divergence < best:
            best, kept = divergence, n
    threshold = top * kept / bins
    return minmax(x).clamp(-threshold, threshold)
