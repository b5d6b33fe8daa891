"""helpers/quantize.py and helpers/qparams.py against torch, scikit-learn and exact arithmetic."""

import copy
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers import qparams
from helpers import quantize as Q
from helpers.qparams import TINY, QParams, limits

reals = st.floats(-1e6, 1e6, width=32)
tensors = arrays.arrays(np.float32, st.integers(1, 40), elements=reals).map(torch.from_numpy)
matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=reals
)
forms = st.sampled_from([(True, False), (True, True), (False, False)])  # signed, symmetric
bits = st.integers(2, 16)
seeds = st.integers(0, 2**16)


def made(x, bits, form):
    signed, symmetric = form
    return Q.affine_params(x, bits=bits, signed=signed, symmetric=symmetric)


def normal(seed, *shape):
    """Normal numbers, none of them so close to 0 that scaling would end in float32's subnormals."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x + 1e-3 * x.sign()


# --- the integers that there are, and their parameters -----------------------------------------


@given(st.integers(1, 16))
def test_limits_are_twos_complement(bits):
    held = range(2**bits)
    assert limits(bits, signed=False) == (held[0], held[-1])
    assert limits(bits) == (held[0] - 2**bits // 2, held[-1] - 2**bits // 2)
    if bits > 1:
        assert limits(bits, narrow=True) == (1 - 2**bits // 2, 2**bits // 2 - 1)


def test_the_smallest_integers():
    assert limits(1) == (-1, 0) and limits(1, signed=False) == (0, 1)
    assert limits(2, narrow=True) == (-1, 1)


def test_parameters_have_documented_defaults():
    params = QParams(0.5, 0)
    assert (params.bits, params.signed, params.axis, params.narrow) == (8, True, None, False)
    assert (params.qmin, params.qmax) == (-128, 127)
    found = Q.affine_params([-1.0, 1.0])
    assert (found.bits, found.signed, found.axis, found.narrow) == (8, True, None, False)
    assert found.scale == torch.tensor(2 / 255) and found.zero_point in (-1, 0), "not symmetric"


@pytest.mark.parametrize("number", [0.5, 1, np.float16(0.5), np.float64(0.5), np.int64(1)])
@pytest.mark.parametrize("zero", [3, np.int8(3), np.uint8(3), np.uint16(3), torch.tensor(3)])
def test_parameters_are_made_of_any_number(number, zero):
    params = QParams(number, zero, bits=np.int64(8))
    assert params.scale.dtype == torch.float32 and params.zero_point.dtype == torch.int32
    assert params.scale.shape == params.zero_point.shape == ()
    assert params.scale == float(number) and params.zero_point == 3
    assert type(params.bits) is int
    assert torch.equal(Q.quantize([2.0], params), torch.tensor([3 + round(2 / number)]).int())


def test_parameters_of_channels_are_made_of_lists_and_arrays():
    scales = np.array([0.5, 2.0], dtype=">f8")[::-1]
    params = QParams(scales, [0, 1], axis=np.int64(0))
    assert params.scale.tolist() == [2.0, 0.5] and params.zero_point.tolist() == [0, 1]
    assert Q.quantize([[4.0], [4.0]], params).tolist() == [[2], [9]]


def test_parameters_do_not_change_with_what_they_were_made_of():
    scale, zero_point = torch.tensor(0.5), torch.tensor(3, dtype=torch.int32)
    params = QParams(scale, zero_point)
    scale.fill_(9.0), zero_point.fill_(9)
    assert params.scale == 0.5 and params.zero_point == 3


@pytest.mark.parametrize("axis", [None, 0])
def test_nothing_hangs_on_a_graph(axis):
    weight = torch.nn.Parameter(normal(0, 4, 5))
    params = Q.affine_params(weight, axis=axis)
    copied = copy.deepcopy(params)
    book, index = Q.kmeans_codebook(weight, 2)
    found = [params.scale, params.zero_point, copied.scale, book, index, Q.quantize(weight, params)]
    assert not any(t.requires_grad for t in found)
    assert np.array_equal(copied.scale.numpy(), params.scale.numpy())
    assert isinstance(Q.sqnr_db(weight, weight * 1.1), float)
    learned = QParams(*(t.detach().clone() for t in (params.scale, params.zero_point)), axis=axis)
    assert not QParams(learned.scale.requires_grad_(), params.zero_point, axis=axis).scale.grad_fn


def test_what_inference_mode_found_can_be_trained_with():
    with torch.inference_mode():
        x = normal(0, 50)
        params = Q.affine_params(x)
    copied = copy.deepcopy(params)
    weight = torch.ones(50, requires_grad=True)
    for found in (params, copied):
        (Q.fake_quantize(weight, found) * found.scale * weight).sum().backward()
    assert torch.isfinite(weight.grad).all()
    assert torch.equal(Q.fake_quantize(x, params), Q.fake_quantize(x.clone(), copied))


@pytest.mark.parametrize("scale", [1e-39, 1e-45, TINY * 0.99, float("inf"), float("nan"), 0.0, -1])
def test_a_scale_that_float32_cannot_invert_is_named(scale):
    with pytest.raises(ValueError, match=r"scale -?[\[\]0-9infae.-]+: every scale is finite"):
        QParams(scale, 0)


def test_the_least_scale_works():
    params = QParams(TINY, 0)
    assert Q.quantize([0.0, TINY, -3 * TINY, 1.0], params).tolist() == [0, 1, -3, 127]
    assert Q.fake_quantize([3e38, TINY], params).tolist() == [127 * TINY, TINY]


# --- rounding ----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(tensors, bits, forms)
def test_error_is_at_most_half_a_step(x, bits, form):
    params = made(x, bits, form)
    error = (x.double() - Q.dequantize(Q.quantize(x, params), params).double()).abs()
    slack = 1e-6 * x.abs().double() + 1e-30  # float32 arithmetic on the way
    # the end of an asymmetric range may lie half a step beyond the last level: zero moved it
    half = 0.5 if form[1] else 1.0
    assert (error <= half * params.scale.double() + slack).all()
    inside = (x > x.min()) & (x < x.max())
    level = x.double() / params.scale.double() + params.zero_point
    inside &= (level >= params.qmin) & (level <= params.qmax)
    assert (error <= 0.5 * params.scale.double() + slack)[inside].all()


@settings(max_examples=100, deadline=None)
@given(tensors, bits, forms)
def test_integers_are_in_range_monotone_and_idempotent(x, bits, form):
    params = made(x, bits, form)
    q = Q.quantize(x, params)
    assert q.dtype == torch.int32 and q.min() >= params.qmin and q.max() <= params.qmax
    order = x.argsort()
    assert (q[order].diff() >= 0).all()
    assert torch.equal(Q.quantize(Q.dequantize(q, params), params), q)


@settings(max_examples=100, deadline=None)
@given(tensors, st.integers(1, 16), st.booleans())
def test_zero_is_exact(x, bits, signed):
    params = Q.affine_params(x, bits=bits, signed=signed)
    zero = torch.zeros(1)
    assert Q.dequantize(Q.quantize(zero, params), params).item() == 0


@settings(max_examples=60, deadline=None)
@given(tensors, st.integers(1, 8), st.booleans())
def test_the_range_from_the_least_to_the_largest_with_zero_is_covered(x, bits, signed):
    """By exact arithmetic: the scale is the width over the number of steps between the levels."""
    params = Q.affine_params(x, bits=bits, signed=signed)
    values = [Fraction(v) for v in (*x.tolist(), 0.0)]
    exact = (max(values) - min(values)) / (2**bits - 1)
    assume(exact == 0 or exact >= Fraction(float(TINY)))
    assert params.scale.item() == pytest.approx(float(exact) or 1.0, rel=1e-6)
    zero_point = params.qmin - min(values) / Fraction(params.scale.item())
    nearest = min(max(zero_point, params.qmin), params.qmax)
    assert abs(params.zero_point.item() - nearest) <= Fraction(1, 2)


@settings(max_examples=60, deadline=None)
@given(tensors, st.integers(1, 8))
def test_symmetric_divides_by_the_largest_integer(x, bits):
    largest = float(x.abs().max())
    assume(largest == 0 or largest > 1e-30)
    unsigned = Q.affine_params(x.abs(), bits=bits, symmetric=True, signed=False)
    assert unsigned.scale.item() == pytest.approx(largest / (2**bits - 1) or 1.0, rel=1e-6)
    assert unsigned.zero_point == 0
    if bits > 1:
        params = Q.affine_params(x, bits=bits, symmetric=True)
        assert params.scale.item() == pytest.approx(largest / (2 ** (bits - 1) - 1) or 1, rel=1e-6)
        assert params.zero_point == 0 and (Q.quantize(x, params) >= -params.qmax).all()


@settings(max_examples=60, deadline=None)
@given(matrices.map(torch.from_numpy), bits, forms, st.sampled_from([0, 1, -1]))
def test_per_channel_is_per_tensor_on_each_channel(x, bits, form, axis):
    signed, symmetric = form
    options = dict(bits=bits, signed=signed, symmetric=symmetric)
    params = Q.affine_params(x, axis=axis, **options)
    q = Q.quantize(x, params).movedim(axis, 0)
    for channel, row in enumerate(x.movedim(axis, 0)):
        alone = Q.affine_params(row, **options)
        assert alone.scale == params.scale[channel]
        assert torch.equal(Q.quantize(row, alone), q[channel])


@settings(max_examples=100, deadline=None)
@given(tensors, st.sampled_from([True, False]), st.sampled_from([True, False]))
def test_bit_exact_with_torch(x, signed, symmetric):
    assume(signed or not symmetric)
    params = Q.affine_params(x, signed=signed, symmetric=symmetric)
    scale, zero_point = params.scale.item(), params.zero_point.item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of these functions
        theirs = torch.quantize_per_tensor(
            x, scale, zero_point, torch.qint8 if signed else torch.quint8
        )
    ours = Q.quantize(x, params)
    assert torch.equal(theirs.int_repr().int(), ours)
    assert torch.equal(theirs.dequantize(), Q.dequantize(ours, params))
    faked = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, params.qmin, params.qmax)
    assert torch.equal(faked, Q.fake_quantize(x, params))


def test_per_channel_bit_exact_with_torch():
    x = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    for axis in (0, 1):
        params = Q.affine_params(x, symmetric=True, axis=axis)
        theirs = torch.fake_quantize_per_channel_affine(
            x, params.scale, params.zero_point, axis, -128, 127
        )
        assert torch.equal(theirs, Q.fake_quantize(x, params))


@settings(max_examples=60, deadline=None)
@given(tensors, st.integers(2, 8))
def test_straight_through_gradient_is_torchs(x, bits):
    params = Q.affine_params([-1.0, 3.0], bits=bits)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    weights = torch.arange(1.0, len(x) + 1)
    (weights * Q.fake_quantize(ours, params)).sum().backward()
    faked = torch.fake_quantize_per_tensor_affine(
        theirs, params.scale.item(), params.zero_point.item(), params.qmin, params.qmax
    )
    (weights * faked).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("axis", [None, 0])
def test_what_is_far_outside_is_clipped_at_its_own_end(axis):
    """torch's fake quantization per channel gives -128 for 1e20 steps."""
    x = torch.tensor([[1e20, -1e20, 3e38, -3e38]], requires_grad=True)
    one = torch.ones(()) if axis is None else torch.ones(1)
    params = QParams(one, torch.zeros_like(one).int(), axis=axis)
    y = Q.fake_quantize(x, params)
    assert y.tolist() == Q.quantize(x, params).tolist() == [[127, -128, 127, -128]]
    y.sum().backward()
    assert not x.grad.any()


