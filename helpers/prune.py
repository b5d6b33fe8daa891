"""Which weights go: masks by a score, True where a weight stays.

A mask is applied after each step of a training, so that what is zero stays zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from helpers.arguments import number, whole
from helpers.filters import remove_filters
from helpers.gates import L0Gate
from helpers.ties import filter_ties

__all__ = [
    "L0Gate",
    "filter_ties",
    "global_mask",
    "gradient_mask",
    "gradual_sparsity",
    "keep_zeros",
    "magnitude_mask",
    "n_m_mask",
    "remove_filters",
]


def magnitude_mask(weights: Tensor, sparsity: float) -> Tensor:
    """bool, of the weights' shape: False for the share `sparsity` of them closest to zero.

    sparsity: in 0..1; of n weights round(sparsity n) go, of equals the first. Any shape and real
    dtype. Raises TypeError and ValueError, also for weights that are not finite.
    Source: Han et al. 2015, section 3.

    >>> magnitude_mask(torch.tensor([0.1, -3.0, -0.2, 1.0]), 0.5)
    tensor([False,  True, False,  True])
    """
    return _largest(_finite("weights", weights).abs(), sparsity)


def gradient_mask(weights: Tensor, gradient: Tensor, sparsity: float) -> Tensor:
    """bool: False for the share `sparsity` of the weights with the smallest |w dL/dw|.

    That is how much the loss would change, to first order, if the weight became zero. gradient: of
    the loss with respect to the weights, of their shape. Otherwise as magnitude_mask.
    Source: Molchanov et al. 2017, equation 9, for single weights.

    >>> gradient_mask(torch.tensor([0.1, -3.0]), torch.tensor([4.0, 0.1]), 0.5)
    tensor([ True, False])
    """
    weights, gradient = _finite("weights", weights), _finite("gradient", gradient)
    if weights.shape != gradient.shape:
        raise ValueError(
            f"gradient has shape {list(gradient.shape)}: expected {list(weights.shape)}, as weights"
        )
    return _largest(_finite("weights * gradient", weights * gradient).abs(), sparsity)


def global_mask(scores: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """A mask for each tensor of scores, by one threshold for all: the smallest scores go.

    scores: by name; all together lose round(sparsity n), of equals the first.

    >>> global_mask({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.75)
    {'a': tensor([False, False]), 'b': tensor([False,  True])}
    """
    if not isinstance(scores, Mapping) or not scores:
        raise TypeError("scores: pass a dictionary of tensors by name, with one or more")
    parts = {name: _finite(f"scores[{name!r}]", part) for name, part in scores.items()}
    together = _largest(torch.cat([part.flatten() for part in parts.values()]), sparsity)
    masks = together.split([part.numel() for part in parts.values()])
    return {
        name: mask.reshape(part.shape)
        for (name, part), mask in zip(parts.items(), masks, strict=True)
    }


def n_m_mask(weights: Tensor, n: int, m: int) -> Tensor:
    """bool: True for the n largest magnitudes of each m neighbors along the inputs, dimension 1.

    weights: [out, in, ...], with `in` a multiple of m; 2:4 is what sparse tensor cores compute with
    (Mishra et al. 2021). Of equals the last stay. Raises TypeError and ValueError.

    >>> n_m_mask(torch.tensor([[4.0, -3.0, 2.0, 1.0, 0.1, 0.2, -0.4, 0.3]]), 2, 4).int()
    tensor([[1, 1, 0, 0, 0, 0, 1, 1]], dtype=torch.int32)
    """
    n, m = whole("n", n), whole("m", m)
    size = _finite("weights", weights).abs()
    if n > m:
        raise ValueError(f"n is {n} of m = {m}: choose n from 1 to m")
    if size.ndim < 2 or size.shape[1] % m:
        raise ValueError(
            f"weights have shape {list(size.shape)}: expected [out, in, ...] with a multiple of "
            f"{m} inputs"
        )
    groups = size.unflatten(1, (-1, m))
    order = groups.argsort(dim=2, stable=True)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    return mask.scatter(2, order[:, :, m - n :], True).flatten(1, 2)


def gradual_sparsity(
    step: int, *, begin: int = 0, end: int, final: float, initial: float = 0.0
) -> float:
    """The share of zeros at a step: `initial` until begin, `final` from end on.

    Between them it grows fast at first and then slower, along a cubic:
    final + (initial - final) (1 - (step - begin) / (end - begin))^3 (Zhu and Gupta 2017, eq. 1).

    >>> gradual_sparsity(50, end=100, final=0.5)
    0.4375
    """
    step, begin = whole("step", step, 0), whole("begin", begin, 0)
    end = whole("end", end, begin + 1)
    final, initial = _share("final", final), _share("initial", initial)
    left = 1 - min(1, max(0, step - begin) / (end - begin))
    return final + (initial - final) * left**3


def keep_zeros(masks: Mapping[str, Tensor]) -> Callable[[nn.Module, int, int], None]:
    """A callback for train.fit that sets the weights outside the masks to zero, after each step.

    masks: bool, by the layer's path in the model, as global_mask makes them from weights by path.
    Call it once before the training, too: keep_zeros(masks)(model, 0, 0).

    >>> layer = nn.Linear(2, 1)
    >>> keep_zeros({"": torch.tensor([[False, True]])})(layer, 0, 0)
    >>> (layer.weight == 0).tolist()
    [[True, False]]
    """
    masks = dict(masks)

    @torch.no_grad()
    def apply(model: nn.Module, step: int, steps: int) -> None:
        for path, mask in masks.items():
            weight = model.get_submodule(path).weight
            if mask.dtype != torch.bool or mask.shape != weight.shape:
                raise ValueError(
                    f"the mask of {path!r} is {mask.dtype} {list(mask.shape)}: expected bool "
                    f"{list(weight.shape)}"
                )
            weight.masked_fill_(~mask, 0)

    return apply


def _largest(scores: Tensor, sparsity: float) -> Tensor:
    """bool, of the scores' shape: False for the round(sparsity n) smallest."""
    share = _share("sparsity", sparsity)
    gone = round(share * scores.numel())
    mask = torch.ones(scores.numel(), dtype=torch.bool)
    mask[scores.flatten().argsort(stable=True)[:gone]] = False
    return mask.reshape(scores.shape)


def _share(name: str, given: object) -> float:
    share = number(name, given, zero=True)
    if share > 1:
        raise ValueError(f"{name} is {share:g}: choose a share from 0 to 1")
    return share


def _finite(name: str, values: object) -> Tensor:
    """The values as a tensor without a graph; TypeError or ValueError."""
    if not isinstance(values, Tensor) or values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"{name}: pass a tensor of real numbers, not {type(values).__name__}")
    values = values.detach()
    if not values.isfinite().all():
        raise ValueError(f"{name} hold NaN or infinity: no score can be told")
    return values
