"""What few-bit integers stand for: one scale and zero point for a tensor, or for each channel.

A real number r and its integer q belong together by r = scale * (q - zero_point) (Jacob et al.
2018, equation 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from helpers.arguments import whole
from helpers.inputs import as_tensor

TINY = torch.finfo(torch.float32).tiny  # 2^-126, the least scale: 1 / scale is finite and exact


def finite(x: object, name: str = "x", least: int = 1) -> torch.Tensor:
    """x as a float32 tensor without a graph; an error if it is not of finite floats, or too few.

    >>> finite([0.5, 2.0])
    tensor([0.5000, 2.0000])
    """
    x = as_tensor(x)
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}: pass real numbers, such as float32")
    if x.numel() < least:
        raise ValueError(f"{name} is empty, of shape {tuple(x.shape)}: pass at least one value")
    x = x.float()
    if not torch.isfinite(x).all():
        raise ValueError(
            f"{name} holds NaN or what float32 calls infinity: no integer stands for it"
        )
    return x


def limits(bits: int, signed: bool = True, narrow: bool = False) -> tuple[int, int]:
    """The least and the largest integer of 1 to 16 bits.

    narrow: from -qmax to qmax, so that each integer has its negative; needs 2 signed bits or more.

    >>> limits(8), limits(8, narrow=True), limits(4, signed=False)
    ((-128, 127), (-127, 127), (0, 15))
    """
    bits = whole("bits", bits, 1, 16)
    if narrow and (not signed or bits == 1):
        raise ValueError("narrow is for signed integers of 2 bits or more: leave it out")
    if not signed:
        return 0, 2**bits - 1
    qmax = 2 ** (bits - 1) - 1
    return -qmax - (not narrow), qmax


def channels(x: torch.Tensor, axis: int | None) -> torch.Tensor:
    """x as rows [C, values], one for each index along axis; without an axis as the one row [1, N].

    >>> channels(torch.arange(6).reshape(2, 3), 1)
    tensor([[0, 3],
            [1, 4],
            [2, 5]])
    """
    if axis is None:
        return x.reshape(1, -1)
    axis = whole("axis", axis, -x.ndim, x.ndim - 1)
    return x.movedim(axis, 0).reshape(x.shape[axis], -1)


def along(values: torch.Tensor, x: torch.Tensor, axis: int | None) -> torch.Tensor:
    """One value, or one for each channel of x along axis, in a shape that broadcasts against x.

    >>> along(torch.ones(3), torch.zeros(2, 3, 5), 1).shape
    torch.Size([1, 3, 1])
    """
    shape = [1] * x.ndim
    if axis is not None:
        axis = whole("axis", axis, -x.ndim, x.ndim - 1)
        if x.shape[axis] != len(values):
            raise ValueError(
                f"x has {x.shape[axis]} channels along axis {axis}, and there are "
                f"{len(values)} scales"
            )
        shape[axis] = -1
    return values.reshape(shape)


@dataclass(eq=False)
class QParams:
    """Integers of `bits` bits; scale float32 and zero_point int32, both [] or [C] along `axis`.

    Numbers, arrays and tensors are taken. A scale lies between 2^-126 and the largest float32;
    narrow leaves out the least integer (see limits).

    >>> params = QParams(0.5, 3)
    >>> params.qmin, params.qmax, params.scale
    (-128, 127, tensor(0.5000))
    """

    scale: torch.Tensor
    zero_point: torch.Tensor
    bits: int = 8
    signed: bool = True
    axis: int | None = None
    narrow: bool = False

    def __post_init__(self):
        self.bits = whole("bits", self.bits, 1, 16)
        self.qmin, self.qmax = limits(self.bits, self.signed, self.narrow)
        zero_point = as_tensor(self.zero_point)
        if zero_point.is_floating_point():
            raise TypeError("zero_point is a float: zero has to lie on an integer")
        with torch.inference_mode(False):  # so that a graph may use what inference mode has found
            self.scale = as_tensor(self.scale).to(torch.float32, copy=True)
            self.zero_point = zero_point.to(torch.int32, copy=True)
        if not (torch.isfinite(self.scale) & (self.scale >= TINY)).all():
            raise ValueError(
                f"scale {self.scale.tolist()}: every scale is finite and above 0, at least "
                f"{TINY:.2g}, below which float32 has no inverse for it"
            )
        if self.scale.shape != zero_point.shape or self.scale.ndim != int(self.axis is not None):
            raise ValueError(
                f"scale {tuple(self.scale.shape)}, zero_point {tuple(zero_point.shape)}, axis "
                f"{self.axis}: with an axis both are [C], without one both are []"
            )
        inside = (zero_point.double() >= self.qmin) & (zero_point.double() <= self.qmax)
        if not inside.all():
            raise ValueError(
                f"zero_point outside {self.qmin} to {self.qmax}: zero would be clipped"
            )

    def along(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """scale and zero_point in a shape that broadcasts against x."""
        return along(self.scale, x, self.axis), along(self.zero_point, x, self.axis)