def test_narrow_integers_stay_narrow():
    params = QParams(0.5, 0, narrow=True)
    x = torch.tensor([-99.0, -63.9, 99.0], requires_grad=True)
    assert Q.quantize(x, params).tolist() == [-127, -127, 127]
    Q.fake_quantize(x, params).sum().backward()
    assert x.grad.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="q leaves -127 to 127"):
        Q.dequantize([-128], params)


@pytest.mark.parametrize("value", [0.0, 3.7, -2.2, 1e-30, 1e-42, 3e38, 5.0, -5.0])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_constant_is_kept(value, symmetric):
    x = torch.full((4,), value)
    params = Q.affine_params(x, symmetric=symmetric)
    error = (Q.dequantize(Q.quantize(x, params), params) - x).abs().max().item()
    assert error <= max(1e-6 * abs(value), TINY / 2)


def test_a_range_without_zero_is_widened_to_zero():
    params = Q.affine_params([-3.0, -1.0])
    assert params.scale == torch.tensor(3 / 255) and params.zero_point == 127
    assert Q.affine_params([1.0, 3.0]).zero_point == -128


@pytest.mark.parametrize("axis", [None, 0])
def test_zeros_get_scale_one(axis):
    params = Q.affine_params(torch.zeros(2, 3), axis=axis, symmetric=True)
    assert (params.scale == 1).all()


