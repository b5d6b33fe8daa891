"""Deep Compression as a recipe: prune while training, share what stays, tune the entries, encode.

After Han et al. 2016; lesson 35 takes it apart, codec.py writes the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from helpers import codec
from helpers.prune import global_mask, gradual_sparsity, keep_zeros
from helpers.ptq import fold
from helpers.sharing import plain_state, share_weights
from helpers.train import History, fit


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The dense layers and convolutions by their paths: those whose weights are pruned.

    >>> list(layers(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))))
    ['1']
    """
    kinds = (nn.Linear, nn.Conv2d)
    return {path: part for path, part in model.named_modules() if isinstance(part, kinds)}


def prune_gradually(sparsity: float, *, until: float = 0.6, every: int = 50) -> Callable:
    """A callback for train.fit: more and more zeros, by one threshold for all layers.

    The share of zeros follows gradual_sparsity and is `sparsity` after `until` of the steps; the
    masks are made anew each `every` steps up to there, then they stay.

    >>> model = nn.Linear(2, 2)
    >>> prune_gradually(0.5)(model, 1, 1)
    >>> int((model.weight == 0).sum())
    2
    """
    masks: dict[str, torch.Tensor] = {}

    def apply(model: nn.Module, step: int, steps: int) -> None:
        end = max(1, int(until * steps))
        if step == end or (step < end and step % every == 0) or not masks:
            sizes = {path: part.weight.detach().abs() for path, part in layers(model).items()}
            masks.update(global_mask(sizes, gradual_sparsity(step, end=end, final=sparsity)))
        keep_zeros(masks)(model, step, steps)

    return apply


def widths(model: nn.Module, bits: int | Sequence[int] | None) -> dict[str, int]:
    """Bits of each parameter's codebook, by name: of each layer's weights as given, of biases 4.

    bits: one number for all layers, or one a layer; None: no codebooks.

    >>> widths(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), 3)
    {'1.weight': 3, '1.bias': 4}
    """
    if bits is None:
        return {}
    found = list(layers(model))
    each = [bits] * len(found) if isinstance(bits, int) else list(bits)
    by_name = {f"{path}.weight": width for path, width in zip(found, each, strict=True)}
    return {name: by_name.get(name, 4) for name, _ in model.named_parameters()}


def compress(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    sparsity: float,
    bits: int | Sequence[int] | None,
    rounds: Sequence[Mapping],
    tune: Mapping,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[bytes, History]:
    """(the file of the compressed network, the history of the last training). Changes `model`.

    The file holds the state of ptq.fold(model), without batch norm. labels: int, or what `fit`
    takes with a loss of its own (distill.with_answers).
    rounds: what train.fit is called with, once each; the zeros come in the first one and stay.
    tune: the same for the training of the shared values. sparsity 0 and bits None give the control:
    a dense network, trained as long, rounded to float16 as codebooks are.
    """
    keep = [prune_gradually(sparsity)] if sparsity else []
    for options in rounds:
        fit(model, images, labels, callbacks=keep, **options)
        if sparsity:
            keep = [keep_zeros({path: part.weight != 0 for path, part in layers(model).items()})]
    folded = fold(model).requires_grad_()
    shared = share_weights(folded, widths(folded, bits))
    callbacks = keep if bits is None else []  # a zero is in no codebook
    history = fit(shared, images, labels, callbacks=callbacks, validation=validation, **tune)
    state = plain_state(shared)
    if bits is None:
        state = {name: values.half().to(values.dtype) for name, values in state.items()}
    return codec.encode(state), history
