"""Masks against torch's own pruning, brute force and the definitions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from helpers import prune
from helpers.models import load
from helpers.train import fit

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=4)
seeds = st.integers(0, 2**32)
shares = st.floats(0, 1)


def normal(shape, seed, dtype=torch.float32):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=shape)).to(dtype)


def of_torch(scores, count):
    """The mask of torch.nn.utils.prune for a layer whose importances are these scores."""
    return torch_prune.L1Unstructured(count).compute_mask(scores, torch.ones_like(scores)).bool()


@settings(deadline=None)
@given(shapes, seeds, shares, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_magnitude_is_that_of_torch(shape, seed, sparsity, dtype):
    weights = normal(shape, seed, dtype)
    mask = prune.magnitude_mask(weights, sparsity)
    gone = round(sparsity * weights.numel())
    assert mask.dtype == torch.bool and mask.shape == weights.shape
    assert (~mask).sum() == gone
    if 0 < gone < mask.numel():
        assert weights[mask].abs().min() >= weights[~mask].abs().max()
        if len(weights.abs().unique()) == weights.numel():  # torch leaves ties open
            assert torch.equal(mask, of_torch(weights, gone))


@given(seeds, shares)
def test_the_share_is_that_of_torch(seed, sparsity):
    """torch rounds sparsity * n as Python does, exact halves to the even number."""
    weights = normal([10], seed)
    layer = nn.Linear(10, 1, bias=False)
    layer.weight.data = weights[None]
    torch_prune.l1_unstructured(layer, "weight", amount=sparsity)
    assert torch.equal(prune.magnitude_mask(weights, sparsity)[None], layer.weight_mask.bool())


@settings(deadline=None)
@given(st.lists(shapes, min_size=1, max_size=4), seeds, shares)
def test_one_threshold_for_all_is_that_of_torch(all_shapes, seed, sparsity):
    layers = {f"layer {i}": normal(shape, seed + i) for i, shape in enumerate(all_shapes)}
    masks = prune.global_mask({name: w.abs() for name, w in layers.items()}, sparsity)
    modules = []
    for weights in layers.values():
        modules.append(nn.Module())
        modules[-1].weight = nn.Parameter(weights.clone())
    total = sum(weights.numel() for weights in layers.values())
    torch_prune.global_unstructured(
        [(module, "weight") for module in modules],
        pruning_method=torch_prune.L1Unstructured,
        amount=round(sparsity * total),
    )
    for mask, module in zip(masks.values(), modules, strict=True):
        assert torch.equal(mask, module.weight_mask.bool())


@given(shapes, seeds, shares)
def test_the_gradient_says_what_the_loss_changes_by(shape, seed, sparsity):
    """For a linear loss, w dL/dw is exactly what zeroing w changes."""
    weights, slope = normal(shape, seed), normal(shape, seed + 1)
    mask = prune.gradient_mask(weights, slope, sparsity)
    change = torch.empty_like(weights)
    for i in range(weights.numel()):
        without = weights.clone().flatten()
        without[i] = 0
        change.view(-1)[i] = ((without.reshape(shape) - weights).double() * slope).sum()
    if mask.any() and not mask.all():
        assert change[mask].abs().min() >= change[~mask].abs().max() * (1 - 1e-5)


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.data(), seeds)
def test_n_of_m_keeps_the_best_of_all_choices(out, groups, m, data, seed):
    n = data.draw(st.integers(1, m))
    weights = normal([out, groups * m, 2], seed)
    mask = prune.n_m_mask(weights, n, m)
    assert mask.shape == weights.shape
    for row, group, place in itertools.product(range(out), range(groups), range(2)):
        part = weights[row, group * m : (group + 1) * m, place].abs()
        best = max(
            itertools.combinations(range(m), n), key=lambda kept: float(part[list(kept)].sum())
        )
        kept = mask[row, group * m : (group + 1) * m, place]
        assert kept.nonzero().flatten().tolist() == list(best)


def test_the_smallest_of_equals_and_the_ends():
    equal = torch.ones(2, 4)
    assert prune.magnitude_mask(equal, 0.5).tolist() == [[False] * 4, [True] * 4]
    assert prune.magnitude_mask(equal, 0).all() and not prune.magnitude_mask(equal, 1).any()
    assert prune.n_m_mask(equal, 2, 4).tolist() == [[False, False, True, True]] * 2
    assert prune.magnitude_mask(torch.zeros(0), 0.5).shape == (0,)


@given(
    st.integers(0, 50), st.integers(1, 50), st.floats(0, 1), st.floats(0, 1), st.integers(0, 150)
)
def test_the_schedule_is_the_formula(begin, length, initial, final, step):
    at = {"begin": begin, "end": begin + length, "initial": initial, "final": final}
    value = prune.gradual_sparsity(step, **at)
    if step <= begin:
        assert value == pytest.approx(initial)
    elif step >= begin + length:
        assert value == final
    else:
        left = 1 - (step - begin) / length
        assert value == pytest.approx(final + (initial - final) * left**3)
    assert min(initial, final) - 1e-9 <= value <= max(initial, final) + 1e-9


def test_zeros_stay_zero_in_training():
    """Also with momentum and weight decay; the other weights do learn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (96, 28, 28), dtype=np.uint8)
    model = load("LeNet300")
    masks = {p: prune.magnitude_mask(model.get_submodule(p).weight, 0.9) for p in ("1", "3")}
    zero = prune.keep_zeros(masks)
    zero(model, 0, 0)
    before = {path: model.get_submodule(path).weight.detach().clone() for path in masks}
    fit(model, images, rng.integers(0, 10, 96), epochs=2, lr=0.05, callbacks=[zero])
    for path, mask in masks.items():
        now = model.get_submodule(path).weight
        assert (now[~mask] == 0).all() and (now[mask] != before[path][mask]).float().mean() > 0.5


