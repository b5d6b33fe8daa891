"""A network without filters against the same network with those channels set to zero."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch_pruning as tp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from helpers.architectures import ResidualBlock
from helpers.costs import cost
from helpers.models import build, load
from helpers.prune import filter_ties, remove_filters

SHAPE = (2, 7, 6)


class Mask(nn.Module):
    """Batch norm, then, while `active`, zeros for the channels that `stay` leaves out."""

    def __init__(self, stay, rng):
        super().__init__()
        self.norm, self.stay, self.active = nn.BatchNorm2d(len(stay)), stay, False
        for values in (self.norm.weight.data, self.norm.bias.data, self.norm.running_mean):
            values.copy_(torch.from_numpy(rng.normal(size=len(stay))))
        self.norm.running_var.copy_(torch.from_numpy(rng.uniform(0.5, 2, len(stay))))

    def forward(self, x):
        x = self.norm(x)
        return x * torch.from_numpy(self.stay)[:, None, None] if self.active else x


class Stage(nn.Module):
    """One way to go on from channels of which `stay` (bool) will be left."""

    def __init__(self, kind, stay, rng):
        super().__init__()
        self.kind, width = kind, len(stay)
        new = some(rng, int(rng.integers(1, 6)))
        if kind == "grouped":
            inner, new = equally(rng, 2, 3), equally(rng, 2, 2)
            self.a, self.a_mask = nn.Conv2d(width, 6, 1), Mask(inner, rng)
            self.b, self.b_mask = nn.Conv2d(6, 4, 3, padding=1, groups=2), Mask(new, rng)
        elif kind == "depthwise":
            times = int(rng.integers(1, 3))
            new = np.repeat(stay, times)
            self.a = nn.Conv2d(width, width * times, 3, padding=1, groups=width)
            self.a_mask = Mask(new, rng)
        elif kind in ("residual", "twice"):
            new = stay
            self.a, self.a_mask = nn.Conv2d(width, width, 3, padding=1), Mask(stay, rng)
        else:
            self.a, self.a_mask = nn.Conv2d(width, len(new), 3, padding=1), Mask(new, rng)
        if kind == "projected":
            self.b, self.b_mask = nn.Conv2d(width, len(new), 1, bias=False), Mask(new, rng)
        self.stay = np.concatenate([stay, new]) if kind == "concatenated" else new

    def forward(self, x):
        y = self.a_mask(self.a(x))
        match self.kind:
            case "twice":
                y = self.a_mask(self.a(F.relu(y)))
            case "residual":
                y = y + x
            case "projected":
                y = self.b_mask(self.b(x)) + y
            case "grouped":
                y = self.b_mask(self.b(torch.relu(y)))
            case "concatenated":
                y = torch.cat([x, y], dim=-3)
        return y.relu()

    def keep(self, path):
        """What to tell remove_filters of the filters that no other stage has made."""
        if self.kind in ("residual", "twice", "depthwise"):
            return {}
        stays = {f"{path}.a": self.a_mask.stay}
        return stays | ({f"{path}.b": self.b_mask.stay} if self.kind == "grouped" else {})


def some(rng, width):
    stay = rng.random(width) < 0.6
    stay[rng.integers(width)] = True
    return stay


def equally(rng, groups, width):
    """As many of each group."""
    count = rng.integers(1, width + 1)
    return np.concatenate([rng.permutation(np.arange(width) < count) for _ in range(groups)])


KINDS = ("plain", "residual", "projected", "depthwise", "grouped", "twice", "concatenated")


def network(kinds, end, rng):
    """Stages after a stem, and what to keep of each."""
    torch.manual_seed(int(rng.integers(2**31)))
    stages = [Stage("plain", np.ones(SHAPE[0], bool), rng)]
    for kind in kinds:
        stages.append(Stage(kind, stages[-1].stay, rng))
    width = len(stages[-1].stay)
    ends = {
        "pooled": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)],
        "flat": [
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(width * 9, 4),
            nn.Tanh(),
            nn.Linear(4, 3),
        ],
    }
    keep = {}
    for i, stage in enumerate(stages):
        keep |= stage.keep(str(i))
    return nn.Sequential(*stages, *ends[end]).eval(), keep


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(KINDS), max_size=4),
    st.sampled_from(["pooled", "flat"]),
    st.integers(0, 2**32),
)
def test_the_smaller_network_computes_what_the_masked_one_does(kinds, end, seed):
    rng = np.random.default_rng(seed)
    model, keep = network(kinds, end, rng)
    x = torch.from_numpy(rng.normal(size=(3, *SHAPE)).astype(np.float32))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        smaller = remove_filters(model, keep, SHAPE)
        whole = model(x)
        for module in model.modules():
            if isinstance(module, Mask):
                module.active = True
        masked = model(x)
        torch.testing.assert_close(smaller(x), masked, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for stage, small in zip(model[: 1 + len(kinds)], smaller, strict=False):
        assert small.a.weight.shape[0] == stage.a_mask.stay.sum()
        assert small.a.weight.shape[0] == small.a.out_channels == small.a_mask.norm.num_features
    if all(mask.all() for mask in keep.values()):
        torch.testing.assert_close(smaller(x), whole)


@pytest.mark.parametrize(
    ("name", "removed"),
    [
        ("ResNet8", {"0": [1, 5], "4.body.0": [0, 7, 9], "5.body.3": [3]}),
        ("TinyCNN", {"0": [0], "4": [1, 2], "8": [40, 41]}),
        ("LeNet5", {"0": [0, 19], "3": [49], "7": [7]}),
    ],
)
def test_what_is_left_is_what_torch_pruning_leaves(name, removed):
    model = load(name)
    theirs = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(theirs, torch.rand(2, 1, 28, 28))
    keep = {}
    for path, gone in removed.items():
        layer = theirs.get_submodule(path)
        dense = isinstance(layer, nn.Linear)
        cut = tp.prune_linear_out_channels if dense else tp.prune_conv_out_channels
        keep[path] = np.setdiff1d(np.arange(layer.weight.shape[0]), gone)
        graph.get_pruning_group(layer, cut, idxs=gone).prune()
    ours = remove_filters(model, keep).state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.state_dict().items())


def test_tied_filters_of_resnet8():
    """An identity shortcut ties a block's output to what came before, a 1x1 one to its own."""
    ties = filter_ties(build("ResNet8"))
    groups = {}
    for path, numbers in ties.items():
        groups.setdefault(tuple(numbers), []).append(path)
    assert list(groups.values()) == [
        ["0", "3.body.3"],
        ["3.body.0"],
        ["4.body.0"],
        ["4.body.3", "4.shortcut.0"],
        ["5.body.0"],
        ["5.body.3", "5.shortcut.0"],
        ["8"],
    ]
    assert (ties["8"] == -1).all() and len(set(ties["3.body.0"])) == 16