def test_a_vector_has_a_scale_for_each_entry():
    x = torch.tensor([0.5, -3.0, 0.0])
    params = Q.affine_params(x, symmetric=True, axis=0)
    torch.testing.assert_close(params.scale, torch.tensor([0.5 / 127, 3 / 127, 1.0]))
    torch.testing.assert_close(Q.fake_quantize(x, params), x)


@settings(max_examples=60, deadline=None)
@given(tensors, st.integers(2, 8), st.booleans())
def test_power_of_two_is_the_smallest_that_clips_nothing(x, bits, signed):
    x = x if signed else x.abs()
    params = Q.power_of_two_params(x, bits=bits, signed=signed)
    least = Q.affine_params(x, bits=bits, symmetric=True, signed=signed).scale
    mantissa, _ = math.frexp(params.scale)
    assert mantissa == 0.5 and params.scale / 2 < least <= params.scale
    assert (params.bits, params.signed, params.qmax) == (bits, signed, limits(bits, signed)[1])


@pytest.mark.parametrize("exponent", [-120, -20, 0, 20, 120])
def test_just_above_a_power_of_two_the_next_one_is_taken(exponent):
    """The logarithm of 2^20 (1 + 2^-23) is 20 in float32."""
    above = math.ldexp(1 + 2**-23, exponent)
    assert Q.power_of_two_params([above], bits=2).scale == math.ldexp(1, exponent + 1)
    assert Q.power_of_two_params([2.0**exponent], bits=2).scale == math.ldexp(1, exponent)


