"""The counts and models of lesson 18, against torch's own layers and by brute force."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn

from helpers import costs
from helpers.architectures import ResidualBlock

lesson = definitions("18_costs_and_budgets")
few = st.integers(1, 12)


@settings(max_examples=40, deadline=None)
@given(few, few, st.sampled_from([1, 3, 5]), st.integers(5, 12), st.integers(1, 3), st.booleans())
def test_convolution(channels_in, channels_out, kernel, size, groups, bias):
    channels_in, channels_out = channels_in * groups, channels_out * groups
    layer = nn.Conv2d(channels_in, channels_out, kernel, groups=groups, bias=bias)
    counted = costs.cost(layer, (channels_in, size, size))
    output = size - kernel + 1
    by_hand = lesson.conv(channels_in, channels_out, kernel, output, groups, bias)
    assert by_hand == (counted.params, counted.macs)


@settings(max_examples=20, deadline=None)
@given(few, few)
def test_dense_and_batch_norm(n_in, n_out):
    counted = costs.cost(nn.Linear(n_in, n_out), (n_in,))
    assert lesson.dense(n_in, n_out) == (counted.params, counted.macs)
    counted = costs.cost(nn.BatchNorm2d(n_in), (n_in, 2, 2))
    assert lesson.batch_norm(n_in) == (counted.params, counted.macs)


@settings(max_examples=20, deadline=None)
@given(few, few, few, st.sampled_from([(3, nn.GRU), (4, nn.LSTM)]))
def test_recurrent(inputs, units, steps, kind):
    gates, layer = kind
    counted = costs.cost(layer(inputs, units, batch_first=True), (steps, inputs))
    assert lesson.recurrent(gates, inputs, units, steps) == (counted.params, counted.macs)


@pytest.mark.parametrize(("channels", "stride"), [((4, 4), 1), ((4, 8), 2)])
def test_layers_of_a_residual_block(channels, stride):
    rows = costs.layer_costs(ResidualBlock(*channels, stride=stride), (channels[0], 8, 8))
    assert [(row.params, row.macs) for row in rows] == lesson.block(*channels, 8 // stride)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_peak_of_a_chain_is_its_largest_pair(sizes):
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))
    by_hand = lesson.peak_bytes(lesson.chain(*sizes))
    assert by_hand == 4 * max(a + b for a, b in itertools.pairwise(sizes))
    assert by_hand == costs.cost(model, (sizes[0],)).peak_activation_bytes


lives = st.tuples(st.integers(1, 50), st.integers(0, 6), st.integers(0, 6)).map(
    lambda t: (t[0], min(t[1:]), max(t[1:]))
)


@settings(max_examples=50, deadline=None)
@given(st.lists(lives, min_size=1, max_size=8), st.sampled_from([1, 2, 4]))
def test_peak_is_reached_when_a_tensor_is_written(tensors, size):
    """Nothing but a birth raises the sum, so that looking at births alone is enough."""
    sums = [sum(n for n, a, b in tensors if a <= born <= b) for _, born, _ in tensors]
    assert lesson.peak_bytes(tensors, size) == size * max(sums)


@pytest.mark.parametrize("fitted", [False, True])
def test_peak_of_a_residual_block(fitted):
    block = ResidualBlock(4, 8, stride=2) if fitted else ResidualBlock(4, 4)
    made = 8 * 4 * 4 if fitted else 4 * 8 * 8
    rows = lesson.residual(0, 4 * 8 * 8, made, fitted)
    total = rows[-1][2]  # the step of the addition
    assert total == (4 if fitted else 3)
    rows.append((made, total, total))
    assert lesson.peak_bytes(rows) == costs.cost(block, (4, 8, 8)).peak_activation_bytes


def test_work_of_a_layer():
    layer, x = nn.Conv2d(3, 5, 3, bias=False), torch.zeros(1, 3, 6, 6)
    macs, moved = lesson.work(layer, x, layer(x))
    assert macs == 5 * 4 * 4 * 3 * 9 and moved == 4 * (3 * 36 + 5 * 16 + 5 * 27)
    gru, x = nn.GRU(3, 5, batch_first=True), torch.zeros(1, 7, 3)
    macs, _ = lesson.work(gru, x, gru(x)[0])
    assert macs == costs.cost(gru, (7, 3)).macs


def test_leaves_are_layers_with_their_inputs():
    model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    rows = lesson.leaves(model, torch.zeros(1, 3))
    assert [type(layer).__name__ for layer, _, _ in rows] == ["Linear", "ReLU", "Linear"]
    assert [tuple(y.shape) for _, _, y in rows] == [(1, 4), (1, 4), (1, 2)]
    assert not any(layer._forward_hooks for layer in model.modules())


def test_operations_are_counted():
    with torch.no_grad(), lesson.Count() as count:
        torch.ones(2) + torch.ones(2)
    assert count.calls == 3


def test_fastest_is_the_least_of_the_calls():
    assert 0 < lesson.fastest(lambda: sum(range(100)), 0.01) < 0.01


@pytest.fixture
def model():
    """A network of one dense layer, 10 -> 4, on a device of round numbers."""
    names = lesson.__globals__
    names["layers"], names["tensors"] = {"one": [(44, 40)]}, {"one": [(10, 0, 1), (4, 1, 1)]}
    budget = [1 / 1024, 2 / 1024, 4e-9, 2e-9, 1e-9, 1]
    rows = {"Cortex-M": budget, "box": budget, "no float": [*budget[:3], np.nan, *budget[4:]]}
    names["devices"] = pd.DataFrame(rows, index=lesson.COLUMNS).T
    yield lesson
    for name in ("layers", "tensors", "devices"):
        del names[name]


def test_energy(model):
    parts = model.energy("one", "float32", "DRAM")
    assert parts == pytest.approx(
        {"arithmetic": 40 * 4.6e-6, "activations": 2 * 14 * 5e-6, "weights": 44 * 640e-6}
    )
    assert model.energy("one", "int8", "SRAM")["weights"] == pytest.approx(44 * 1.25e-6)


def test_modelled_time_is_the_larger_one(model):
    seconds = model.modelled_seconds
    assert seconds("one", "box", "int8", 0.1) == pytest.approx(40 / 0.4)
    assert seconds("one", "box", "int8", 1.0) == pytest.approx(44 + 28)
    assert seconds("one", "box", "float32", 1.0) == pytest.approx(4 * (44 + 28))
    assert math.isnan(seconds("one", "no float", "float32"))


def test_budgets(model):
    box, controller = (model.budgets("one", d, "float32", 1000) for d in ("box", "Cortex-M"))
    assert box["storage"] == controller["storage"] == pytest.approx(4 * 44 / 2048)
    assert box["RAM"] == pytest.approx((4 * 14 + 4 * 44) / 1024)
    assert controller["RAM"] == pytest.approx(4 * 14 / 1024)
    assert box["time"] == model.modelled_seconds("one", "box", "float32")


@pytest.fixture
def tiers():
    lesson.__globals__["TIERS"] = {"here": (1e9, math.inf, 0.0), "far": (1e12, 8e6, 0.05)}
    yield
    del lesson.__globals__["TIERS"]


def test_answers(tiers):
    assert lesson.answer_seconds("here", 3e8, 10**9) == pytest.approx(1)
    assert lesson.answer_seconds("far", 3e8, 250_000) == pytest.approx(0.001 + 0.25 + 0.05)


@pytest.mark.parametrize("deviation", [0.2, 0.5])
def test_late_answers_as_drawn(tiers, deviation):
    trips = 0.05 * np.random.default_rng(0).lognormal(0, deviation, 200_000)
    drawn = (trips + 0.001 + 0.01 > 0.08).mean()
    assert lesson.late(0.08, "far", 3e8, 10_000, deviation) == pytest.approx(drawn, abs=0.003)
