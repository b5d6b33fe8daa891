"""The counts that lesson 15 writes out, against torch's own layers over random shapes."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn

from helpers import costs

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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_peak_of_a_chain_is_its_largest_pair(sizes):
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))
    by_hand = lesson.peak_bytes(lesson.chain(*sizes))
    assert by_hand == 4 * max(a + b for a, b in itertools.pairwise(sizes))
    assert by_hand == costs.cost(model, (sizes[0],)).peak_activation_bytes


@pytest.mark.parametrize("fitted", [False, True])
def test_peak_of_a_residual_block(fitted):
    from helpers.architectures import ResidualBlock

    block = ResidualBlock(4, 8, stride=2) if fitted else ResidualBlock(4, 4)
    rows, total = lesson.residual(0, 4 * 8 * 8, 8 * 4 * 4 if fitted else 4 * 8 * 8, fitted)
    rows.append((8 * 4 * 4 if fitted else 4 * 8 * 8, total, total))
    assert lesson.peak_bytes(rows) == costs.cost(block, (4, 8, 8)).peak_activation_bytes


def test_work_of_a_layer():
    layer, x = nn.Conv2d(3, 5, 3, bias=False), torch.zeros(1, 3, 6, 6)
    macs, moved = lesson.work(layer, x, layer(x))
    assert macs == 5 * 4 * 4 * 3 * 9 and moved == 4 * (3 * 36 + 5 * 16 + 5 * 27)
