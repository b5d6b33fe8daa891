"""Quantization-aware training: a network whose every tensor is an integer times a learned step.

Lesson 25 derives it. Weights have one step for each filter, so that the factor of the batch norm
behind them moves into the step when the network is deployed.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from helpers.architectures import ResidualBlock
from helpers.arguments import one_of
from helpers.folding import fold
from helpers.inputs import to_tensor
from helpers.learned_step import LSQ, QuantizedLayer, best_step
from helpers.places import AVERAGES, PASSING, Places, places, refuse, require_relu, with_parts

__all__ = ["LSQ", "QuantizedLayer", "best_step", "fold", "insert_quantizers", "start_steps"]

RULES = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, ResidualBlock, *AVERAGES, *PASSING)


def insert_quantizers(model: nn.Module, bits: int) -> nn.Sequential:
    """A copy of a network with quantizers whose steps are still to be started.

    model: a Sequential of the modules in RULES; the copy is one without inner Sequentials.
    Weights and what leaves a ReLU or an average pooling get `bits` bits (2 to 16); the unsigned
    quantizer clips at 0 and so takes the ReLU's place. The summands of a residual addition, the
    logits, and sums that go on to another layer without a ReLU get 8 bits, with a sign. Nothing is
    put before the first layer: pixels are 8-bit integers already. A layer that stands at two places
    stays one layer; each place has its own quantizer of what leaves it.
    Raises TypeError and ValueError that name a module without a rule.

    >>> [type(m).__name__ for m in insert_quantizers(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), 8)]
    ['QuantizedLayer', 'LSQ', 'LSQ']
    """
    copies: dict = {}  # deepcopy keeps what it has copied here, so that what is shared stays shared
    layers: dict[int, QuantizedLayer] = {}

    def quantized(branch: Places, negative: bool) -> tuple[list[nn.Module], bool]:
        """The branch with quantizers, and whether its result is sums that none has rounded.

        negative: whether what the branch reads may be below 0.
        """
        made, sums = [], False
        for path, module in branch:
            kind = type(module)
            if sums and kind in (nn.Conv2d, nn.Linear, ResidualBlock, *AVERAGES):
                made.append(LSQ(8))
                sums = False
            if kind in (nn.Conv2d, nn.Linear):
                if id(module) not in layers:
                    layers[id(module)] = QuantizedLayer(copy.deepcopy(module, copies), bits)
                made.append(layers[id(module)])
            elif kind is nn.ReLU:
                made.append(LSQ(bits, signed=False))
            elif kind in AVERAGES:
                made.append(nn.Sequential(copy.deepcopy(module), LSQ(bits, signed=negative)))
            elif kind is ResidualBlock:
                made.append(quantized_block(path, module, negative))
            elif kind in (nn.BatchNorm2d, *PASSING):
                made.append(copy.deepcopy(module, copies))
            else:
                refuse(path, module, RULES)
            if kind in (nn.Conv2d, nn.Linear, nn.BatchNorm2d):
                negative = sums = True
            elif kind in (nn.ReLU, ResidualBlock):
                negative = sums = False
        return made, sums

    def quantized_block(path: str, block: ResidualBlock, negative: bool) -> ResidualBlock:
        parts: dict[str, nn.Module] = {"relu": LSQ(bits, signed=False)}
        for name in ("body", "shortcut"):
            branch, sums = quantized(places(getattr(block, name), f"{path}.{name}"), negative)
            parts[name] = nn.Sequential(*branch, *([LSQ(8)] if sums else []))
        require_relu(block, path, nn.ReLU)
        return with_parts(block, parts)

    modules, _ = quantized(places(model), negative=True)
    return nn.Sequential(*modules, LSQ(8)).train(model.training)


def start_steps(model: nn.Module, images: np.ndarray | torch.Tensor, how: str = "mse") -> None:
    """Start every step from images uint8 [N, 28, 28], in one pass; the model is then in eval mode.

    how: "mse", the step whose squared error is smallest, as post-training quantization would
    choose; "lsq", 2 mean|x| / sqrt(qmax) (Esser et al. 2020). Each quantizer sees what the
    quantizers before it leave. A float32 tensor goes into the model as it is.

    >>> model = insert_quantizers(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), 4)
    >>> start_steps(model, np.full((2, 28, 28), 255, np.uint8))
    >>> all(m.started for m in model.modules() if isinstance(m, LSQ))
    True
    """
    one_of("start", how, ("mse", "lsq"))

    def start(quantizer: LSQ, inputs: tuple[torch.Tensor]) -> None:
        if how == "lsq":
            quantizer.start(inputs[0])
        else:
            quantizer.set_step(best_step(quantizer, inputs[0]))

    found = [module for module in model.modules() if isinstance(module, LSQ)]
    if not found:
        raise ValueError("the model has no quantizer to start: call insert_quantizers first")
    hooks = [quantizer.register_forward_pre_hook(start) for quantizer in found]
    model.eval()
    try:
        with torch.no_grad():
            model(to_tensor(images))
    finally:
        for hook in hooks:
            hook.remove()