# --- of any size, dtype and layout -------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(-90, 100), st.integers(2, 8), forms, st.sampled_from([None, 0, 1]))
def test_scaling_by_a_power_of_two_changes_no_integer(seed, exponent, bits, form, axis):
    x, factor = normal(seed, 3, 7), 2.0**exponent
    options = dict(bits=bits, signed=form[0], symmetric=form[1], axis=axis)
    one, other = Q.affine_params(x, **options), Q.affine_params(x * factor, **options)
    assert torch.equal(one.scale * factor, other.scale)
    assert torch.equal(one.zero_point, other.zero_point)
    assert torch.equal(Q.quantize(x, one), Q.quantize(x * factor, other))
    assert torch.equal(Q.fake_quantize(x, one) * factor, Q.fake_quantize(x * factor, other))
    powers = [Q.power_of_two_params(v, bits=bits).scale for v in (x, x * factor)]
    assert powers[0] * factor == powers[1]
    (book, index), (other_book, other_index) = (
        Q.kmeans_codebook(v, min(bits, 4)) for v in (x, x * factor)
    )
    assert torch.equal(book * factor, other_book) and torch.equal(index, other_index)
    assert Q.sqnr_db(x, 1.01 * x) == Q.sqnr_db(x * factor, 1.01 * x * factor)