def test_a_removed_filter_takes_what_is_tied_to_it():
    model = load("ResNet8")
    smaller = remove_filters(model, {"0": np.arange(4, 16)})
    assert smaller[0].weight.shape == (12, 1, 3, 3) and smaller[1].num_features == 12
    assert torch.equal(smaller[0].weight, model[0].weight[4:])
    assert torch.equal(smaller[3].body[3].weight, model[3].body[3].weight[4:])
    assert torch.equal(smaller[3].body[0].weight, model[3].body[0].weight[:, 4:])
    assert torch.equal(smaller[4].shortcut[0].weight, model[4].shortcut[0].weight[:, 4:])
    assert smaller[3].body[0].weight.shape[0] == 16
    assert not smaller.training
    removed = cost(model, (1, 28, 28)).macs - cost(smaller, (1, 28, 28)).macs
    assert removed == 784 * 9 * 4 * (1 + 16 + 16) + 196 * 4 * (9 * 32 + 32)


def test_masks_and_indices_are_the_same():
    model = build("TinyCNN")
    mask = np.arange(16) % 3 == 0
    a, b = (remove_filters(model, {"0": keep}) for keep in (mask, np.flatnonzero(mask)))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_nothing_kept_out_is_a_copy():
    model = build("LeNet5")
    same = remove_filters(model, {})
    assert same is not model
    for key, value in model.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])


def test_dense_layers_lose_neurons_too():
    model = build("LeNet300")
    smaller = remove_filters(model, {"1": np.arange(100), "3": np.arange(7)})
    assert [m.weight.shape for m in (smaller[1], smaller[3], smaller[5])] == [
        (100, 784),
        (7, 100),
        (10, 7),
    ]


def test_a_frozen_layer_stays_frozen():
    model = build("TinyCNN")
    model[0].weight.requires_grad_(False)
    assert not remove_filters(model, {"0": [1]})[0].weight.requires_grad


class Times(nn.Module):
    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True)


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        return x + self.scale


class TwoOutputs(nn.Module):
    def forward(self, x):
        return x, x


class Shuffled(nn.Module):
    def forward(self, x):
        return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class AddsOne(nn.Module):
    def forward(self, x):
        return x + 1


class AlongWidth(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], dim=3)


