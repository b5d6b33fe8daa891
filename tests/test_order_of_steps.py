"""What lesson 38 writes out: the front, the steps as functions, and its exercises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.stats import entropy

from helpers import codec, models, qat
from helpers.learned_step import QuantizedLayer

lesson = definitions("38_the_order_of_the_steps")
solutions = definitions("solutions/38_the_order_of_the_steps")
quick = settings(max_examples=80, deadline=None)
points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9)


@pytest.fixture(scope="module", autouse=True)
def some_images():
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    lesson.quantized.__globals__["images"] = images


# --- the steps ---------------------------------------------------------------------------------


def filters(network):
    """Of the first layer of each block."""
    layers = [network[i].body[0] for i in (3, 4, 5)]
    return [getattr(layer, "layer", layer).out_channels for layer in layers]


@pytest.mark.parametrize("order", ["P", "Q", "D", "PQ", "QP", "QPD"])
def test_the_steps_do_what_their_letters_say(order):
    network = models.load("ResNet8")
    for i, letter in enumerate(order):
        network = lesson.changed(network, letter, "Q" in order[:i])
    assert filters(network) == ([8, 16, 28] if "P" in order else [16, 32, 64])
    quantizers = [m for m in network.modules() if isinstance(m, QuantizedLayer)]
    assert bool(quantizers) == ("Q" in order)
    assert all(m.weight_quantizer.bits == 4 for m in quantizers)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_what_stands_under_the_quantizers_is_the_network_before():
    network = lesson.pruned(models.load("ResNet8"))
    back = lesson.without_quantizers(lesson.quantized(network))
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert torch.equal(back(x), network.eval()(x))


def test_the_filters_that_stay_are_those_that_are_read_most():
    network = models.load("ResNet8")
    kept = lesson.pruned(network)[3].body[0].weight
    scores = network[3].body[3].weight.abs().sum((0, 2, 3))
    expected = sorted(sorted(range(16), key=lambda i: -scores[i])[:8])
    assert torch.equal(kept, network[3].body[0].weight[expected])


@pytest.mark.parametrize("name", ["ResNet8_4bit", "ResNet8_half_taught_4bit"])
def test_what_is_deployed_gives_the_networks_weights_back(name):
    network = models.load(name)
    state = codec.decode(codec.encode(lesson.deployed(network)))
    for path, module in qat.fold(network).named_modules():
        if isinstance(module, QuantizedLayer):
            integers, step = state[f"{path}.weight"], state[f"{path}.step"]
            assert integers.dtype == torch.int8 and integers.abs().max() <= 8
            weight = integers * step.reshape(-1, *[1] * (integers.ndim - 1))
            rounded = module.weight_quantizer(module.layer.weight)
            assert torch.allclose(weight, rounded, rtol=1e-6, atol=0)
            assert torch.equal(state[f"{path}.bias"], module.layer.bias)


# --- what is counted and chosen ----------------------------------------------------------------


@quick
@given(st.lists(st.integers(-7, 7), min_size=1, max_size=60))
def test_the_least_bytes_are_scipys_entropy(levels):
    shares = np.unique(levels, return_counts=True)[1]
    expected = len(levels) * entropy(shares, base=2) / 8
    assert lesson.least_bytes(np.array(levels)) == pytest.approx(expected, abs=1e-9)


@quick
@given(points, st.integers(0, 5), st.integers(0, 5))
def test_the_best_within_limits(points, most, longest):
    sizes, accuracies = map(np.array, zip(*points, strict=True))
    times = sizes[::-1]
    place = solutions.best_within(sizes, times, accuracies, most, longest)
    fits = [i for i in range(len(points)) if sizes[i] <= most and times[i] <= longest]
    if not fits:
        assert place == -1
    else:
        best = min(fits, key=lambda i: (-accuracies[i], sizes[i], i))
        assert place == best


@quick
@given(points)
def test_the_front_is_what_nothing_beats(points):
    def beats(a, b):
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    expected = [i for i, b in enumerate(points) if not any(beats(a, b) for a in points)]
    assert solutions.front_of(np.array(points)).tolist() == expected


@pytest.mark.parametrize(
    ("order", "rounds"), [("PDQ", 2), ("PQD", 1), ("DPQ", 1), ("QPD", 0), ("PD", 2), ("DP", 1)]
)
def test_rounds_of_the_pruned_network_without_quantizers(order, rounds):
    assert solutions.float_rounds(order) == rounds