@pytest.mark.parametrize("factor", [1e-35, 1e-30, 1e-10, 1e10, 1e30, 1e35])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_scaling_by_any_number_changes_no_quality(factor, axis):
    x = normal(0, 20, 25)
    for symmetric in (True, False):
        one, other = (Q.affine_params(v, axis=axis, symmetric=symmetric) for v in (x, x * factor))
        torch.testing.assert_close(one.scale * factor, other.scale, rtol=1e-5, atol=0)
        noise = [Q.sqnr_db(v, Q.fake_quantize(v, p)) for v, p in ((x, one), (x * factor, other))]
        assert noise[0] > 30 and noise[0] == pytest.approx(noise[1], abs=0.1)
    books = [Q.kmeans_codebook(v, 3)[0] for v in (x, x * factor)]
    torch.testing.assert_close(books[0] * factor, books[1], rtol=1e-3, atol=1e-3 * factor)


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_beyond_float32_is_an_error_and_no_infinity(bits):
    top = torch.finfo(torch.float32).max
    x = torch.tensor([-top, 0, top])
    for call in (Q.fake_quantize, lambda x, p: Q.dequantize(Q.quantize(x, p), p)):
        try:
            y = call(x, Q.affine_params(x, bits=bits))
        except ValueError as error:
            assert "scale" in str(error)
        else:
            assert torch.isfinite(y).all()


def test_a_level_beyond_float32_is_an_error_that_names_the_scale():
    """3.4e38 is 2.8 steps of 1.2e38; three of them are 3.6e38."""
    params = QParams(1.2e38, 0)
    assert Q.dequantize([2], params) == Q.fake_quantize([2.3e38], params)
    for call in (lambda: Q.dequantize([3], params), lambda: Q.fake_quantize([3.4e38], params)):
        with pytest.raises(ValueError, match=r"scale 1.2e\+38 carries an integer of x beyond"):
            call()


def test_values_near_the_end_of_float32_keep_their_quality():
    x = normal(0, 500) * 1e-36
    assert Q.sqnr_db(x, Q.fake_quantize(x, Q.affine_params(x))) > 40


def test_the_widest_range_does_not_overflow():
    params = Q.affine_params([-3e38, 3e38])
    assert torch.isfinite(params.scale) and params.zero_point in (-1, 0)


