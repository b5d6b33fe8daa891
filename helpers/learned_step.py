"""A learned step (LSQ, Esser et al. 2020), and a layer whose weights are rounded by one.

Lesson 25 derives both. helpers.qat puts them into a network.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from helpers.arguments import whole
from helpers.calibrate import best_fraction, unit
from helpers.inputs import as_tensor
from helpers.qparams import TINY, QParams, along, channels, finite, limits


class _LearnedStep(torch.autograd.Function):
    """round(clip(x / step)) * step with the gradients of Esser et al. 2020, equations 3 and 5."""

    @staticmethod
    def forward(context, x, step, qmin, qmax, factor):
        v = x / step
        q = v.round().clamp_(qmin, qmax)
        context.save_for_backward(v, q)
        context.limits = qmin, qmax, factor, step.shape
        return q * step

    @staticmethod
    def backward(context, gradient):
        v, q = context.saved_tensors
        qmin, qmax, factor, shape = context.limits
        inside = (v >= qmin) & (v <= qmax)
        slope = torch.where(inside, q - v, q).mul_(gradient)  # v may be infinite outside
        others = [i for i, size in enumerate(shape) if size == 1]
        if others:  # torch takes an empty list for all axes
            slope = slope.sum(others, keepdim=True)
        return gradient * inside, factor * slope, None, None, None


class LSQ(nn.Module):
    """Fake quantization whose step is learned (Esser et al. 2020), symmetric around 0.

    The first batch that it sees starts the step (section 2.2), whose gradient is scaled by
    1 / sqrt(N qmax), with N values to a step. axis: one step for each of the `size` channels of x
    along it. narrow: the integers go from -qmax to qmax. Float tensors x of any shape give tensors
    of x's shape and dtype; the arithmetic is float32, or float64 if x is. bits: 2 to 16, or 1
    unsigned one.

    >>> layer = LSQ(bits=3)
    >>> layer.set_step(0.5)
    >>> layer(torch.tensor([-9.0, 0.2, 0.3, 9.0])).tolist()
    [-2.0, 0.0, 0.5, 1.5]
    """

    def __init__(
        self,
        bits: int = 8,
        signed: bool = True,
        axis: int | None = None,
        size: int = 1,
        narrow: bool = False,
    ):
        super().__init__()
        self.qmin, self.qmax = limits(bits, signed, narrow)
        if self.qmax < 1:
            raise ValueError("a learned step needs 2 bits, or 1 unsigned one")
        self.bits, self.signed, self.axis, self.narrow = int(bits), signed, axis, narrow
        self.step = nn.Parameter(torch.ones(1 if axis is None else whole("size", size)))
        self.register_buffer("started", torch.tensor(False))

    def set_step(self, step: object) -> None:
        """Go on from this step: [size] numbers above 0, or one for all.

        ValueError where the step, stored with as many bits as the model, would be 0 or infinite.
        """
        stored = as_tensor(step).to(self.step.dtype)
        if not (torch.isfinite(stored) & (stored > 0)).all():
            raise ValueError(
                f"step {as_tensor(step).tolist()} is {stored.tolist()} in {stored.dtype}: every "
                "step is finite and above 0, so scale x, or keep the model in float32"
            )
        with torch.no_grad():
            self.step.copy_(stored)
            self.started.fill_(True)

    def start(self, x: torch.Tensor) -> None:
        """Set the step from x: 2 mean|x| / sqrt(qmax), or 1 if x is 0 throughout."""
        rows, powers = unit(self.seen(x))
        mean = rows.abs().mean(1)
        step = 2 * mean / self.qmax**0.5 * powers[:, 0]
        self.set_step(torch.where(mean > 0, step.clamp(min=TINY), 1.0))

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """What the steps are for, float32 [size, N]: x, or what the clip at 0 leaves of it."""
        rows = channels(finite(x), self.axis)
        if len(rows) != len(self.step):
            raise ValueError(
                f"x has {len(rows)} channels along axis {self.axis}, and there are "
                f"{len(self.step)} steps"
            )
        return rows if self.signed else rows.clamp(min=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point():
            raise TypeError(f"x has dtype {x.dtype}: pass real numbers, such as float32")
        if not self.started:
            self.start(x)
        scale = self.scale
        wide = torch.promote_types(x.dtype, scale.dtype)
        v, step = x.to(wide), along(scale, x, self.axis).to(wide)
        if not torch.is_grad_enabled():  # the same numbers in place, in half the time
            return (v / step).round_().clamp_(self.qmin, self.qmax).mul_(step).to(x.dtype)
        factor = (self.qmax * max(x.numel(), 1) / self.step.numel()) ** -0.5
        return _LearnedStep.apply(v, step, self.qmin, self.qmax, factor).to(x.dtype)

    @property
    def scale(self) -> torch.Tensor:
        """|step| of [size], float32 or wider, at least 2^-126: an update may carry it across 0."""
        return self.step.to(torch.promote_types(self.step.dtype, torch.float32)).abs().clamp(TINY)

    def params(self) -> QParams:
        """What it has learned."""
        scale = self.scale.detach()
        scale = scale[0] if self.axis is None else scale
        zero_point = torch.zeros_like(scale).int()
        return QParams(scale, zero_point, self.bits, self.signed, self.axis, self.narrow)


def best_step(quantizer: LSQ, x: torch.Tensor) -> torch.Tensor:
    """float32 [size]: the step of least squared error on x, of 100 fractions of the largest.

    The largest step takes the largest x to qmax. Of a large x, every k-th value is looked at, so
    that about 100,000 to a step remain. 1 for a channel of zeros.

    >>> round(best_step(LSQ(bits=2, signed=False), torch.tensor([1.0] * 99 + [4.0])).item(), 2)
    1.03
    """
    rows = quantizer.seen(x)
    rows = rows[:, :: max(1, rows.shape[1] // 100_000)].contiguous()
    rows, powers = unit(rows)
    top = rows.abs().amax(1, keepdim=True)

    def step(fraction: torch.Tensor) -> torch.Tensor:
        return torch.where(top > 0, top * fraction / quantizer.qmax, 1.0)

    def rebuilt(fraction: torch.Tensor) -> torch.Tensor:
        q = (rows / step(fraction)).round_().clamp_(quantizer.qmin, quantizer.qmax)
        return q * step(fraction)

    best = step(best_fraction(rows, rebuilt)) * powers
    return best.clamp(min=TINY)[:, 0]


class QuantizedLayer(nn.Module):
    """A convolution or dense layer that computes with round(weight / step) * step.

    One step for each output channel. 8 bits go from -127 to 127, as LiteRT stores them. x: what the
    layer reads, in the layer's dtype.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, bits: int):
        super().__init__()
        if type(layer) not in (nn.Conv2d, nn.Linear):
            raise TypeError(f"layer is a {type(layer).__name__}: pass a Conv2d or a Linear")
        self.layer = layer
        self.weight_quantizer = LSQ(bits, axis=0, size=len(layer.weight), narrow=bits == 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layer, weight = self.layer, self.weight_quantizer(self.layer.weight)
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, layer.bias)
        padding = layer.padding
        if layer.padding_mode != "zeros":
            x, padding = functional.pad(x, borders(layer), layer.padding_mode), 0
        return functional.conv2d(
            x, weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups
        )


def borders(layer: nn.Conv2d) -> list[int]:
    """[left, right, top, bottom]: how many columns and rows a convolution adds to its input.

    >>> borders(nn.Conv2d(1, 1, (3, 4), padding="same"))
    [1, 2, 1, 1]
    """
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding != "same":
        return [side for size in reversed(layer.padding) for side in (size, size)]
    missing = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    return [side for n in reversed(missing) for side in (n // 2, n - n // 2)]
