"""The functions that lesson 31 writes out, against PyTorch's pruning, autograd and plain loops."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune as torch_prune

from helpers import prune

lesson = definitions("31_pruning_weights")
solutions = definitions("solutions/31_pruning_weights")
quick = settings(max_examples=60, deadline=None)
shares = st.floats(0, 1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- masks -------------------------------------------------------------------------------------


@quick
@given(shares, st.integers(0, 2**16))
def test_the_magnitude_mask_is_the_helpers_and_torchs(sparsity, seed):
    w = draw(7, 5, seed=seed)
    mask = lesson.magnitude_mask(w, sparsity)
    assert torch.equal(mask, prune.magnitude_mask(w, sparsity))
    assert int((~mask).sum()) == round(35 * sparsity)
    layer = nn.Linear(5, 7)
    layer.weight.data = w.clone()
    torch_prune.l1_unstructured(layer, "weight", amount=sparsity)
    assert torch.equal(mask, layer.weight_mask.bool())


@quick
@given(shares, st.integers(0, 2**16))
def test_the_global_mask_is_the_helpers_and_torchs(sparsity, seed):
    layers = {"a": nn.Linear(5, 7), "b": nn.Linear(4, 3)}
    for number, layer in enumerate(layers.values()):
        layer.weight.data = draw(*layer.weight.shape, seed=seed + number)
    scores = {name: layer.weight.detach().abs() for name, layer in layers.items()}
    masks, same = lesson.global_mask(scores, sparsity), prune.global_mask(scores, sparsity)
    parts = [(layer, "weight") for layer in layers.values()]
    torch_prune.global_unstructured(parts, torch_prune.L1Unstructured, amount=sparsity)
    for name, layer in layers.items():
        assert torch.equal(masks[name], same[name])
        assert torch.equal(masks[name], layer.weight_mask.bool())


def test_masks_of_equal_scores_still_have_their_size():
    masks = lesson.global_mask({"a": torch.ones(4, 5), "b": torch.ones(10)}, 0.3)
    assert sum(int((~m).sum()) for m in masks.values()) == 9


def test_masking_copies_the_network():
    network = nn.Sequential(nn.Linear(3, 2))
    before = network[0].weight.detach().clone()
    zero = lesson.masked(network, {"0": torch.zeros(2, 3, dtype=torch.bool)})
    assert torch.equal(network[0].weight, before) and not zero[0].weight.any()
    assert torch.equal(zero[0].bias, network[0].bias)


def test_shuffling_a_mask_keeps_its_number():
    mask = draw(6, 9) > 0.5
    mixed = lesson.shuffled(mask, torch.Generator().manual_seed(1))
    assert mixed.shape == mask.shape and mixed.sum() == mask.sum() and not torch.equal(mixed, mask)


# --- slopes and curvature ----------------------------------------------------------------------


@pytest.fixture
def small():
    """The lesson's functions with a small network in place of LeNet300, and images for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        network = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 10)
        ).double()
    x = draw(30, 6).double()
    y = torch.arange(30) % 10
    lesson.__globals__.update(
        lenet=network,
        weights={n: network.get_submodule(n).weight.detach() for n in lesson.LAYERS},
    )
    return network, x, y


def weights_of(network):
    return [network.get_submodule(name).weight for name in lesson.LAYERS]


def test_what_layers_read_gives_the_networks_probabilities(small):
    network, x, _ = small
    reads, p = lesson.forward(x)
    torch.testing.assert_close(p, network(x).softmax(1).detach())
    torch.testing.assert_close(network[3](reads[1]).relu(), reads[2])


def test_slopes_and_their_squares_are_those_of_single_images(small):
    network, x, y = small
    reads, p = lesson.forward(x)
    mean, square = lesson.slopes(reads, p - F.one_hot(y, 10))
    each = [
        torch.autograd.grad(F.cross_entropy(network(a[None]), b[None]), weights_of(network))
        for a, b in zip(x, y, strict=True)
    ]
    for name, single in zip(lesson.LAYERS, zip(*each, strict=True), strict=True):
        single = torch.stack(single)
        torch.testing.assert_close(mean[name], single.mean(0))
        torch.testing.assert_close(square[name], single.square().mean(0))


def hessian(network, x, y, name):
    """The second derivatives of the mean loss with respect to one layer's weights, as a matrix."""
    layer = network.get_submodule(name)

    def loss(flat):
        parameters = {f"{name}.weight": flat.reshape(layer.weight.shape)}
        return F.cross_entropy(torch.func.functional_call(network, parameters, (x,)), y)

    return torch.autograd.functional.hessian(loss, layer.weight.detach().flatten())


def curvature(reads, p):
    h = {name: 0 for name in lesson.LAYERS}
    for k in range(10):
        delta = p - F.one_hot(torch.tensor(k), 10)
        _, square = lesson.slopes(reads, delta, share=p[:, k : k + 1])
        h = {name: h[name] + square[name] for name in lesson.LAYERS}
    return h


