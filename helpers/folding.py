"""A network that has learned its steps, without batch norm: what a device computes.

Lesson 26 derives it: the factor of a batch norm goes into the filter's weights, and into its step.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from helpers.architectures import ResidualBlock
from helpers.learned_step import LSQ, QuantizedLayer
from helpers.places import AVERAGES, PASSING, Places, places, refuse, require_relu, with_parts
from helpers.qparams import TINY, along


def fold(model: nn.Module) -> nn.Sequential:
    """A copy without batch norm, in evaluation mode, equal but for rounding: what is deployed.

    model: what insert_quantizers made, its steps started; each batch norm follows a convolution.
    The copy begins with a quantizer of step 1/255, which changes no pixel and tells what the input
    is. The factor g = gamma / sqrt(variance + eps) of each filter goes into the weights and |g|
    into their step, so that the integers stay what they are (but for their sign, where g < 0; where
    -2^(bits-1) turns positive, the layer needs one bit more, and gets it).
    Raises TypeError and ValueError that name a module which cannot be folded.

    >>> from helpers.qat import insert_quantizers, start_steps
    >>> layers = nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)
    >>> model = insert_quantizers(nn.Sequential(*layers), 8)
    >>> start_steps(model, torch.tensor([[[[0.0, 1.0]]]]))
    >>> [type(module).__name__ for module in fold(model)]
    ['LSQ', 'QuantizedLayer', 'LSQ']
    """
    kinds = (QuantizedLayer, LSQ, *AVERAGES, *PASSING)
    copies: dict = {}

    def folded(branch: Places) -> list[nn.Module]:
        kept = []
        for path, module in branch:
            if type(module) is nn.BatchNorm2d:
                kept[-1:] = [absorbed(kept[-1] if kept else None, module, path)]
            elif type(module) is ResidualBlock:
                require_relu(module, path, LSQ)
                branches = {"body": module.body, "shortcut": module.shortcut}
                parts = {
                    name: nn.Sequential(*folded(places(branch, f"{path}.{name}")))
                    for name, branch in branches.items()
                }
                kept.append(with_parts(module, parts))
            elif type(module) in kinds:
                kept.append(copy.deepcopy(module, copies))
            else:
                refuse(path, module, (*kinds, nn.BatchNorm2d, ResidualBlock))
        return kept

    pixels = LSQ(8, signed=False)
    pixels.set_step(1 / 255)
    return nn.Sequential(pixels, *folded(places(model))).eval()


@torch.no_grad()
def absorbed(layer: nn.Module | None, norm: nn.BatchNorm2d, path: str) -> QuantizedLayer:
    """A copy of a quantized convolution that does the work of the batch norm behind it, too.

    A filter whose step would leave float32 (g is about 0) keeps its step, and its integers are 0.
    """
    if type(layer) is not QuantizedLayer or type(layer.layer) is not nn.Conv2d:
        raise ValueError(
            f"module {path} is a batch norm that follows no quantized convolution: "
            "it cannot be folded"
        )
    if norm.running_var is None:
        raise ValueError(f"module {path} must have running statistics to be folded")
    layer = copy.deepcopy(layer)
    convolution, quantizer = layer.layer, layer.weight_quantizer
    if not quantizer.started:
        raise ValueError(f"the convolution before module {path} has no step yet: call start_steps")

    weight, step = convolution.weight, quantizer.scale
    statistics = norm.running_mean, norm.running_var, norm.eps
    ones = torch.ones_like(weight[:, :1, :1, :1])  # what they become is g
    g, bias = fuse_conv_bn_weights(ones, convolution.bias, *statistics, norm.weight, norm.bias)
    g = g.flatten()
    lost = step * g.abs() < TINY
    signs, new_step = torch.where(lost, 0, g.sign()), torch.where(lost, step, step * g.abs())

    integers = (weight / along(step, weight, 0)).round().clamp(quantizer.qmin, quantizer.qmax)
    integers *= along(signs, weight, 0)
    bits = quantizer.bits + int(integers.max() > quantizer.qmax)
    folded = LSQ(bits, axis=0, size=len(step), narrow=quantizer.narrow).to(quantizer.step.dtype)
    folded.set_step(new_step)
    new_weight = integers * along(folded.scale, weight, 0)
    layer.weight_quantizer, convolution.bias = folded, bias
    convolution.weight = nn.Parameter(new_weight.to(weight.dtype))
    return layer
