"""The formulas that lesson 21 writes out, against torch, NumPy and helpers/quantize.py."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions

from helpers import calibrate as C
from helpers import quantize as Q

lesson = definitions("21_quantization_formulas")
size = st.floats(2.0**-60, 2.0**60, width=32)
reals = st.one_of(size, size.map(lambda x: -x), st.just(0.0))
tensors = arrays.arrays(np.float32, st.integers(1, 40), elements=reals).map(torch.from_numpy)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 8))
matrices = arrays.arrays(np.float32, shapes, elements=reals).map(torch.from_numpy)
bits = st.integers(2, 16)
quick = settings(max_examples=60, deadline=None)


@quick
@given(tensors, bits)
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
@given(tensors)
def test_integers_are_torchs_quantized_tensors(x):
    scale, zero_point = lesson.affine(x, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the lesson silences the one warning that there is
        theirs = lesson.torch_integers(x, scale, zero_point)
    assert torch.equal(lesson.to_integers(x, scale, zero_point, 8), theirs)


@quick
@given(tensors, bits)
def test_zero_is_exact(x, bits):
    scale, zero_point = lesson.affine(x, bits)
    q = lesson.to_integers(torch.zeros(1), scale, zero_point, bits)
    assert lesson.to_reals(q, scale, zero_point) == 0


@quick
@given(matrices, st.one_of(st.just(8), bits))
def test_symmetric_rows_are_channels(rows, bits):
    scale = lesson.symmetric(rows, bits)
    params = Q.affine_params(rows, bits=bits, symmetric=True, axis=0)
    assert torch.equal(scale[:, 0], params.scale)
    rebuilt = lesson.rebuilt(rows, bits)
    if bits == 8:
        ours = lesson.to_integers(rows, scale, 0, 8)
        assert torch.equal(ours, lesson.torch_integers(rows, scale[:, 0]))
    assert torch.equal(rebuilt, Q.dequantize(Q.quantize(rows, params), params))
    theirs = torch.fake_quantize_per_channel_affine(
        rows, params.scale, params.zero_point, 0, *lesson.limits(bits)
    )
    assert torch.equal(rebuilt, theirs)


@quick
@given(tensors, st.integers(-8, 8), st.integers(2, 12))
def test_steps_are_torchs_with_zero_point_0(x, exponent, bits):
    step = 2.0**exponent
    theirs = torch.fake_quantize_per_tensor_affine(x, step, 0, *lesson.limits(bits))
    assert torch.equal(lesson.to_steps(x, step, bits) * step, theirs)


@quick
@given(st.lists(st.integers(-(2**20), 2**20), min_size=1))
def test_bits_needed_is_the_fewest(values):
    n = lesson.bits_needed(torch.tensor(values))
    assert all(-(2 ** (n - 1)) <= v < 2 ** (n - 1) for v in values)
    assert n == 1 or not all(-(2 ** (n - 2)) <= v < 2 ** (n - 2) for v in values)


@quick
@given(tensors.filter(lambda x: bool(x.any())), st.integers(2, 8))
def test_fixed_point_is_the_helpers(x, bits):
    expected = Q.power_of_two_params(x, bits=bits).scale
    largest = float(x.abs().max())
    if abs(np.log2(lesson.limits(bits)[1] / largest) % 1 - 0.5) < 0.499:  # not a power of two
        assert 2.0 ** -lesson.fraction_bits(x, bits) == expected


@quick
@given(arrays.arrays(np.float64, 20, elements=st.floats(-1e6, 1e6)), st.integers(0, 100))
def test_rounding_rules(v, seed):
    assert np.array_equal(lesson.half_even(v), torch.round(torch.from_numpy(v)).numpy())
    up, random = lesson.half_up(v), lesson.stochastic(v, np.random.default_rng(seed))
    assert (np.abs(up - v) <= 0.5).all() and (up[v % 1 == 0.5] > v[v % 1 == 0.5]).all()
    assert ((random == np.floor(v)) | (random == np.floor(v) + 1)).all()


def test_stochastic_rounding_is_unbiased():
    for v in (0.1, 0.5, -2.25):
        rounded = lesson.stochastic(np.full(200_000, v), np.random.default_rng(0))
        assert abs(rounded.mean() - v) < 0.005


@settings(max_examples=10, deadline=None)
@given(tensors, st.floats(51, 100), st.integers(5, 8))
def test_calibrators_are_the_helpers(x, percent, bits):
    assert torch.equal(torch.stack(lesson.by_percentile(x, percent)), C.percentile(x, percent))
    if x.any():
        assert torch.allclose(lesson.by_mse(x, bits), C.mse(x, bits=bits))
        assert torch.allclose(lesson.by_entropy(x, bits), C.entropy(x, bits=bits))


@settings(max_examples=30, deadline=None)
@given(arrays.arrays(np.float32, 50, elements=st.floats(-10, 10, width=32)), st.integers(1, 4))
def test_kmeans_is_the_helpers(x, bits):
    x = torch.from_numpy(x)
    book, index = lesson.kmeans(x, bits)
    theirs, _ = Q.kmeans_codebook(x, bits)
    assert torch.allclose(book.float(), theirs, atol=1e-5)
    assert (book[index] - x).abs().max() <= (book - x[:, None]).abs().amin(1).max() + 1e-6


def test_powers_of_two_take_the_nearest_level():
    x = torch.tensor([0.9, 0.74, 0.76, -0.3, 0.1, 0.13])
    expected = torch.tensor([1.0, 0.5, 1.0, -0.25, 0.0, 0.25])
    assert torch.equal(lesson.powers_of_two(x, 3, 1.0), expected)


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_nan=False), st.sampled_from(sorted(lesson.FORMATS)))
def test_floats_are_torchs(value, name):
    value = float(np.clip(value, -lesson.FORMATS[name][2], lesson.FORMATS[name][2]))
    x = torch.tensor([value])
    theirs = x.to(getattr(torch, name)).float().numpy()
    ours = lesson.round_to_float(x.numpy(), name)
    assert ours.view(np.uint32) == theirs.view(np.uint32)


def test_every_float16_and_every_tie_is_numpys():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)
    grid = np.unique(every)
    for x in (every, (grid[1:] + grid[:-1]) / 2, np.float32([65519.9, 65520, np.inf, -np.inf])):
        with np.errstate(over="ignore"):
            ours = lesson.round_to_float(x, "float16").astype(np.float16)
            assert np.array_equal(ours.view(np.uint16), x.astype(np.float16).view(np.uint16))


@quick
@given(arrays.arrays(np.int8, st.integers(0, 33), elements=st.integers(-8, 7)))
def test_packing_is_exact_and_half_the_size(q):
    buffer = lesson.pack_int4(q)
    assert len(buffer) == (len(q) + 1) // 2
    again = lesson.unpack_int4(buffer, len(q))
    assert again.dtype == np.int8 and np.array_equal(again, q)


def test_sqnr_and_crest():
    x = torch.tensor([3.0, -4.0])
    assert lesson.sqnr(x, 1.1 * x) == pytest.approx(20, abs=1e-4)
    assert lesson.crest(x) == pytest.approx(20 * np.log10(4 / np.sqrt(12.5)), abs=1e-4)
    assert lesson.sqnr(x, 0.9 * x) == pytest.approx(Q.sqnr_db(x, 0.9 * x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lesson.limits(1), "choose 2 to 16"),
        (lambda: lesson.limits(17), "choose 2 to 16"),
        (lambda: lesson.to_steps(torch.ones(2), 0, 8), "above 0"),
        (lambda: lesson.affine(torch.empty(0), 8), "empty or not finite"),
        (lambda: lesson.affine(torch.tensor([np.nan]), 8), "empty or not finite"),
        (lambda: lesson.symmetric(torch.ones(3), 8), r"pass \[R, N\]"),
        (lambda: lesson.by_percentile(torch.ones(3), 50), "above 50"),
        (lambda: lesson.kmeans(torch.ones(3), 9), "choose 1 to 8"),
        (lambda: lesson.round_to_float(np.ones(3), "float4"), "choose one of float16"),
        (lambda: lesson.pack_int4([8]), "-8 to 7"),
        (lambda: lesson.pack_int4([0.5]), "-8 to 7"),
        (lambda: lesson.unpack_int4(b"\x00", 3), "do not hold 3"),
        (lambda: lesson.unpack_int4(b"\x00\x00", 2), "do not hold 2"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize("size", [1e-38, 1e-40, 1e-44, 1e38, 1.0])
def test_scales_stay_where_their_inverse_is_finite(size):
    x = torch.tensor([0.0, size, -size / 2])
    scale, zero_point = lesson.affine(x, 8)
    back = lesson.to_reals(lesson.to_integers(x, scale, zero_point, 8), scale, zero_point)
    assert (back - x).abs().max() <= max(float(scale), lesson.TINY)
    rows = x[None]
    back = lesson.rebuilt(rows, 8)
    assert (back - rows).abs().max() <= max(size / 127, lesson.TINY)


def test_a_tensor_of_zeros_has_parameters():
    zeros = torch.zeros(5)
    assert lesson.fraction_bits(zeros, 8) == 6, "the largest shift that keeps 1.0 inside"
    assert lesson.by_entropy(zeros, 8).tolist() == [0, 0]


@given(st.floats(-1e6, 1e6) | st.sampled_from([0.49999999999999994, -0.49999999999999994, 0.5]))
def test_half_up_is_exact(v):
    exact = math.floor(Fraction(v) + Fraction(1, 2))
    assert lesson.half_up(np.array(v)) == exact
