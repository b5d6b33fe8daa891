"""The formulas that lesson 21 writes out, against torch, NumPy and plain loops."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from helpers import calibrate as C
from helpers import quantize as Q

lesson = definitions("21_quantization_formulas")
size = st.floats(2.0**-60, 2.0**60, width=32)
reals = st.one_of(size, size.map(lambda x: -x), st.just(0.0))
tensors = arrays.arrays(np.float32, st.integers(1, 40), elements=reals).map(torch.from_numpy)
filled = tensors.filter(lambda x: bool(x.any()))
shapes = st.tuples(st.integers(1, 5), st.integers(1, 8))
matrices = arrays.arrays(np.float32, shapes, elements=reals).map(torch.from_numpy)
bits = st.integers(2, 16)
quick = settings(max_examples=60, deadline=None)


@quick
@given(filled, bits)
def test_affine_is_the_helpers_and_torchs(x, bits):
    scale, zero_point = lesson.affine(x, bits)
    params = Q.affine_params(x, bits=bits)
    assert scale == params.scale and zero_point == params.zero_point
    q = lesson.to_integers(x, scale, zero_point, bits)
    assert torch.equal(q, Q.quantize(x, params))
    assert torch.equal(lesson.to_reals(q, scale, zero_point), Q.dequantize(q, params))
    theirs = torch.fake_quantize_per_tensor_affine(
        x, float(scale), zero_point, *lesson.limits(bits)
    )
    assert torch.equal(lesson.to_reals(q, scale, zero_point), theirs)


@quick
@given(filled, bits)
def test_zero_is_exact(x, bits):
    scale, zero_point = lesson.affine(x, bits)
    q = lesson.to_integers(torch.zeros(1), scale, zero_point, bits)
    assert lesson.to_reals(q, scale, zero_point) == 0


@quick
@given(tensors, st.integers(2, 8))
def test_the_careless_levels_reach_from_min_to_max(x, bits):
    assume(x.max() - x.min() > 1e-3 * x.abs().max())
    x_hat = lesson.without_zero(x, bits)
    width = float(x.max() - x.min())
    assert float((x_hat - x).abs().max()) <= 0.5001 * width / (2**bits - 1) + 1e-6 * width
    assert len(x_hat.unique()) <= 2**bits


@quick
@given(matrices.filter(lambda x: bool(x.abs().amax(1).all())), bits)
def test_symmetric_rows_are_channels(rows, bits):
    scale = lesson.symmetric(rows, bits)
    params = Q.affine_params(rows, bits=bits, symmetric=True, axis=0)
    assert torch.allclose(scale[:, 0], params.scale, rtol=1e-6, atol=0)
    theirs = torch.fake_quantize_per_channel_affine(
        rows, scale[:, 0], params.zero_point, 0, *lesson.limits(bits)
    )
    rebuilt = lesson.rebuilt(rows, bits)
    assert torch.equal(rebuilt, theirs)
    assert torch.allclose(rebuilt.abs().amax(1), rows.abs().amax(1), rtol=1e-5, atol=0)


@quick
@given(tensors, st.integers(-8, 8), st.integers(2, 12))
def test_steps_are_torchs_with_zero_point_0(x, exponent, bits):
    scale = 2.0**exponent
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, 0, *lesson.limits(bits))
    assert torch.equal(lesson.to_steps(x, scale, bits) * scale, theirs)


@quick
@given(st.lists(st.integers(-(2**20), 2**20), min_size=1))
def test_bits_needed_is_the_fewest(values):
    n = lesson.bits_needed(torch.tensor(values))
    assert all(-(2 ** (n - 1)) <= v < 2 ** (n - 1) for v in values)
    assert n == 2 or not all(-(2 ** (n - 2)) <= v < 2 ** (n - 2) for v in values)


def test_folding_is_torchs():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 2, bias=False), nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        norm.weight.normal_(), norm.running_mean.normal_(), norm.running_var.uniform_(0.1, 2)
    theirs, _ = fuse_conv_bn_weights(
        conv.weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    assert torch.allclose(lesson.fold(conv, norm), theirs)


@quick
@given(arrays.arrays(np.float64, 20, elements=st.floats(-1e6, 1e6)), st.integers(0, 100))
def test_rounding_rules(v, seed):
    assert np.array_equal(lesson.half_even(v), torch.round(torch.from_numpy(v)).numpy())
    up, random = lesson.half_up(v), lesson.stochastic(v, np.random.default_rng(seed))
    assert (np.abs(up - v) <= 0.5).all() and (up[v % 1 == 0.5] > v[v % 1 == 0.5]).all()
    assert ((random == np.floor(v)) | (random == np.floor(v) + 1)).all()


@given(st.floats(-1e6, 1e6) | st.sampled_from([0.49999999999999994, -0.49999999999999994, 0.5]))
def test_half_up_is_exact(v):
    exact = math.floor(Fraction(v) + Fraction(1, 2))
    assert lesson.half_up(np.array(v)) == exact


def test_stochastic_rounding_is_unbiased():
    for v in (0.1, 0.5, -2.25):
        rounded = lesson.stochastic(np.full(200_000, v), np.random.default_rng(0))
        assert abs(rounded.mean() - v) < 0.005


def test_an_accumulated_sum_moves_by_whole_steps():
    course = lesson.accumulate(lesson.stochastic, seed=3)
    assert course.shape == (1000,) and set(np.diff(course)) == {0.0, 1.0}
    assert (lesson.accumulate(lesson.half_even) == 0).all()


@settings(max_examples=30, deadline=None)
@given(tensors, st.floats(51, 100))
def test_percentile_is_numpys_and_the_helpers(x, percent):
    low, high = lesson.by_percentile(x, percent)
    assert torch.equal(torch.stack([low, high]), C.percentile(x, percent))
    share = (100 - percent) / 200
    if abs(share * (len(x) - 1) % 1 - 0.5) > 1e-6:  # a tie between two values goes either way
        theirs = np.quantile(x.numpy(), [share, 1 - share], method="nearest")
        assert (float(low), float(high)) == tuple(theirs.tolist())


@settings(max_examples=15, deadline=None)
@given(filled, st.integers(3, 8))
def test_mse_finds_the_smallest_error_of_a_hundred(x, bits):
    def error(ends):
        scale, zero_point = lesson.affine(ends, bits)
        theirs = torch.fake_quantize_per_tensor_affine(
            x, float(scale), zero_point, *lesson.limits(bits)
        )
        return float((x - theirs).double().square().sum())

    ends = torch.stack([x.min(), x.max()])
    best = min(error(ends * (i / 100)) for i in range(1, 101))
    assert error(lesson.by_mse(x, bits)) <= best * (1 + 1e-4)


def divergence_by_loops(counts, n, levels):
    """Migacz 2017 with plain loops: P ends with the tail, Q shares each level's mass."""
    P = [float(c) for c in counts[:n]]
    P[-1] += float(sum(counts[n:]))
    Q = [0.0] * n
    for level in range(levels):
        bins = [i for i in range(n) if i * levels // n == level]
        used = [i for i in bins if counts[i] > 0]
        for i in used:
            Q[i] = sum(float(counts[j]) for j in bins) / len(used)
    if any(p > 0 and q == 0 for p, q in zip(P, Q, strict=True)):
        return math.inf
    p_sum, q_sum = sum(P), sum(Q)
    pairs = [(p / p_sum, q / q_sum) for p, q in zip(P, Q, strict=True) if p > 0]
    return sum(p * math.log(p / q) for p, q in pairs)


@quick
@given(st.lists(st.integers(0, 50), min_size=8, max_size=24), st.sampled_from([2, 4, 8]))
def test_divergence_by_plain_loops(counts, levels):
    counts = np.array(counts, float)
    for n in range(levels, len(counts) + 1):
        if counts[:n].any():
            expected = divergence_by_loops(counts, n, levels)
            assert lesson.divergence(counts, n, levels) == pytest.approx(expected, abs=1e-12)


def test_merged_by_hand():
    assert lesson.merged(np.array([8.0, 4, 2, 0]), 2).tolist() == [6, 6, 2, 0]
    assert lesson.merged(np.array([0.0, 0, 3, 1, 1, 1]), 3).tolist() == [0, 0, 2, 2, 1, 1]


@pytest.mark.parametrize(("bits", "seed"), list(itertools.product((4, 6), range(3))))
def test_entropy_by_plain_loops(bits, seed):
    x = torch.from_numpy(np.random.default_rng(seed).standard_t(4, 3000).astype(np.float32)).relu()
    bins, levels = 256, 2 ** (bits - 1)
    sizes = x[x > 0].numpy()
    counts = np.histogram(sizes, bins, (0, sizes.max()))[0]
    tried = range(levels, bins + 1, max(1, levels // 16))
    kept = min(tried, key=lambda n: divergence_by_loops(counts, n, levels))
    low, high = lesson.by_entropy(x, bits, bins=bins)
    assert low == 0 and float(high) == pytest.approx(float(x.max()) * kept / bins, rel=1e-6)
    assert torch.allclose(torch.stack([low, high]), C.entropy(x, bits=bits, bins=bins))


def test_sqnr_and_crest():
    x = torch.tensor([3.0, -4.0])
    assert lesson.sqnr_db(x, 1.1 * x) == pytest.approx(20, abs=1e-4)
    assert lesson.crest(x) == pytest.approx(20 * np.log10(4 / np.sqrt(12.5)), abs=1e-4)
    assert lesson.sqnr_db(x, 0.9 * x) == pytest.approx(Q.sqnr_db(x, 0.9 * x))