REFUSED = {
    "softmax": (nn.Softmax(1), "module 1 (Softmax)"),
    "sigmoid, which makes 0.5 of 0": (nn.Sigmoid(), "module 1 (Sigmoid)"),
    "layer norm": (nn.LayerNorm([4, 5, 4]), "module 1 (LayerNorm)"),
    "group norm": (nn.GroupNorm(2, 4), "module 1 (GroupNorm)"),
    "channel shuffle": (Shuffled(), "unflatten (node"),
    "a module of torch that shuffles": (nn.ChannelShuffle(2), "module 1 (ChannelShuffle)"),
    "transposed convolution": (nn.ConvTranspose2d(4, 4, 3), "module 1 (ConvTranspose2d)"),
    "squeeze and excite": (Times(), "no rule"),
    "a sum with a constant": (AddsOne(), "add (node"),
    "a sum with a parameter": (Scaled(), "scale"),
    "a forward that branches": (Branches(), "cannot be traced"),
    "two outputs": (TwoOutputs(), "more than one tensor"),
    "a dense layer over the width": (nn.Linear(4, 4), "module 1 (Linear)"),
    "concatenation along the width": (AlongWidth(), "cat (node"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name):
    module, named = REFUSED[name]
    model = nn.Sequential(nn.Conv2d(2, 4, 3), module)
    for call in (filter_ties, lambda *a: remove_filters(a[0], {"0": [0]}, a[1])):
        with pytest.raises(ValueError) as error:
            call(model, SHAPE)
        assert named in str(error.value)


def test_hooks_parametrizations_and_shared_parameters_are_refused():
    hooked = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU())
    hooked[1].register_forward_hook(lambda m, i, o: o.flip(1))
    masked = nn.Sequential(nn.Conv2d(2, 4, 3))
    prune.l1_unstructured(masked[0], "weight", 0.5)
    normed = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(2, 4, 3)))
    shared = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    shared[1].weight = shared[0].weight
    for model in (hooked, masked, normed, shared):
        with pytest.raises(ValueError):
            remove_filters(model, {"0": [0]}, SHAPE)


BAD = [
    (
        {"8": np.arange(9)},
        ValueError,
        "filter 9 of 8 must stay: it is tied to the network's output",
    ),
    ({"0": [0], "3.body.3": [0, 1]}, ValueError, "filter 1 of 3.body.3 is tied to one that goes"),
    ({"0": []}, TypeError, "indices int"),
    ({"0": np.zeros(16, bool)}, ValueError, "would keep no channel"),
    ({"0": [16]}, ValueError, "outside 0..15"),
    ({"0": [-1]}, ValueError, "outside 0..15"),
    ({"0": np.ones(15, bool)}, TypeError, "a mask bool [16]"),
    ({"0": [0.5]}, TypeError, "indices int"),
    ({"1": [0]}, ValueError, "keep names '1': choose from 0, 3.body.0"),
    ([0], TypeError, "pass a dictionary"),
]


@pytest.mark.parametrize(("keep", "error", "words"), BAD)
def test_a_wrong_keep_is_told(keep, error, words):
    with pytest.raises(error) as caught:
        remove_filters(build("ResNet8"), keep)
    assert words in str(caught.value)


def test_a_depthwise_layer_on_the_input_stays_whole():
    model = nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Conv2d(2, 4, 1))
    with pytest.raises(ValueError, match="tied to the network's input"):
        remove_filters(model, {"0": [0]}, SHAPE)


def test_groups_must_stay_equal():
    model = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 1, groups=2))
    with pytest.raises(ValueError, match="1 has 2 groups"):
        remove_filters(model, {"0": [0, 1, 2]}, SHAPE)
    assert remove_filters(model, {"0": [0, 3]}, SHAPE)[1].weight.shape == (4, 1, 1, 1)


def test_a_block_of_another_dtype():
    layers = nn.Conv2d(2, 4, 3, padding=1), ResidualBlock(4, 4), nn.Conv2d(4, 3, 1)
    model = nn.Sequential(*layers).double()
    assert remove_filters(model, {"0": [1, 2]}, SHAPE)[0].weight.dtype == torch.float64


def test_no_model_and_a_wrong_shape():
    with pytest.raises(TypeError, match="pass a PyTorch"):
        remove_filters("ResNet8", {})
    with pytest.raises(ValueError, match="refuses inputs"):
        remove_filters(build("ResNet8"), {}, (3, 28, 28))


def test_other_threads_compute_while_a_network_is_traced():
    """torch.fx patches nn.Module for all threads."""
    originals = nn.Module.__call__, nn.Module.__getattr__
    network, x = build("ResNet8").eval(), torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        expected = network(x)

    def compute(_):
        with torch.no_grad():
            return torch.equal(network(x), expected)

    def trace(kept):
        return len(remove_filters(network, {"3.body.0": range(kept)})[3].body[0].weight) == kept

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(*job) for n in range(1, 13) for job in ((trace, n), (compute, n))]
        assert all(job.result() for job in jobs)
    assert (nn.Module.__call__, nn.Module.__getattr__) == originals