def test_the_curvature_is_the_diagonal_of_the_hessian(small):
    network, x, y = small
    for name, h in curvature(*lesson.forward(x)).items():
        exact = hessian(network, x, y, name).diagonal()
        torch.testing.assert_close(h.flatten(), exact, rtol=1e-8, atol=1e-12)


def test_the_expansion_has_all_pairs_of_the_middle_layer(small):
    network, x, y = small
    reads, p = lesson.forward(x)
    g, _ = lesson.slopes(reads, p - F.one_hot(y, 10))
    h = curvature(reads, p)
    loss = F.cross_entropy(network(x), y)
    (slope,) = torch.autograd.grad(loss, network[3].weight, create_graph=True)
    lesson.__globals__.update(g=g, h=h, theirs={"3": slope})
    d = 0.1 * draw(4, 5, seed=3).double()
    alone, pairs = lesson.expansion(d)
    H, first = hessian(network, x, y, "3"), (g["3"] * d).sum()
    v = d.flatten()
    assert alone == pytest.approx(float(first + (H.diagonal() * v**2).sum() / 2), rel=1e-8)
    assert pairs == pytest.approx(float(first + v @ H @ v / 2), rel=1e-8)


# --- schedules ---------------------------------------------------------------------------------


@quick
@given(st.integers(0, 300), st.integers(1, 200), shares)
def test_the_schedule_is_the_helpers(t, T, final):
    ours = lesson.sparsity_at(t, T, final)
    assert ours == pytest.approx(prune.gradual_sparsity(t, end=T, final=final), abs=1e-12)


def test_the_pruner_follows_its_schedule_and_keeps_zeros():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(20, 15),
            nn.ReLU(),
            nn.Linear(15, 10),
            nn.ReLU(),
            nn.Linear(10, 10),
        )
    n = sum(w.numel() for w in weights_of(network))
    pruner, seen = lesson.Pruner(lambda way, final: final * min(2 * way, 1), 0.8), []
    for step in range(1, 401):
        pruner(network, step, 400)
        zeros = sum(int((w == 0).sum()) for w in weights_of(network))
        seen.append(zeros / n)
        with torch.no_grad():  # a step that moves all weights, also those that were zero
            for w in weights_of(network):
                w += 0.01 * draw(*w.shape, seed=step)
    assert seen[0] < 0.01 and seen[-1] == pytest.approx(0.8, abs=1 / n)
    assert len(set(seen)) == 5 and seen == sorted(seen)  # at steps 1, 51, 101, 151 and 200


# --- solutions ---------------------------------------------------------------------------------


def test_obd_scores_come_from_the_slopes_of_single_images():
    layer, x = nn.Linear(5, 4).double(), draw(9, 5).double()
    y = torch.arange(9) % 4
    out = layer(x)
    (delta,) = torch.autograd.grad(F.cross_entropy(out, y, reduction="sum"), out)
    scores = solutions.obd_scores(*(v.detach().numpy() for v in (layer.weight, x, delta)))
    single = torch.stack(
        [
            torch.autograd.grad(F.cross_entropy(layer(a[None]), b[None]), layer.weight)[0]
            for a, b in zip(x, y, strict=True)
        ]
    )
    expected = (single.square().mean(0) * layer.weight**2 / 2).detach().numpy()
    assert np.allclose(scores, expected)


@quick
@given(st.integers(0, 2**16), st.floats(0.2, 0.7), st.floats(0, 0.25))
def test_the_floor_keeps_the_budget_and_each_layers_largest(seed, sparsity, least):
    rng = np.random.default_rng(seed)
    layer = rng.permutation(np.repeat([0, 1, 2], [12, 30, 8]))
    scores = rng.permutation(50) + 30.5 * (layer == 1)
    mask = solutions.floor_mask(scores, layer, sparsity, least)
    assert mask.sum() == 50 - round(sparsity * 50)
    for number in range(3):
        mine, kept = scores[layer == number], mask[layer == number]
        assert kept.sum() >= round(least * len(mine))
        if 0 < kept.sum() < len(mine):
            assert mine[kept == 1].min() > mine[kept == 0].max()
    plain = solutions.floor_mask(scores, layer, sparsity, 0.0)
    assert scores[plain == 1].min() > scores[plain == 0].max()


def test_signs_have_one_size_and_the_same_sum():
    w, mask = draw(6, 7).numpy(), (draw(6, 7, seed=1) > 0).int().numpy()
    signs = solutions.signs_only(w, mask)
    assert len(np.unique(np.abs(signs[mask == 1]).round(6))) == 1 and not signs[mask == 0].any()
    assert np.abs(signs).sum() == pytest.approx(np.abs(w * mask).sum(), rel=1e-5)
    assert (np.sign(signs) == np.sign(w) * mask).all()


def test_nothing_here_changed_the_lessons_network(small):
    network, x, _ = small
    before = copy.deepcopy(network.state_dict())
    lesson.slopes(*lesson.forward(x))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
