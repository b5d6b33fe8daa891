"""The functions that lesson 32 writes out, against torch-pruning, SciPy and plain counting."""

import copy

import numpy as np
import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import nn

from helpers.architectures import ResidualBlock
from helpers.costs import cost
from helpers.models import build
from helpers.prune import filter_ties, remove_filters

lesson = definitions("32_pruning_structures")
solutions = definitions("solutions/32_pruning_structures")
quick = settings(max_examples=25, deadline=None)
GROUPS: dict[tuple, list] = {}
for path, numbers in filter_ties(build("ResNet8")).items():
    GROUPS.setdefault(tuple(numbers), []).append(path)
FREE = [paths for numbers, paths in GROUPS.items() if numbers[0] >= 0]


def resnet(seed=0):
    """ResNet8 with statistics and scales of batch norm that are not those of a new layer."""
    network, generator = build("ResNet8", seed).eval(), torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.bias.data, module.running_mean):
                values.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network


def by_torch_pruning(network, path, gone):
    network, x = copy.deepcopy(network), torch.zeros(1, 1, 28, 28)
    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=x)
    out = torch_pruning.prune_conv_out_channels
    graph.get_pruning_group(network.get_submodule(path), out, idxs=gone).prune()
    return network


# --- removal -----------------------------------------------------------------------------------


@quick
@given(st.integers(3, 5), st.data(), st.integers(0, 2**16))
def test_a_block_shrunk_by_hand_is_the_librarys_and_the_masked_one(block, data, seed):
    network = resnet(seed)
    filters = len(network[block].body[0].weight)
    gone = sorted(data.draw(st.sets(st.integers(0, filters - 1), max_size=filters - 1)))
    keep = np.setdiff1d(np.arange(filters), gone)
    ours = copy.deepcopy(network)
    ours[block] = lesson.shrink(network[block], keep)
    assert lesson.equal(ours, remove_filters(network, {f"{block}.body.0": keep}))
    if gone:
        assert lesson.equal(ours, by_torch_pruning(network, f"{block}.body.0", gone))
    stays = torch.zeros(filters, 1, 1)
    stays[keep] = 1
    masked = copy.deepcopy(network)
    masked[block].body[1].register_forward_hook(lambda module, x, y: y * stays)
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), masked(x), rtol=1e-3, atol=1e-3)


def test_the_example_of_a_filter_without_weights():
    """5.5 as it is, 4.5 without filter 1, 9.5 with its weight at zero."""
    gamma, beta, mu, sigma = np.array([[1, 2], [0.5, -0.5], [6, -6], [2, 4]])
    w, v = np.array([2.0, -1.0]), np.array([3.0, 2.0])

    def total(w, v):
        return float(v @ np.maximum(gamma * (4 * w - mu) / sigma + beta, 0))

    assert total(w, v) == 5.5
    assert total(w, v * [1, 0]) == 4.5
    assert total(w * [1, 0], v) == 9.5


@pytest.mark.parametrize("group", FREE)
def test_groups_are_cut_by_the_lesson_as_by_the_library(group):
    network = resnet()
    lesson.__globals__.update(prune_out=torch_pruning.prune_conv_out_channels)
    x = torch.zeros(1, 1, 28, 28)
    theirs = lesson.by_library(network, group[0], [1, 5], x)
    assert lesson.equal(lesson.by_groups(network, group, [1, 5]), theirs)


def test_equal_sees_one_number():
    a, b = resnet(), resnet()
    assert lesson.equal(a, b)
    b[1].running_mean[3] += 1e-6
    assert not lesson.equal(a, b)


# --- rankings ----------------------------------------------------------------------------------


def test_rankings_are_their_formulas():
    network = resnet()
    h = torch.rand(3, 16, 28, 28, generator=torch.Generator().manual_seed(0)) - 0.5
    h = h.relu().requires_grad_()
    (h**2).sum().backward()
    lesson.__globals__.update(resnet=network, recorded={"3.body.0": (h.detach(), h.grad)})
    found = {name: values.detach().numpy() for name, values in lesson.rankings("3.body.0").items()}
    conv, norm, _, reader, _ = network[3].body
    w, v, values = conv.weight.detach().numpy(), reader.weight.detach().numpy(), h.detach().numpy()
    gamma = np.abs(norm.weight.detach().numpy())
    for o in range(16):
        factor = gamma[o] / (float(norm.running_var[o]) + norm.eps) ** 0.5
        expected = {
            "L1": np.abs(w[o]).sum(),
            "L2": np.linalg.norm(w[o]),
            "gamma": gamma[o],
            "folded L1": factor * np.abs(w[o]).sum(),
            "mean": values[:, o].mean(),
            "not zero": (values[:, o] > 0).mean(),
            "Taylor": np.mean([2 * np.square(values[n, o]).sum() for n in range(3)]),
            "readers": np.abs(v[:, o]).sum(),
        }
        assert set(expected) == set(found)
        for name, value in expected.items():
            assert found[name][o] == pytest.approx(value, rel=1e-4), name


