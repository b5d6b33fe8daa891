"""helpers/quantize.py against torch and scikit-learn, and by its properties over random tensors."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers import quantize as Q

reals = st.floats(-1e6, 1e6, width=32)


tensors = arrays.arrays(np.float32, st.integers(1, 40), elements=reals).map(torch.from_numpy)


matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=reals
)


forms = st.sampled_from([(True, False), (True, True), (False, False)])  # signed, symmetric


bits = st.integers(2, 16)


def made(x, bits, form):
    signed, symmetric = form
    return Q.affine_params(x, bits=bits, signed=signed, symmetric=symmetric)


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
    Q.fake_quantize(ours, params).sum().backward()
    torch.fake_quantize_per_tensor_affine(
        theirs, params.scale.item(), params.zero_point.item(), params.qmin, params.qmax
    ).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("value", [0.0, 3.7, -2.2, 1e-30, 1e-42, 3e38])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_constant_is_kept(value, symmetric):
    x = torch.full((4,), value)
    params = Q.affine_params(x, symmetric=symmetric)
    error = (Q.dequantize(Q.quantize(x, params), params) - x).abs().max().item()
    assert error <= max(1e-6 * abs(value), Q.TINY / 2)


def test_the_widest_range_does_not_overflow():
    params = Q.affine_params([-3e38, 3e38])
    assert torch.isfinite(params.scale) and params.zero_point in (-1, 0)


@settings(max_examples=60, deadline=None)
@given(tensors, st.integers(2, 8))
def test_power_of_two(x, bits):
    params = Q.power_of_two_params(x, bits=bits)
    assert torch.log2(params.scale) == torch.log2(params.scale).round()
    largest = x.abs().max() / params.qmax
    if largest > 1e-30:
        assert largest <= params.scale * (1 + 1e-6) and params.scale < 2.0001 * largest


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


def test_sqnr():
    assert Q.sqnr_db([3.0, 4.0], [3.0, 4.0]) == float("inf")
    assert Q.sqnr_db([1.0, 1.0], [1.1, 0.9]) == pytest.approx(20, abs=1e-5)
    assert Q.sqnr_db([0.0], [1.0]) == float("-inf")


GOOD = Q.affine_params([-1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: Q.affine_params([1.0], bits=0), ValueError, "choose 1 to 16"),
        (lambda: Q.affine_params([1.0], bits=17), ValueError, "choose 1 to 16"),
        (lambda: Q.affine_params([1.0], bits=8.0), TypeError, "whole number"),
        (lambda: Q.affine_params([1.0], bits=True), TypeError, "whole number"),
        (lambda: Q.affine_params(torch.empty(0)), ValueError, "empty"),
        (lambda: Q.affine_params([float("nan")]), ValueError, "NaN or"),
        (lambda: Q.quantize([float("inf")], GOOD), ValueError, "infinity"),
        (lambda: Q.quantize(np.array([1e300]), GOOD), ValueError, "infinity"),
        (lambda: Q.affine_params([1, 2]), TypeError, "pass real numbers"),
        (lambda: Q.quantize(np.array([1, 2]), GOOD), TypeError, "pass real numbers"),
        (lambda: Q.affine_params(torch.ones(2, 2), axis=2), ValueError, "axis 2"),
        (lambda: Q.affine_params(torch.ones(2, 2), axis=-3), ValueError, "axis -3"),
        (lambda: Q.affine_params([1.0], bits=1, symmetric=True), ValueError, "levels -1 and 0"),
        (
            lambda: Q.affine_params([-1.0], symmetric=True, signed=False),
            ValueError,
            "no room for negative",
        ),
        (lambda: Q.QParams(0.0, 0), ValueError, "above 0"),
        (lambda: Q.QParams(-1.0, 0), ValueError, "above 0"),
        (lambda: Q.QParams(1.0, 0.5), TypeError, "zero_point is a float"),
        (lambda: Q.QParams(1.0, 200), ValueError, "zero would be clipped"),
        (lambda: Q.QParams([1.0, 1.0], [0, 0]), ValueError, "with an axis both"),
        (
            lambda: Q.quantize(torch.ones(3, 2), Q.affine_params(torch.ones(2, 2), axis=0)),
            ValueError,
            "there are 2 scales",
        ),
        (lambda: Q.dequantize(torch.ones(2), GOOD), TypeError, "integers that quantize gave"),
        (lambda: Q.dequantize(torch.tensor([128]), GOOD), ValueError, "q leaves -128 to 127"),
        (lambda: Q.kmeans_codebook([1.0], 0), ValueError, "choose 1 to 16"),
        (lambda: Q.sqnr_db([1.0], [1.0, 2.0]), ValueError, "differ in shape"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_vector_has_a_scale_for_each_entry():
    x = torch.tensor([0.5, -3.0, 0.0])
    params = Q.affine_params(x, symmetric=True, axis=0)
    torch.testing.assert_close(params.scale, torch.tensor([0.5 / 127, 3 / 127, 1.0]))
    torch.testing.assert_close(Q.fake_quantize(x, params), x)
