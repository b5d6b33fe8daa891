"""Quantization-aware training: a ResNet whose every tensor is an integer times a learned step.

Lesson 23 derives it. Weights have one step for each filter, so that the factor of the batch norm
behind them moves into the step when the network is deployed.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from helpers.models import QUANTIZED, ResidualBlock, build, weights
from helpers.quantize import LSQ
from helpers.train import to_tensor


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


def load(name: str) -> nn.Sequential:
    """A shipped quantization-aware ResNet8 by its name in QUANTIZED, in evaluation mode."""
    if name not in QUANTIZED:
        raise ValueError(f"unknown model {name!r}: choose one of {', '.join(QUANTIZED)}")
    bits = int(name.removeprefix("ResNet8_")[0])
    model = insert_quantizers(build("ResNet8"), bits)
    model.load_state_dict(weights(name))
    return model.eval()


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