DTYPES = (np.float32, np.float64, np.float16, ">f4", ">f8")


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from(DTYPES), st.sampled_from(["flip", "order", "step", "fixed", "list"]))
def test_any_layout_gives_what_a_plain_tensor_gives(seed, dtype, layout):
    x = normal(seed, 4, 6).numpy().astype(dtype)
    if layout == "fixed":
        x.flags.writeable = False
    x = {
        "flip": lambda: x[::-1, ::-1],
        "order": lambda: np.asfortranarray(x),
        "step": lambda: x[::2, 1::3],
        "fixed": lambda: x,
        "list": lambda: x.astype(float).tolist(),
    }[layout]()
    plain = torch.tensor(np.array(x, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        params, expected = Q.affine_params(x, axis=0), Q.affine_params(plain, axis=0)
        assert torch.equal(params.scale, expected.scale)
        q = Q.quantize(x, params)
        assert torch.equal(q, Q.quantize(plain, expected))
        assert torch.equal(Q.fake_quantize(x, params), Q.dequantize(q, params))
        for ours, theirs in zip(Q.kmeans_codebook(x, 2), Q.kmeans_codebook(plain, 2), strict=True):
            assert torch.equal(ours, theirs)
        assert Q.sqnr_db(x, plain) == float("inf")


def test_a_transposed_tensor_is_taken_without_a_warning():
    x = normal(0, 5, 4).T
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(Q.kmeans_codebook(x, 2)[1], Q.kmeans_codebook(x.contiguous(), 2)[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_fake_quantize_keeps_the_dtype_and_the_gradient(dtype):
    x = torch.tensor([0.3, -0.8, 99.0], dtype=dtype, requires_grad=True)
    y = Q.fake_quantize(x, QParams(0.5, 0))
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    assert y.tolist() == [0.5, -1.0, 63.5] and x.grad.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">u2", ">i4", ">u8"]
)
def test_integers_of_any_type_are_taken_back(dtype):
    q = np.array([[0, 100], [7, 127]], dtype)[:, ::-1]
    params = QParams(0.5, 4)
    expected = (torch.tensor([[100, 0], [127, 7]]) - 4) * 0.5
    assert torch.equal(Q.dequantize(q, params), expected)
    assert torch.equal(Q.dequantize(q.tolist(), params), expected)
    if dtype not in ("i1", "u1"):
        with pytest.raises(ValueError, match="q leaves -128 to 127"):
            Q.dequantize(np.array([np.iinfo(dtype).max], dtype), params)


def test_the_widest_unsigned_integers():
    assert Q.dequantize(np.array([65535, 0], np.uint16), QParams(1.0, 0, 16, False)).tolist() == [
        65535.0,
        0.0,
    ]


def test_an_empty_batch_stays_empty():
    for axis, scale in ((None, 1.0), (1, [1.0, 1.0, 1.0])):
        params = QParams(scale, np.zeros_like(scale, dtype=int), axis=axis)
        x = torch.zeros(0, 3, requires_grad=True)
        assert Q.quantize(x, params).shape == Q.dequantize(torch.zeros(0, 3).int(), params).shape
        y = Q.fake_quantize(x, params)
        y.sum().backward()
        assert y.shape == x.grad.shape == (0, 3)


# --- codebooks and noise -----------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(tensors, st.integers(1, 4))
def test_kmeans_cannot_be_improved(x, bits):
    book, index = Q.kmeans_codebook(x, bits)
    assert len(book) == 2**bits and index.shape == x.shape and (book.diff() >= 0).all()
    nearest = (x[:, None] - book).abs()
    slack = 1e-5 * x.abs().max() + 1e-30
    assert (nearest.gather(1, index[:, None].long())[:, 0] <= nearest.min(1).values + slack).all()
    for k in index.unique():
        mean = x[index == k].double().mean().float()
        assert (book[int(k)] - mean).abs() <= slack


def test_kmeans_is_scikit_learns():
    from sklearn.cluster import KMeans

    x = torch.rand(3000, generator=torch.Generator().manual_seed(0)) ** 2  # no center stays empty
    start = np.linspace(float(x.min()), float(x.max()), 16)[:, None]
    theirs = KMeans(16, init=start, n_init=1, tol=0).fit(x.numpy()[:, None])
    book, index = Q.kmeans_codebook(x, 4)
    np.testing.assert_allclose(np.sort(theirs.cluster_centers_[:, 0]), book, atol=1e-5)
    assert (
        np.argsort(np.argsort(theirs.cluster_centers_[:, 0]))[theirs.labels_] == index.numpy()
    ).all()


def test_kmeans_rounds_by_hand():
    """Centers 0, 10/3, 20/3, 10 from 0, 1, 2, 10: the last round moves nothing.

    Round 1: {0, 1} and {2} are nearest to 0 and 10/3; 20/3 is without values and stays.
    Round 2: borders 1.25 and 13/3 leave the groups as they are.
    """
    x = [0.0, 1.0, 2.0, 10.0]
    start, index = Q.kmeans_codebook(x, 2, rounds=0)
    torch.testing.assert_close(start, torch.tensor([0, 10 / 3, 20 / 3, 10]))
    assert index.tolist() == [0, 0, 1, 3]
    for rounds in (1, 2, 300):
        book, index = Q.kmeans_codebook(x, 2, rounds=rounds)
        torch.testing.assert_close(book, torch.tensor([0.5, 2.0, 20 / 3, 10.0]))
        assert index.tolist() == [0, 0, 1, 3] and index.dtype == torch.uint8


def test_kmeans_of_a_border_takes_the_lower_center():
    assert Q.kmeans_codebook([0.0, 1.0, 2.0], 1, rounds=0)[1].tolist() == [0, 0, 1]
    book, index = Q.kmeans_codebook([0.0, 1.0, 2.0], 1)
    assert book.tolist() == [0.5, 2.0] and index.tolist() == [0, 0, 1]


def test_kmeans_at_its_smallest_and_largest():
    book, index = Q.kmeans_codebook([5.0], 1)
    assert book.tolist() == [5, 5] and index.tolist() == [0]
    for bits, dtype in ((8, torch.uint8), (9, torch.int32), (16, torch.int32)):
        book, index = Q.kmeans_codebook(normal(0, 2, 3), bits)
        assert book.shape == (2**bits,) and index.shape == (2, 3) and index.dtype == dtype
    assert torch.allclose(book[index.long()], normal(0, 2, 3))


def test_sqnr():
    assert Q.sqnr_db([3.0, 4.0], [3.0, 4.0]) == float("inf")
    assert Q.sqnr_db([1.0, 1.0], [1.1, 0.9]) == pytest.approx(20, abs=1e-5)
    assert Q.sqnr_db([0.0], [1.0]) == float("-inf")
    assert Q.sqnr_db([1e-30], [1.1e-30]) == pytest.approx(20, abs=1e-4)
    assert Q.sqnr_db([1e38], [1.1e38]) == pytest.approx(20, abs=1e-4)


# --- what is refused ---------------------------------------------------------------------------

GOOD = Q.affine_params([-1.0, 1.0])
ROWS = Q.affine_params(torch.ones(2, 2), axis=0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Q.affine_params([1.0], bits=0), ValueError, "bits is 0: .* 1 to 16"),
        (lambda: Q.affine_params([1.0], bits=17), ValueError, "bits is 17: .* 1 to 16"),
        (lambda: Q.affine_params([1.0], bits=8.0), TypeError, "whole number"),
        (lambda: Q.affine_params([1.0], bits=True), TypeError, "whole number"),
        (lambda: QParams(1.0, 0, bits=17), ValueError, "bits is 17: .* 1 to 16"),
        (lambda: QParams(1.0, 0, bits="8"), TypeError, "whole number"),
        (lambda: limits(0), ValueError, "bits is 0"),
        (lambda: limits(8, signed=False, narrow=True), ValueError, "signed integers of 2 bits"),
        (lambda: limits(1, narrow=True), ValueError, "signed integers of 2 bits"),
        (lambda: Q.affine_params(torch.empty(0)), ValueError, r"x is empty, of shape \(0,\)"),
        (lambda: Q.affine_params(torch.empty(3, 0), axis=0), ValueError, "empty"),
        (lambda: Q.affine_params([float("nan")]), ValueError, "x holds NaN or"),
        (lambda: Q.quantize([float("inf")], GOOD), ValueError, "infinity"),
        (lambda: Q.fake_quantize(torch.tensor([np.nan]), GOOD), ValueError, "x holds NaN"),
        (lambda: Q.quantize(np.array([1e300]), GOOD), ValueError, "infinity"),
        (lambda: Q.affine_params([1, 2]), TypeError, "pass real numbers"),
        (lambda: Q.affine_params(np.array([1j])), TypeError, "pass real numbers"),
        (lambda: Q.quantize(np.array([1, 2]), GOOD), TypeError, "pass real numbers"),
        (lambda: Q.fake_quantize(torch.tensor([1]), GOOD), TypeError, "pass real numbers"),
        (lambda: Q.affine_params(torch.ones(2, 2), axis=2), ValueError, "axis is 2: .* -2 to 1"),
        (lambda: Q.affine_params(torch.ones(2, 2), axis=-3), ValueError, "axis is -3"),
        (lambda: Q.affine_params(torch.ones(2, 2), axis=0.5), TypeError, "axis is 0.5"),
        (lambda: Q.affine_params([1.0], bits=1, symmetric=True), ValueError, "levels -1 and 0"),
        (
            lambda: Q.affine_params([-1.0], symmetric=True, signed=False),
            ValueError,
            "no room for negative",
        ),
        (lambda: QParams(0.0, 0), ValueError, "above 0"),
        (lambda: QParams([1.0, -1.0], [0, 0], axis=0), ValueError, r"scale \[1.0, -1.0\]"),
        (lambda: QParams(1.0, 0.5), TypeError, "zero_point is a float"),
        (lambda: QParams(1.0, 128), ValueError, "zero_point outside -128 to 127: zero would be"),
        (lambda: QParams(1.0, -129), ValueError, "zero would be clipped"),
        (lambda: QParams(1.0, 2**32), ValueError, "zero would be clipped"),
        (lambda: QParams(1.0, -128, narrow=True), ValueError, "outside -127 to 127"),
        (lambda: QParams([1.0, 1.0], [0, 0]), ValueError, "with an axis both"),
        (lambda: QParams([1.0, 1.0], [0], axis=0), ValueError, "with an axis both"),
        (lambda: QParams(1.0, 0, axis=0), ValueError, "with an axis both"),
        (lambda: Q.quantize(torch.ones(3, 2), ROWS), ValueError, "x has 3 channels along axis 0"),
        (lambda: Q.fake_quantize(torch.ones(3, 2), ROWS), ValueError, "there are 2 scales"),
        (lambda: Q.dequantize(torch.ones(3, 2).int(), ROWS), ValueError, "there are 2 scales"),
        (lambda: Q.dequantize(torch.ones(2), GOOD), TypeError, "integers that quantize gave"),
        (lambda: Q.dequantize(torch.tensor([True]), GOOD), TypeError, "integers that quantize"),
        (lambda: Q.dequantize(torch.tensor([128]), GOOD), ValueError, "q leaves -128 to 127"),
        (lambda: Q.dequantize(torch.tensor([-129]), GOOD), ValueError, "what 8 bits hold"),
        (lambda: Q.kmeans_codebook([1.0], 0), ValueError, "1 to 16"),
        (lambda: Q.kmeans_codebook([1.0], 17), ValueError, "1 to 16"),
        (lambda: Q.kmeans_codebook([1.0], 2, rounds=-1), ValueError, "rounds is -1"),
        (lambda: Q.kmeans_codebook([np.nan], 2), ValueError, "NaN"),
        (lambda: Q.kmeans_codebook([], 2), ValueError, "empty"),
        (lambda: Q.sqnr_db([1.0], [1.0, 2.0]), ValueError, "differ in shape"),
        (lambda: Q.sqnr_db([1.0], [np.nan]), ValueError, "x_hat holds NaN"),
        (lambda: Q.sqnr_db([], []), ValueError, "x is empty"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_the_shared_parts_stand_alone():
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(qparams.channels(x, None), x.reshape(1, 24))
    for axis in (0, 1, 2, -1, -3):
        rows = qparams.channels(x, axis)
        assert torch.equal(rows[-1], x.select(axis, x.shape[axis] - 1).flatten())
        values = torch.arange(x.shape[axis])
        spread = qparams.along(values, x, axis) + 0 * x
        assert torch.equal(spread.movedim(axis, -1)[..., -1], 0 * x.select(axis, 0) + values[-1])
    assert qparams.along(torch.ones(1), torch.tensor(3.0), None).shape == ()
