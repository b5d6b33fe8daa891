"""Post-training quantization of a network with frozen weights: what lesson 23 builds step by step.

A quantized network here is a float network whose weights, and the tensors between its layers, lie
on the levels of integers. Biases, and the sums inside a layer, stay float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from . import calibrate, quantize, train
from .machine import side_by_side
from .quantize import QParams


def fold(model: nn.Module) -> nn.Module:
    """A frozen copy whose batch norms are part of the convolutions before them.

    An Identity takes the place of each batch norm, so that every layer keeps its name.
    """
    model = copy.deepcopy(model).eval()
    for group in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        for i in range(len(group) - 1):
            conv, norm = group[i], group[i + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                if norm.running_var is None:
                    raise ValueError(f"batch norm {i + 1} has no running statistics to fold")
                group[i], group[i + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return model.requires_grad_(False)


def layers(model: nn.Module) -> list[str]:
    """The names of the layers with weights, from the first to the last."""
    return [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def nearest_levels(w: torch.Tensor, bits: int, per_channel: bool = True) -> torch.Tensor:
    """w with each value replaced by its nearest level; one scale for each w[i], or one for all."""
    params = quantize.affine_params(w, bits=bits, symmetric=True, axis=0 if per_channel else None)
    return quantize.fake_quantize(w, params)


def weight_only(model: nn.Module, bits: int | Mapping, per_channel: bool = True) -> nn.Module:
    """A copy with quantized weights. bits: for all layers, or {layer: bits}, others stay float."""
    model = copy.deepcopy(model)
    bits = bits if isinstance(bits, Mapping) else dict.fromkeys(layers(model), bits)
    for name, b in bits.items():
        weight = model.get_submodule(name).weight
        weight.copy_(nearest_levels(weight, b, per_channel))
    return model


def places(model: nn.Module) -> list[str]:
    """The names of the modules whose outputs a device stores as integers.

    What leaves a ReLU, both summands of a residual addition, the pooled features and the logits.
    """
    kinds = nn.ReLU | nn.AdaptiveAvgPool2d | nn.Linear
    names = {name for name, m in model.named_modules() if isinstance(m, kinds)}
    branches = [n for n, m in model.named_modules() if n.endswith(("body", "shortcut")) and len(m)]
    return sorted(names.union(branches))


def collect(model: nn.Module, names: list[str], images: np.ndarray, pick: Callable) -> dict:
    """{name: [pick(layer, input, output) for each batch]}, watched while the images pass."""
    seen, hooks = {name: [] for name in names}, []
    for name in names:

        def note(layer, inputs, output, name=name):
            seen[name].append(pick(layer, inputs[0], output))

        hooks.append(model.get_submodule(name).register_forward_hook(note))
    try:
        train.predict(model, images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def observe(model: nn.Module, images: np.ndarray, keep: int = 10_000) -> dict[str, torch.Tensor]:
    """{place: `keep` of its values, evenly spread, and the least and the largest of all}."""
    seen = collect(model, places(model), images, lambda layer, x, y: y.flatten())
    seen = {name: torch.cat(parts) for name, parts in seen.items()}
    return {
        name: torch.cat([x[np.linspace(0, len(x) - 1, keep).astype(int)], calibrate.minmax(x)])
        for name, x in seen.items()
    }


def choose(samples: Mapping, bits: int = 8, how: Callable = calibrate.minmax) -> dict[str, QParams]:
    """{place: parameters} for ranges that a calibrator chooses from the samples."""
    return {name: quantize.affine_params(how(x), bits=bits) for name, x in samples.items()}


def quantizer(params: QParams) -> Callable:
    """A forward hook that replaces an output by its nearest levels."""
    s, z = float(params.scale), int(params.zero_point)
    low, high = params.qmin, params.qmax

    def nearest(layer: nn.Module, x: tuple, y: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            return torch.fake_quantize_per_tensor_affine(y, s, z, low, high)
        # the same numbers, in place and without a mask for a gradient, in a third of the time
        return y.mul(1 / s).round_().add_(z).clamp_(low, high).sub_(z).mul_(s)

    return nearest


def static(
    model: nn.Module, bits: int | Mapping, ranges: Mapping, per_channel: bool = True
) -> nn.Module:
    """A copy with quantized weights, and a quantizer at each place of `ranges`."""
    model = weight_only(model, bits, per_channel)
    for name, params in ranges.items():
        model.get_submodule(name).register_forward_hook(quantizer(params))
    return model


def classes(model: nn.Module, images: np.ndarray) -> np.ndarray:
    """The class that the model gives to each image, int64 [N]; each of two cores takes one half."""
    halves = dict(enumerate(np.array_split(images, 2)))
    logits = side_by_side(lambda half: train.predict(model, half), halves)
    return np.concatenate([*logits.values()]).argmax(1)
