"""Quantization: from real numbers to few-bit integers and back, by formulas that lesson 21 derives.

Real numbers are tensors, NumPy arrays or lists of any floating type, and are computed with in
float32; what comes back is detached from any graph, but for fake_quantize.
"""

from __future__ import annotations

import math

import torch

from helpers.arguments import whole
from helpers.inputs import as_tensor
from helpers.qparams import TINY, QParams, channels, finite, limits


def affine_params(
    x: object,
    *,
    bits: int = 8,
    symmetric: bool = False,
    axis: int | None = None,
    signed: bool = True,
) -> QParams:
    """The scale and zero point that spread the integers over the range of x.

    The range runs from min(x, 0) to max(x, 0), so that zero is one of the levels (padding, ReLU).
    symmetric: zero_point 0 and scale max|x| / (2^(bits-1) - 1), as LiteRT stores weights; unsigned
    it needs x >= 0 and divides by 2^bits - 1. axis: one scale for each index along it. A channel
    of zeros gets scale 1. A calibrated range is passed as x: affine_params([low, high]).

    >>> params = affine_params([-1.0, 0.0, 4.1])
    >>> round(params.scale.item(), 4), params.zero_point.item()
    (0.02, -78)
    """
    x = finite(x)
    qmin, qmax = limits(bits, signed)
    rows = channels(x, axis).double()
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if symmetric:
        if signed and qmax == 0:
            raise ValueError("1 signed bit has the levels -1 and 0: use symmetric=False")
        if not signed and (low < 0).any():
            raise ValueError("symmetric and unsigned leaves no room for negative values in x")
        width, steps = torch.maximum(-low, high), qmax
    else:
        width, steps = high - low, qmax - qmin
    scale = torch.where(width > 0, (width / steps).clamp(min=TINY), 1.0).float()
    zero_point = torch.zeros_like(scale)
    if not symmetric:
        zero_point = (qmin - torch.round(low / scale)).clamp(qmin, qmax)
    if axis is None:
        scale, zero_point = scale[0], zero_point[0]
    return QParams(scale, zero_point.int(), bits, signed, axis)


def power_of_two_params(x: object, *, bits: int = 8, signed: bool = True) -> QParams:
    """Symmetric, with the smallest scale 2^k that clips nothing: a shift does the multiplication.

    The fixed-point form round(x * 2^f) of DSPs, with f = -k fraction bits.

    >>> power_of_two_params([0.3, -1.2]).scale.item() == 2**-6
    True
    """
    params = affine_params(x, bits=bits, symmetric=True, signed=signed)
    return QParams(2.0 ** math.ceil(math.log2(params.scale)), 0, bits, signed)


def quantize(x: object, params: QParams) -> torch.Tensor:
    """round(x / scale) + zero_point, clipped to bits; ties to even -> int32 of the same shape.

    x / scale is computed as x * (1 / scale) in float32, as torch.quantize_per_tensor does.

    >>> quantize([-0.6, 0.25, 0.75, 99.0], QParams(0.5, 0))
    tensor([ -1,   0,   2, 127], dtype=torch.int32)
    """
    x = finite(x, least=0)
    scale, zero_point = params.along(x)
    q = torch.round(x * (1 / scale)) + zero_point
    return q.clamp(params.qmin, params.qmax).int()


def dequantize(q: object, params: QParams) -> torch.Tensor:
    """scale * (q - zero_point), float32. q: integers from qmin to qmax, of any integer type.

    >>> dequantize([0, 255], QParams(0.5, 10, signed=False))
    tensor([ -5.0000, 122.5000])
    """
    q = as_tensor(q)
    if q.is_floating_point() or q.dtype == torch.bool:
        raise TypeError(f"q has dtype {q.dtype}: pass the integers that quantize gave")
    wide = q.double()  # torch compares no unsigned integers of more than 8 bits
    if ((wide < params.qmin) | (wide > params.qmax)).any():
        raise ValueError(f"q leaves {params.qmin} to {params.qmax}, what {params.bits} bits hold")
    return to_reals(q.int(), *params.along(q))


