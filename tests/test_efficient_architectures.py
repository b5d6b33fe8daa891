"""The functions that lesson 34 writes out, against PyTorch's layers and plain counting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from torch import nn

from helpers.architectures import (
    SearchedCNN,
    TinyCNN,
    inverted,
    separable,
    with_shortcut,
)
from helpers.costs import cost
from helpers.machine import seeded

lesson = definitions("34_efficient_architectures")
solutions = definitions("solutions/34_efficient_architectures")
quick = settings(max_examples=25, deadline=None)
channels = st.integers(1, 12)


# --- blocks of helpers/architectures.py -------------------------------------------------------


@quick
@given(channels, channels, st.sampled_from([1, 3, 5]), st.integers(1, 2), st.integers(1, 4))
def test_blocks_have_the_shapes_and_weights_of_their_formulas(c, out, kernel, stride, t):
    x, size = torch.zeros(2, c, 8, 8), 8 // stride
    weights = {}
    for name, layers in (
        ("separable", separable(c, out, kernel, stride)),
        ("inverted", inverted(c, out, kernel, stride, t)),
    ):
        assert nn.Sequential(*layers)(x).shape == (2, out, size, size)
        weights[name] = sum(m.weight.numel() for m in layers if isinstance(m, nn.Conv2d))
    assert weights == {
        "separable": c * kernel**2 + c * out,
        "inverted": t * c * (c + kernel**2 + out),
    }
    depthwise = separable(c, out, kernel, stride)[0]
    assert depthwise.weight.shape == (c, 1, kernel, kernel)


def test_a_shortcut_adds_the_input_before_the_relu():
    with seeded(0):
        block = with_shortcut(separable(6, 6), 6).eval()
    x = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x), (block.body(x) + x).relu())


def test_the_searched_network_keeps_tinycnns_budgets():
    searched, tiny = (cost(kind(), (1, 28, 28)) for kind in (SearchedCNN, TinyCNN))
    assert searched.macs <= tiny.macs and searched.params <= tiny.params
    assert searched.peak_activation_bytes <= tiny.peak_activation_bytes


# --- the lesson --------------------------------------------------------------------------------


@quick
@given(channels, channels, st.sampled_from([1, 3, 5]), st.integers(2, 8))
def test_a_separable_convolution_is_counted(c, out, kernel, side):
    layers = nn.Sequential(*lesson.pair(c, out, kernel))
    found = cost(layers, (c, side, side))
    assert lesson.separable_cost(c, out, kernel, side**2) == (found.params, found.macs)
    assert lesson.weights_and_macs(layers, (c, side, side)) == (found.params, found.macs)


def test_rank_1_finds_separable_kernels_and_the_nearest_others():
    generator = torch.Generator().manual_seed(0)
    d = torch.randn(4, 3, 3, generator=generator)
    p = torch.randn(8, 4, generator=generator)
    w = p[:, :, None, None] * d
    near, kept = lesson.rank_1(w)
    torch.testing.assert_close(near, w)
    assert kept == pytest.approx(1)
    w = torch.randn(8, 4, 3, 3, generator=generator)
    near, kept = lesson.rank_1(w)
    assert 0 < kept < 1
    for c in range(4):
        assert np.linalg.matrix_rank(near[:, c].flatten(1).numpy(), tol=1e-4) == 1
    assert (near - w).square().sum() < (w - near.roll(1, 0)).square().sum()


@quick
@given(st.integers(1, 5), st.integers(1, 5))
def test_shuffle_is_the_librarys(groups, size):
    x = torch.randn(2, groups * size, 3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(lesson.shuffle(x, groups), nn.functional.channel_shuffle(x, groups))


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_after_a_shuffle_a_group_hears_of_as_many_as_it_can(groups):
    assert lesson.reach(groups, False).float().mean() == pytest.approx(1 / groups)
    heard = min(groups, 12 // groups) / groups
    assert lesson.reach(groups, True).float().mean() == pytest.approx(heard)


def test_peaks_are_maps():
    assert lesson.peak_maps(inverted(8, 8, expansion=3), 8, 6) == 7


def test_intensity_and_roofline_are_their_formulas():
    assert lesson.intensity(32, 3, 14, "depthwise") == pytest.approx(56_448 / 51_328)
    assert lesson.intensity(32, 3, 14, "full") == pytest.approx(1_806_336 / 87_040)
    assert lesson.roofline_time(32, 14, "full", 1e9, 1e12) == pytest.approx(1_806_336e-9)
    assert lesson.roofline_time(32, 14, "depthwise", 1e12, 1e9) == pytest.approx(51_328e-9)


def test_a_gate_scales_whole_channels():
    with seeded(0):
        gate = lesson.SqueezeExcite(8)
    x = torch.rand(2, 8, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    factor = gate(x) / x
    assert torch.allclose(factor, factor[:, :, :1, :1], atol=1e-6)
    assert ((factor > 0) & (factor < 1)).all()


def test_mobile_has_its_widths():
    widths = [m.weight.shape[0] for m in lesson.mobile(0.5) if isinstance(m, nn.Conv2d)]
    assert widths == [8, 8, 12, 12, 12, 12, 24, 24, 24, 24, 48]


# --- exercises ---------------------------------------------------------------------------------


@quick
@given(channels, channels, st.integers(1, 4), st.sampled_from([1, 3, 5]), st.integers(1, 2))
def test_macs_of_an_inverted_block_are_counted(c_in, c_out, t, kernel, stride):
    layers = nn.Sequential(*inverted(c_in, c_out, kernel, stride, t))
    counted = cost(layers, (c_in, 12, 12)).macs
    assert solutions.inverted_macs(c_in, c_out, t, kernel, 12, stride) == counted


@pytest.mark.parametrize(("n", "groups"), [(6, 2), (12, 4), (15, 5), (8, 8)])
def test_shuffle_order_is_the_librarys(n, groups):
    x = torch.arange(float(n)).reshape(1, n, 1, 1)
    expected = nn.functional.channel_shuffle(x, groups).flatten().int().tolist()
    assert solutions.shuffle_order(n, groups).tolist() == expected


@quick
@given(st.integers(1, 200), st.sampled_from([1, 3, 5, 7]))
def test_equal_width_fits_and_one_more_does_not(c, kernel):
    c2 = solutions.equal_width(c, kernel)
    full = c**2 * kernel**2
    assert sum(solutions_weights(c2, kernel)) <= full < sum(solutions_weights(c2 + 1, kernel))


def solutions_weights(c, kernel):
    """Weights of the two layers of a separable convolution from c to c channels."""
    return c * kernel**2, c**2