W = torch.ones(2, 4)
BAD = [
    (lambda: prune.magnitude_mask(W, 1.5), ValueError, "sparsity is 1.5: choose a share"),
    (lambda: prune.magnitude_mask(W, -0.1), ValueError, "sparsity is -0.1"),
    (lambda: prune.magnitude_mask(W, "90 %"), TypeError, "sparsity is '90 %'"),
    (lambda: prune.magnitude_mask(W, float("nan")), ValueError, "sparsity is nan"),
    (lambda: prune.magnitude_mask([1.0, 2.0], 0.5), TypeError, "weights: pass a tensor"),
    (lambda: prune.magnitude_mask(W * float("inf"), 0.5), ValueError, "NaN or infinity"),
    (lambda: prune.gradient_mask(W, W[0], 0.5), ValueError, "shape [4]: expected [2, 4]"),
    (lambda: prune.gradient_mask(W * 1e30, W * 1e30, 0.5), ValueError, "weights * gradient"),
    (lambda: prune.gradient_mask(W, None, 0.5), TypeError, "gradient: pass a tensor"),
    (lambda: prune.global_mask({}, 0.5), TypeError, "one or more"),
    (lambda: prune.global_mask([W], 0.5), TypeError, "a dictionary"),
    (lambda: prune.global_mask({"a": W * float("nan")}, 0.5), ValueError, "scores['a']"),
    (lambda: prune.n_m_mask(W, 3, 2), ValueError, "n is 3 of m = 2"),
    (lambda: prune.n_m_mask(W, 1, 3), ValueError, "a multiple of 3 inputs"),
    (lambda: prune.n_m_mask(W[0], 2, 4), ValueError, "expected [out, in, ...]"),
    (lambda: prune.n_m_mask(W, 0, 4), ValueError, "n is 0"),
    (lambda: prune.gradual_sparsity(1, end=0, final=0.5), ValueError, "end is 0"),
    (lambda: prune.gradual_sparsity(1, end=9, final=2), ValueError, "final is 2"),
    (lambda: prune.gradual_sparsity(-1, end=9, final=0.5), ValueError, "step is -1"),
    (
        lambda: prune.keep_zeros({"": W})(nn.Linear(4, 2), 0, 0),
        ValueError,
        "the mask of '' is torch.float32 [2, 4]: expected bool [2, 4]",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_a_wrong_argument_is_told(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_a_mask_hangs_on_no_graph():
    weights = nn.Parameter(torch.ones(3))
    scores = {"a": weights * 2}
    for mask in (prune.magnitude_mask(weights, 0.5), *prune.global_mask(scores, 0.5).values()):
        assert not mask.requires_grad