def test_a_cut_keeps_the_largest():
    network, rng = resnet(), np.random.default_rng(0)
    lesson.__globals__.update(resnet=network)
    ranking = {path: rng.random(n) for path, n in zip(lesson.INNER, (16, 32, 64), strict=True)}
    small = lesson.cut(network, ranking, (8, 16, 28))
    top = np.sort(np.argsort(-ranking["3.body.0"])[:8])
    assert torch.equal(small[3].body[0].weight, network[3].body[0].weight[top])
    found = cost(small, (1, 28, 28))
    assert (found.macs, found.params) == (4_660_736, 37_314)


def test_remeasured_statistics_are_those_of_the_images():
    x = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    network = resnet()
    lesson.__globals__.update(batches=x.split(20))
    new = lesson.remeasured(network)
    with torch.no_grad():
        a = network[0](x)
    torch.testing.assert_close(new[1].running_mean, a.mean((0, 2, 3)))
    means = lesson.only("running_mean", network).state_dict()
    assert torch.equal(means["1.running_mean"], new[1].running_mean)
    assert torch.equal(means["1.running_var"], network[1].running_var)
    assert torch.equal(network[1].running_mean, resnet()[1].running_mean)


def test_fresh_weights_are_new_and_drawn_from_the_seed():
    network, state = resnet(), torch.get_rng_state()
    a, b, c = lesson.fresh(network), lesson.fresh(network), lesson.fresh(network, 1)
    assert lesson.equal(a, b) and not lesson.equal(a, c) and not lesson.equal(a, network)
    assert torch.equal(state, torch.get_rng_state())
    assert (a[1].running_mean == 0).all() and (a[1].weight == 1).all()


def test_shapes_have_their_channels():
    lesson.__globals__.update(resnet=resnet())
    small = lesson.shaped(11, 10, 22, 21, 45, 44)
    widths = [len(m.weight) for m in small.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [11, 10, 11, 22, 21, 21, 45, 44, 44]


# --- exercises ---------------------------------------------------------------------------------


@quick
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20), st.integers(1, 2))
def test_macs_of_a_block_are_counted(c_in, inner, c_out, stride):
    block = ResidualBlock(c_in, c_out, stride)
    block = remove_filters_of(block, inner, c_in, c_out, stride)
    expected = cost(block, (c_in, 12, 12)).macs
    assert solutions.block_macs(c_in, inner, c_out, 12, stride) == expected


def remove_filters_of(block, inner, c_in, c_out, stride):
    """The block with another number of inner filters."""
    block.body[0] = nn.Conv2d(c_in, inner, 3, stride, padding=1, bias=False)
    block.body[1] = nn.BatchNorm2d(inner)
    block.body[3] = nn.Conv2d(inner, c_out, 3, padding=1, bias=False)
    return block.eval()


@given(st.integers(1, 15), st.data())
def test_tied_layers_are_connected_components(n, data):
    layer = st.integers(0, n - 1)
    pairs = data.draw(st.lists(st.tuples(layer, layer), max_size=20))
    additions = np.array(pairs, int).reshape(-1, 2)
    edges = coo_array((np.ones(len(pairs)), additions.T), shape=(n, n))
    _, component = connected_components(edges, directed=False)
    smallest = [np.flatnonzero(component == component[i])[0] for i in range(n)]
    assert solutions.tied(n, additions).tolist() == smallest


def test_contribution_bounds_what_the_readers_lose():
    """|sum over places of the lost part of a_r| summed over readers is at most the score."""
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(2, 3, 6, 6, generator=generator)
    v = torch.randn(4, 3, 3, 3, generator=generator)
    scores = solutions.contribution(h, v)
    for o in range(3):
        lost = nn.functional.conv2d(h[:, o : o + 1], v[:, o : o + 1], padding=1)
        assert lost.mean((0, 2, 3)).abs().sum() <= scores[o]