def to_reals(q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor) -> torch.Tensor:
    """(q - zero_point) * scale, float32; an error if one of them lies beyond float32.

    >>> to_reals(torch.tensor([3.0]), torch.tensor(0.5), torch.tensor(1))
    tensor([1.])
    """
    reals = (q - zero_point) * scale
    if not torch.isfinite(reals).all():
        raise ValueError(f"scale {float(scale.max()):.3g} carries an integer of x beyond float32")
    return reals


class _StraightThrough(torch.autograd.Function):
    """As torch.fake_quantize_per_channel_affine, which takes 1e20 steps for the least integer."""

    @staticmethod
    def forward(context, x, scale, zero_point, qmin, qmax):
        q = torch.round(x * (1 / scale)) + zero_point
        context.save_for_backward((q >= qmin) & (q <= qmax))
        return to_reals(q.clamp(qmin, qmax), scale, zero_point)

    @staticmethod
    def backward(context, gradient):
        (inside,) = context.saved_tensors
        return gradient * inside, None, None, None, None


def fake_quantize(x: object, params: QParams) -> torch.Tensor:
    """dequantize(quantize(x)), whose gradient by x is 1 where x is not clipped and 0 elsewhere.

    The straight-through estimator (Bengio et al. 2013). Computed in float32; a tensor x gives a
    tensor of its own dtype, an array or a list gives float32.

    >>> fake_quantize([0.3, -0.8, 99.0], QParams(0.5, 0))
    tensor([ 0.5000, -1.0000, 63.5000])
    """
    values = finite(x, least=0)
    x = x if isinstance(x, torch.Tensor) else values
    y = _StraightThrough.apply(x.float(), *params.along(x), params.qmin, params.qmax)
    return y.to(x.dtype)


def kmeans_codebook(x: object, bits: int, rounds: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """(codebook float32 [2^bits], ascending; indices uint8 or int32 of x's shape): x ~ book[index].

    One-dimensional k-means by Lloyd's rounds, at most `rounds` of them, from evenly spaced centers
    (Han et al. 2016, section 3.2, linear initialization). A center without values stays where it
    is. bits: 1 to 16; the indices are uint8 up to 8.

    >>> kmeans_codebook([0.0, 1.0, 9.0, 10.0], 1)
    (tensor([0.5000, 9.5000]), tensor([0, 0, 1, 1], dtype=torch.uint8))
    """
    x = finite(x).double()
    bits, rounds = whole("bits", bits, 1, 16), whole("rounds", rounds, 0)
    values = x.flatten().sort().values
    total = torch.cat([values.new_zeros(1), values.cumsum(0)])
    book = torch.linspace(float(values[0]), float(values[-1]), 2**bits, dtype=torch.double)
    for _ in range(rounds):
        edges = torch.searchsorted(values, (book[1:] + book[:-1]) / 2, right=True)
        edges = torch.cat([edges.new_zeros(1), edges, edges.new_tensor([len(values)])])
        size = edges.diff()
        mean = (total[edges[1:]] - total[edges[:-1]]) / size.clamp(min=1)
        moved = torch.where(size > 0, mean, book)
        if torch.equal(moved, book):
            break
        book = moved
    indices = torch.searchsorted((book[1:] + book[:-1]) / 2, x.contiguous())
    return book.float(), indices.to(torch.uint8 if bits <= 8 else torch.int32)


def sqnr_db(x: object, x_hat: object) -> float:
    """10 log10(sum x^2 / sum (x - x_hat)^2): signal to quantization noise, in dB; inf if equal.

    >>> round(sqnr_db([3.0, 4.0], [3.3, 4.4]), 3)
    20.0
    """
    x, x_hat = finite(x).double(), finite(x_hat, "x_hat").double()
    if x.shape != x_hat.shape:
        raise ValueError(f"x {tuple(x.shape)} and x_hat {tuple(x_hat.shape)} differ in shape")
    noise = float((x - x_hat).square().sum())
    signal = float(x.square().sum())
    if noise == 0:
        return float("inf")
    return float(10 * torch.log10(torch.tensor(signal / noise, dtype=torch.double)))
