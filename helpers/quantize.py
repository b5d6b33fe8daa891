"""Quantization: from real numbers to few-bit integers and back, by formulas that lesson 21 derives.

Tensors are float32 torch tensors; NumPy arrays and lists are taken, too. A real number r and its
integer q belong together by r = scale * (q - zero_point) (Jacob et al. 2018, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

TINY = torch.finfo(torch.float32).tiny  # the smallest scale whose inverse is finite


def _finite(x: object, name: str = "x") -> torch.Tensor:
    """x as a float32 tensor; an error if it is empty, not of floats, or not finite."""
    x = torch.as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}: pass real numbers, such as float32")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, of shape {tuple(x.shape)}: pass at least one value")
    x = x.float()
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{name} holds NaN or what float32 calls infinity: no integer stands for it"
        )
    return x


def _axis(axis: int | None, x: torch.Tensor) -> int | None:
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis}: x has {x.ndim} axes, so choose {-x.ndim} to {x.ndim - 1}")
    return axis if axis is None or axis >= 0 else axis + x.ndim


def _rows(x: torch.Tensor, axis: int) -> torch.Tensor:
    """[C, values]: one row for each index along the axis."""
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


@dataclass(frozen=True)
class QParams:
    """Integers of `bits` bits; scale float32 and zero_point int32, both [] or [C] along `axis`."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    bits: int = 8
    signed: bool = True
    axis: int | None = None

    def __post_init__(self):
        if isinstance(self.bits, bool) or not isinstance(self.bits, int):
            raise TypeError(f"bits is {self.bits!r}: pass a whole number from 1 to 16")
        if not 1 <= self.bits <= 16:
            raise ValueError(f"bits is {self.bits}: choose 1 to 16")
        object.__setattr__(self, "scale", torch.as_tensor(self.scale).float())
        zero_point = torch.as_tensor(self.zero_point)
        if zero_point.is_floating_point():
            raise TypeError("zero_point is a float: zero has to lie on an integer")
        object.__setattr__(self, "zero_point", zero_point.int())
        if not (torch.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError(f"scale {self.scale.tolist()}: every scale is finite and above 0")
        if self.scale.shape != zero_point.shape or self.scale.ndim != int(self.axis is not None):
            raise ValueError(
                f"scale {tuple(self.scale.shape)}, zero_point {tuple(zero_point.shape)}, axis "
                f"{self.axis}: with an axis both are [C], without one both are []"
            )
        if (zero_point < self.qmin).any() or (zero_point > self.qmax).any():
            raise ValueError(
                f"zero_point outside {self.qmin} to {self.qmax}: zero would be clipped"
            )

    @property
    def qmin(self) -> int:
        return -(2 ** (self.bits - 1)) if self.signed else 0

    @property
    def qmax(self) -> int:
        return self.qmin + 2**self.bits - 1

    def along(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """scale and zero_point in a shape that broadcasts against x."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [1] * x.ndim
        shape[_axis(self.axis, x)] = -1
        if x.shape[self.axis] != len(self.scale):
            raise ValueError(
                f"x has {x.shape[self.axis]} channels along axis {self.axis}, and there are "
                f"{len(self.scale)} scales"
            )
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


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
    """
    x = _finite(x)
    axis = _axis(axis, x)
    limits = QParams(torch.tensor(1.0), torch.tensor(0), bits, signed)  # checks bits
    rows = (x.reshape(1, -1) if axis is None else _rows(x, axis)).double()
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    if symmetric:
        if signed and bits == 1:
            raise ValueError("1 signed bit has the levels -1 and 0: use symmetric=False")
        if not signed and (low < 0).any():
            raise ValueError("symmetric and unsigned leaves no room for negative values in x")
        width, steps = torch.maximum(-low, high), limits.qmax
    else:
        width, steps = high - low, limits.qmax - limits.qmin
    scale = torch.where(width > 0, (width / steps).clamp(min=TINY), 1.0).float()
    zero_point = torch.zeros_like(scale)
    if not symmetric:
        zero_point = (limits.qmin - torch.round(low / scale)).clamp(limits.qmin, limits.qmax)
    if axis is None:
        scale, zero_point = scale[0], zero_point[0]
    return QParams(scale, zero_point.int(), bits, signed, axis)


def power_of_two_params(x: object, *, bits: int = 8, signed: bool = True) -> QParams:
    """Symmetric, with the smallest scale 2^k that clips nothing: a shift does the multiplication.

    The fixed-point form round(x * 2^f) of DSPs, with f = -k fraction bits.
    """
    params = affine_params(x, bits=bits, symmetric=True, signed=signed)
    return QParams(torch.exp2(torch.ceil(torch.log2(params.scale))), 0, bits, signed)


def quantize(x: object, params: QParams) -> torch.Tensor:
    """round(x / scale) + zero_point, clipped to bits; ties to even -> int32 of the same shape.

    x / scale is computed as x * (1 / scale) in float32, as torch.quantize_per_tensor does.
    """
    x = _finite(x)
    scale, zero_point = params.along(x)
    q = torch.round(x * (1 / scale)) + zero_point
    return q.clamp(params.qmin, params.qmax).int()


def dequantize(q: torch.Tensor, params: QParams) -> torch.Tensor:
    """scale * (q - zero_point), float32. q: integers from qmin to qmax."""
    q = torch.as_tensor(q)
    if q.is_floating_point() or q.dtype == torch.bool:
        raise TypeError(f"q has dtype {q.dtype}: pass the integers that quantize gave")
    if q.numel() and (q.min() < params.qmin or q.max() > params.qmax):
        raise ValueError(f"q leaves {params.qmin} to {params.qmax}, what {params.bits} bits hold")
    scale, zero_point = params.along(q)
    return (q.int() - zero_point) * scale


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context, x, scale, zero_point, qmin, qmax):
        q = torch.round(x * (1 / scale)) + zero_point
        context.save_for_backward((q >= qmin) & (q <= qmax))
        return (q.clamp(qmin, qmax) - zero_point) * scale

    @staticmethod
    def backward(context, gradient):
        (inside,) = context.saved_tensors
        return gradient * inside, None, None, None, None


def fake_quantize(x: torch.Tensor, params: QParams) -> torch.Tensor:
    """dequantize(quantize(x)) in float32, whose gradient is 1 where x is not clipped and 0 else.

    The straight-through estimator (Bengio et al. 2013); torch.fake_quantize_per_tensor_affine.
    """
    x = _finite(x)
    return _StraightThrough.apply(x, *params.along(x), params.qmin, params.qmax)


def kmeans_codebook(x: object, bits: int, rounds: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """(codebook float32 [2^bits], ascending; indices uint8 or int32 of x's shape): x ~ book[index].

    One-dimensional k-means by Lloyd's rounds from evenly spaced centers (Han et al. 2016, section
    3.2, linear initialization). A center without values stays where it is.
    """
    x = _finite(x)
    if not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}: choose 1 to 16")
    values = x.flatten().double().sort().values
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
    indices = torch.searchsorted((book[1:] + book[:-1]) / 2, x.double())
    return book.float(), indices.to(torch.uint8 if bits <= 8 else torch.int32)


def sqnr_db(x: object, x_hat: object) -> float:
    """10 log10(sum x^2 / sum (x - x_hat)^2): signal to quantization noise, in dB; inf if equal."""
    x, x_hat = _finite(x).double(), _finite(x_hat, "x_hat").double()
    if x.shape != x_hat.shape:
        raise ValueError(f"x {tuple(x.shape)} and x_hat {tuple(x_hat.shape)} differ in shape")
    noise = float((x - x_hat).square().sum())
    signal = float(x.square().sum())
    if noise == 0:
        return float("inf")
    return float(10 * torch.log10(torch.tensor(signal / noise, dtype=torch.double)))
