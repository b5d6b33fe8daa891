"""Shared weights: each weight is an entry of its layer's codebook, and training moves the entries.

What is zero stays zero and is in no codebook. Source: Han et al. 2016, section 3.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from helpers.arguments import whole
from helpers.quantize import kmeans_codebook


class _LookUp(torch.autograd.Function):
    """codebook[index] in the places, zero elsewhere; the gradient of an entry is a sum."""

    @staticmethod
    def forward(context, codebook, index, places, shape):
        context.save_for_backward(index, places)
        context.entries = len(codebook)
        weight = codebook.new_zeros(shape)
        weight.view(-1)[places] = codebook[index]
        return weight

    @staticmethod
    def backward(context, gradient):
        index, places = context.saved_tensors
        each = gradient.reshape(-1)[places]
        return torch.bincount(index, each, context.entries).to(each.dtype), None, None, None


class Shared(nn.Module):
    """The parametrization weight = codebook[index] of one tensor, whose parameter is the codebook.

    Its forward maps codebook [K] -> weight, of the tensor's shape; its backward adds the gradients
    of all weights that share an entry (Han et al. 2016, equation 3).
    """

    def __init__(self, weight: Tensor, bits: int):
        super().__init__()
        flat = weight.detach().flatten()
        places = flat.nonzero().flatten()
        if len(places):
            book, index = kmeans_codebook(flat[places], bits)
            used, index = index.long().unique(return_inverse=True)
            book = book[used]
        else:
            book, index = flat.new_zeros(0), places
        self.shape = weight.shape
        self.start = book
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, codebook: Tensor) -> Tensor:
        return _LookUp.apply(codebook, self.index, self.places, self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self.start.clone()


def share_weights(model: nn.Module, bits: Mapping[str, int]) -> nn.Module:
    """A copy of the model in which the named parameters are shared: 2^bits values at most in each.

    bits: by the parameter's name, {"1.weight": 4, "1.bias": 4}. Each codebook is made by k-means
    from evenly spaced values over the parameter's range (quantize.kmeans_codebook), without the
    zeros. Training the copy trains the codebooks; `plain_state` gives the weights they stand for.
    Raises TypeError and ValueError.

    >>> layer = nn.Linear(3, 1, bias=False)
    >>> layer.weight.data = torch.tensor([[0.0, 1.0, 3.0]])
    >>> share_weights(layer, {"weight": 1}).weight.detach()
    tensor([[0., 1., 3.]])
    """
    model = copy.deepcopy(model)
    known = dict(model.named_parameters())
    for name, width in bits.items():
        if name not in known:
            raise ValueError(f"no parameter {name!r}: choose of {', '.join(known)}")
        path, _, leaf = name.rpartition(".")
        rule = Shared(known[name], whole(f"bits[{name!r}]", width, 1, 8))
        parametrize.register_parametrization(model.get_submodule(path), leaf, rule)
    return model


@torch.no_grad()
def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state_dict of the network that a model with shared weights stands for.

    Entries of codebooks are rounded to float16, which codec.encode stores in two bytes.

    >>> layer = nn.Linear(2, 1, bias=False)
    >>> layer.weight.data = torch.tensor([[0.0, 0.1]])
    >>> plain_state(share_weights(layer, {"weight": 1}))
    {'weight': tensor([[0.0000, 0.1000]])}
    """
    state, shared = {}, {}
    for path, module in model.named_modules():
        for leaf, chain in getattr(module, "parametrizations", {}).items():
            start = f"{path}." if path else ""
            shared[f"{start}parametrizations.{leaf}.original"] = (start + leaf, chain)
    for name, values in model.state_dict().items():
        plain, chain = shared.get(name, (name, None))
        state[plain] = values.clone() if chain is None else chain[0](values.half().float())
    return state
