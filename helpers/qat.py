"""Quantization-aware training: a ResNet whose every tensor is an integer times a learned step.

Lesson 23 derives it. Weights have one step for each filter, so that the factor of the batch norm
behind them moves into the step when the network is deployed.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from helpers.architectures import ResidualBlock
from helpers.inputs import to_tensor
from helpers.quantize import QParams, _finite, _rows


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
        slope = torch.addcmul(q, v, inside, value=-1).mul_(gradient)  # q - v inside, q outside
        others = [i for i, size in enumerate(shape) if size == 1]
        if others:  # torch takes an empty list for all axes
            slope = slope.sum(others, keepdim=True)
        return gradient * inside, factor * slope, None, None, None


class LSQ(nn.Module):
    """Fake quantization whose step is learned (Esser et al. 2020), symmetric around 0.

    The step starts at 2 mean|x| / sqrt(qmax) of the first batch that it sees (section 2.2), and its
    gradient is scaled by 1 / sqrt(N qmax), with N values to a step. axis: one step for each of the
    `size` channels.
    """

    def __init__(self, bits: int = 8, signed: bool = True, axis: int | None = None, size: int = 1):
        super().__init__()
        limits = QParams(torch.tensor(1.0), torch.tensor(0), bits, signed)
        if limits.qmax < 1:
            raise ValueError("a learned step needs 2 bits, or 1 unsigned one")
        self.bits, self.signed, self.axis = bits, signed, axis
        self.qmin, self.qmax = limits.qmin, limits.qmax
        self.step = nn.Parameter(torch.ones(size if axis is not None else 1))
        self.register_buffer("started", torch.tensor(False))

    def start(self, x: torch.Tensor) -> None:
        """Set the step from x."""
        x = _finite(x.detach())
        x = x if self.signed else x.clamp(min=0)  # what the clip at 0 leaves
        rows = x.reshape(1, -1) if self.axis is None else _rows(x, self.axis)
        step = 2 * rows.abs().mean(1) / self.qmax**0.5
        self.step.data = torch.where(step > 0, step, 1.0)
        self.started.fill_(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.started:
            self.start(x)
        shape = [1] * x.ndim
        if self.axis is not None:
            shape[self.axis] = -1
        step = self.scale.reshape(shape)
        if not torch.is_grad_enabled():  # the same numbers in place, in half the time
            return (x / step).round_().clamp_(self.qmin, self.qmax).mul_(step)
        factor = (self.qmax * x.numel() / self.step.numel()) ** -0.5
        return _LearnedStep.apply(x, step, self.qmin, self.qmax, factor)

    @property
    def scale(self) -> torch.Tensor:
        """|step|, float32 [size], at least 1e-8: an update may carry a small step across zero."""
        return self.step.abs().clamp(min=1e-8)

    def params(self) -> QParams:
        """What it has learned."""
        step = self.scale.detach()
        step = step[0] if self.axis is None else step
        return QParams(step, torch.zeros_like(step).int(), self.bits, self.signed, self.axis)


class QuantizedLayer(nn.Module):
    """A convolution or dense layer that computes with round(weight / step) * step."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, bits: int):
        super().__init__()
        self.layer = layer
        self.weight_quantizer = LSQ(bits, axis=0, size=len(layer.weight))
        if bits == 8:  # as LiteRT stores them, so that folding may change a sign
            self.weight_quantizer.qmin = -127

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight_quantizer(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        return self.layer._conv_forward(x, weight, self.layer.bias)


def insert_quantizers(model: nn.Sequential, bits: int) -> nn.Sequential:
    """A copy of a ResNet with quantizers whose steps are still to be started.

    Weights and what leaves a ReLU or the pooling get `bits` bits; the unsigned quantizer clips at 0
    and so takes the ReLU's place. The summands of a residual addition and the logits get 8 bits,
    with a sign. Nothing is put before the first layer: pixels are 8-bit integers already.
    """
    model = copy.deepcopy(model)

    def changed(module: nn.Module) -> nn.Module:
        if isinstance(module, nn.Conv2d | nn.Linear):
            return QuantizedLayer(module, bits)
        if isinstance(module, nn.ReLU):
            return LSQ(bits, signed=False)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return nn.Sequential(module, LSQ(bits, signed=False))
        for name, child in module.named_children():
            setattr(module, name, changed(child))
        if isinstance(module, ResidualBlock):
            for branch in (module.body, module.shortcut):
                if len(branch):  # an empty shortcut passes on what is quantized already
                    branch.append(LSQ(8))
        return module

    return changed(model).append(LSQ(8))


def start_steps(model: nn.Module, images: np.ndarray, how: str = "mse") -> None:
    """Start every step from images uint8 [N, 28, 28], in one pass.

    how: "mse", the step whose squared error is smallest, as post-training quantization would
    choose; "lsq", 2 mean|x| / sqrt(qmax) (Esser et al. 2020). Each quantizer sees what the
    quantizers before it leave.
    """
    if how not in ("mse", "lsq"):
        raise ValueError(f"how is {how!r}: choose mse or lsq")

    def start(quantizer: LSQ, inputs: tuple[torch.Tensor]) -> None:
        quantizer.start(inputs[0])
        if how == "mse":
            quantizer.step.data = best_step(quantizer, inputs[0])

    found = [m for m in model.modules() if isinstance(m, LSQ)]
    hooks = [m.register_forward_pre_hook(start) for m in found]
    model.eval()
    try:
        with torch.no_grad():
            model(to_tensor(images))
    finally:
        for hook in hooks:
            hook.remove()


def best_step(quantizer: LSQ, x: torch.Tensor) -> torch.Tensor:
    """float32 [size]: the step of least squared error on x, of 100 fractions of the largest.

    Of a large x, every k-th value is looked at, so that about 100,000 to a step remain.
    """
    x = x.detach() if quantizer.signed else x.detach().clamp(min=0)
    rows = x.reshape(1, -1) if quantizer.axis is None else x.movedim(quantizer.axis, 0).flatten(1)
    rows = rows[:, :: max(1, rows.shape[1] // 100_000)].contiguous()
    top = rows.abs().amax(1, keepdim=True)
    best = torch.full_like(top, float("inf"))
    step = torch.ones_like(top)
    for i in range(1, 101):
        trial = torch.where(top > 0, top * (i / 100) / quantizer.qmax, 1.0)
        q = (rows / trial).round_().clamp_(quantizer.qmin, quantizer.qmax)
        error = (q * trial - rows).square_().sum(1, keepdim=True)
        step = torch.where(error < best, trial, step)
        best = torch.minimum(error, best)
    return step[:, 0]


def fold(model: nn.Sequential) -> nn.Sequential:
    """A copy without batch norm, in evaluation mode, equal but for rounding: what is deployed.

    It begins with a quantizer of step 1/255, which changes no pixel and tells what the input is.
    The factor g = gamma / sqrt(variance + eps) of each filter goes into the weights and |g| into
    their step, so that the integers stay what they are (but for their sign, where g < 0).
    """
    model = copy.deepcopy(model).eval()

    def without_norms(sequence: nn.Sequential) -> nn.Sequential:
        kept = []
        for child in sequence:
            if isinstance(child, nn.BatchNorm2d):
                absorb(kept[-1], child)
                continue
            if isinstance(child, ResidualBlock):
                child.body = without_norms(child.body)
                child.shortcut = without_norms(child.shortcut)
            kept.append(child)
        return nn.Sequential(*kept)

    pixels = LSQ(8, signed=False)
    pixels.start(torch.tensor([1.0]))
    pixels.step.data.fill_(1 / 255)
    with torch.no_grad():
        return nn.Sequential(pixels, *without_norms(model))


def absorb(layer: QuantizedLayer, norm: nn.BatchNorm2d) -> None:
    """Move a batch norm into the quantized convolution before it."""
    if not isinstance(layer, QuantizedLayer) or layer.layer.bias is not None:
        raise ValueError(f"{layer} before a batch norm: expected a quantized layer without a bias")
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    layer.layer.weight.mul_(factor[:, None, None, None])
    layer.layer.bias = nn.Parameter(norm.bias - norm.running_mean * factor)
    layer.weight_quantizer.step.mul_(factor.abs())
