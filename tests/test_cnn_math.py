"""The functions of lesson 12, as the reader sees them, against torch and SciPy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.signal import convolve2d, correlate2d
from torch import nn
from torch.nn import functional as F

from helpers import costs

LESSON = definitions("12_cnn_math")
CONVOLUTIONS = (LESSON.conv2d_loops, LESSON.conv2d_im2col)
POOLS = (LESSON.max_pool2d, LESSON.avg_pool2d)
FEW = settings(max_examples=40, deadline=None)


def either(least, most):
    """An int or a pair of ints in [least, most], as arguments may be given."""
    one = st.integers(least, most)
    return one | st.tuples(one, one)


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def convolutions(draw, dtypes=(np.float32, np.float64)):
    """(x, w, b or None, options) of a convolution that torch accepts."""
    groups = draw(st.integers(1, 3))
    c_in, c_out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    options = {
        "stride": draw(either(1, 3)),
        "padding": draw(either(0, 2)),
        "dilation": draw(either(1, 3)),
        "groups": groups,
    }
    reach = [d * (k - 1) + 1 for d, k in zip(both(options["dilation"]), kernel, strict=True)]
    least = [max(1, r - 2 * p) for r, p in zip(reach, both(options["padding"]), strict=True)]
    size = [n + draw(st.integers(0, 5)) for n in least]
    rng, dtype = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from(dtypes))
    x = rng.standard_normal((draw(st.integers(1, 3)), c_in, *size)).astype(dtype)
    w = rng.standard_normal((c_out, c_in // groups, *kernel)).astype(dtype)
    b = rng.standard_normal(c_out).astype(dtype) if draw(st.booleans()) else None
    return x, w, b, options


def tensor(a):
    return None if a is None else torch.from_numpy(a)


@FEW
@given(convolutions())
def test_convolutions_equal_torch(case):
    x, w, b, options = case
    library = F.conv2d(tensor(x), tensor(w), tensor(b), **options).numpy()
    before = x.copy()
    for conv in CONVOLUTIONS:
        y = conv(x, w, b, **options)
        assert y.dtype == x.dtype and y.shape == library.shape
        assert np.allclose(y, library, rtol=0, atol=2e-5 if x.dtype == np.float32 else 1e-12)
    assert np.array_equal(x, before), "the input must stay as it is"


@FEW
@given(convolutions(), st.sampled_from([1, 3, 5]), st.sampled_from([1, 3]))
def test_same_padding_equals_torch(case, height, width):
    x, w, b, options = case
    w = np.resize(w, (*w.shape[:2], height, width))
    options = {**options, "stride": 1, "padding": "same"}
    for conv in CONVOLUTIONS:
        y = conv(x, w, b, **options)
        assert y.shape[2:] == x.shape[2:]
        library = F.conv2d(tensor(x), tensor(w), tensor(b), **options).numpy()
        assert np.allclose(y, library, atol=5e-5)


@pytest.mark.parametrize("conv", CONVOLUTIONS)
def test_views_and_empty_batches(conv):
    rng = np.random.default_rng(0)
    x, w = (
        rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 2, 1),
        rng.standard_normal((3, 4, 3, 3)),
    )
    w = w.transpose(1, 0, 3, 2)[..., ::-1]
    assert np.allclose(conv(x, w), F.conv2d(tensor(x.copy()), tensor(w.copy())))
    assert conv(x[:0], w).shape == (0, 4, 6, 7)


@FEW
@given(st.integers(1, 40), st.integers(1, 7), *(st.integers(1, 5),) * 2, st.integers(0, 4))
def test_output_size_equals_torch(n, kernel, stride, dilation, padding):
    options = dict(stride=stride, padding=padding, dilation=dilation)
    if dilation * (kernel - 1) + 1 > n + 2 * padding:
        with pytest.raises(ValueError, match="the kernel reaches over .* padded image has"):
            LESSON.output_size(n, kernel, stride, padding, dilation)
        return
    library = F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, kernel), **options)
    assert LESSON.output_size(n, kernel, stride, padding, dilation) == library.shape[-1]


@FEW
@given(st.integers(0, 2**32), *(st.integers(1, 4),) * 2, *(st.integers(0, 5),) * 2)
def test_double_sum_is_a_correlation_and_a_flipped_convolution(seed, kh, kw, more_h, more_w):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-99, 100, (kh + more_h, kw + more_w)), rng.integers(-99, 100, (kh, kw))
    y = LESSON.cross_correlate(x, w)
    assert np.array_equal(y, correlate2d(x, w, "valid"))
    assert np.array_equal(y, convolve2d(x, w[::-1, ::-1], "valid"))
    assert np.array_equal(y, LESSON.conv2d_im2col(x[None, None], w[None, None])[0, 0])


@st.composite
def poolings(draw):
    """(x float64 with ties, size, stride or None)."""
    size, stride = draw(either(1, 4)), draw(st.none() | either(1, 4))
    shape = [k + draw(st.integers(0, 6)) for k in both(size)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.standard_normal((draw(st.integers(1, 2)), draw(st.integers(1, 3)), *shape))
    return np.round(x) if draw(st.booleans()) else x, size, stride


@FEW
@given(poolings(), st.sampled_from([np.float32, np.float64]))
def test_pools_equal_torch(case, dtype):
    x, size, stride = case
    x = x.astype(dtype)
    largest, mean = LESSON.max_pool2d(x, size, stride), LESSON.avg_pool2d(x, size, stride)
    assert largest.dtype == mean.dtype == dtype
    assert np.array_equal(largest, F.max_pool2d(tensor(x), size, stride))
    assert np.allclose(mean, F.avg_pool2d(tensor(x), size, stride), atol=1e-6)


@FEW
@given(convolutions(dtypes=(np.float64,)))
def test_backward_of_convolution_equals_autograd(case):
    x, w, _, options = case
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, np.zeros(len(w)))]
    y = F.conv2d(*leaves, **options)
    g = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    y.backward(g)
    for ours, leaf in zip(LESSON.conv2d_backward(g.numpy(), x, w, **options), leaves, strict=True):
        assert np.allclose(ours, leaf.grad, rtol=0, atol=1e-11)


@FEW
@given(poolings())
def test_backward_of_pools_equals_autograd(case):
    x, size, stride = case
    for library, backward in (
        (F.max_pool2d, LESSON.max_pool2d_backward),
        (F.avg_pool2d, LESSON.avg_pool2d_backward),
    ):
        leaf = torch.tensor(x, requires_grad=True)
        y = library(leaf, size, stride)
        g = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
        y.backward(g)
        assert np.allclose(backward(g.numpy(), x, size, stride), leaf.grad, rtol=0, atol=1e-12)


@FEW
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 3))
def test_keras_padding_is_the_least_that_keeps_its_promise(n, kernel, stride, dilation):
    before, after = LESSON.keras_padding(n, kernel, stride, dilation)
    assert after - before in (0, 1)
    wanted, reach = -(-n // stride), dilation * (kernel - 1) + 1
    enough = [z for z in range(100) if n + z >= reach and (n + z - reach) // stride + 1 == wanted]
    # A stride longer than the kernel leaves pixels unread: then no zeros at all are needed.
    assert before + after == (enough[0] if enough else 0)


@FEW
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5))
def test_receptive_field_is_what_the_gradient_reaches(layers):
    widths = LESSON.receptive_field(layers)
    assume(widths[-1] <= 400)
    x = torch.zeros(1, 1, 400, requires_grad=True)
    y = x
    for (kernel, stride), width in zip(layers, widths, strict=True):
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
        (gradient,) = torch.autograd.grad(y[0, 0, 0], x, retain_graph=True)
        reached = gradient.nonzero()[:, -1]
        assert int(reached.max() - reached.min()) + 1 == width


@settings(max_examples=15, deadline=None)
@given(*(st.integers(1, 4),) * 3, st.sampled_from([1, 3, 5]), st.integers(5, 9), st.booleans())
def test_conv_cost_equals_the_helper(groups, c_in, c_out, kernel, size, bias):
    layer = nn.Conv2d(groups * c_in, groups * c_out, kernel, groups=groups, bias=bias)
    out = size - kernel + 1
    ours = LESSON.conv_cost(groups * c_in, groups * c_out, kernel, out, out, groups, bias)
    helper = costs.cost(layer, (groups * c_in, size, size))
    assert ours == (helper.params, helper.macs)


# --- bad input ---------------------------------------------------------------------------------

X, W = np.zeros((2, 4, 6, 6)), np.zeros((6, 4, 3, 3))
EVEN, LARGE = np.zeros((6, 4, 2, 3)), np.zeros((6, 4, 7, 3))
BAD_CONVOLUTIONS = [
    (X[0], W, {}, r"x \(4, 6, 6\).*pass \[N, C, H, W\]"),
    (X, W[0], {}, r"w \(4, 3, 3\).*pass \[N, C, H, W\]"),
    (X, np.zeros((6, 3, 3, 3)), {}, r"reads 3 channels, x .* has 4 .*pass w \[out, 4, kh, kw\]"),
    (X, W, {"groups": 2}, r"reads 4 channels, x .* has 4 in 2 group.*pass w \[out, 2, kh, kw\]"),
    (X, W, {"groups": 3}, "groups=3: pass an int that divides x's 4 and w's 6 maps"),
    (X, np.zeros((6, 1, 3, 3)), {"groups": 4}, "groups=4: pass an int that divides .* w's 6 maps"),
    (X, W, {"groups": 0}, "groups=0: pass an int"),
    (X, W, {"groups": 1.0}, "groups=1.0: pass an int"),
    (X, W, {"groups": (1, 1)}, r"groups=\(1, 1\): pass an int"),
    (X, W, {"stride": 0}, "stride is 0: pass .* 1 or more"),
    (X, W, {"stride": (1, -2)}, r"stride is \(1, -2\)"),
    (X, W, {"stride": 1.5}, "stride is 1.5"),
    (X, W, {"stride": (1, 1, 1)}, "a pair of ints"),
    (X, W, {"dilation": 0}, "dilation is 0: pass .* 1 or more"),
    (X, W, {"padding": -1}, "padding is -1: pass .* 0 or more"),
    (X, W, {"padding": "full"}, "padding is 'full': pass an int, a pair of ints or \"same\""),
    (X, W, {"padding": "same", "stride": 2}, "the size only stays at stride 1"),
    (X, EVEN, {"padding": "same"}, r'padding="same" with kernel \(2, 3\): an even kernel'),
    (X, LARGE, {}, "reaches over 7 pixels, the padded image has 6: pass a larger image"),
    (X, W, {"dilation": 4, "padding": 1}, "reaches over 9 pixels, the padded image has 8"),
    (X, W, {"b": np.zeros(4)}, r"b has shape \(4,\): pass one bias for each output, \(6,\)"),
]


@pytest.mark.parametrize(
    ("conv", "case"),
    list(itertools.product(CONVOLUTIONS, BAD_CONVOLUTIONS)),
    ids=lambda v: str(v)[:12],
)
def test_bad_convolutions(conv, case):
    x, w, options, message = case
    with pytest.raises(ValueError, match=message):
        conv(x, w, **options)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("x", "size", "stride", "message"),
    [
        (X[0], 2, None, r"x has shape \(4, 6, 6\): pass \[N, C, H, W\]"),
        (X, 7, None, "reaches over 7 pixels, the padded image has 6"),
        (X, (2, 7), 1, "reaches over 7 pixels"),
        (X, 0, None, "size is 0: pass .* 1 or more"),
        (X, 2.0, None, "size is 2.0"),
        (X, 2, 0, "stride is 0: pass .* 1 or more"),
        (X, 2, (1, 1, 1), "a pair of ints"),
    ],
)
def test_bad_pools(pool, x, size, stride, message):
    with pytest.raises(ValueError, match=message):
        pool(x, size, stride)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 1, 1, 0, 1), "n is 0"),
        ((5, 0, 1, 0, 1), "kernel is 0"),
        ((5, 3, 0, 0, 1), "stride is 0"),
        ((5, 3, 1, -1, 1), "padding is -1"),
        ((5, 3, 1, 0, 0), "dilation is 0"),
        ((5, 3, 1.5, 0, 1), "stride is 1.5"),
        ((5, 3, 1, "same", 1), "padding is 'same'"),
    ],
)
def test_bad_output_sizes(arguments, name):
    with pytest.raises(ValueError, match=f"{name}: pass an int, [01] or more"):
        LESSON.output_size(*arguments)


def test_backward_needs_the_output_shape():
    with pytest.raises(ValueError, match=r"g has shape .* pass that of the output, \(2, 6, 4, 4\)"):
        LESSON.conv2d_backward(np.zeros((2, 6, 6, 6)), X, W)


@pytest.mark.parametrize("convolve", CONVOLUTIONS)
@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
def test_sums_of_bytes_do_not_wrap(convolve, dtypes):
    """Nine products of the largest values: 585,225 for two bytes without a sign."""
    x, w = (np.full((1, 1, 3, 3), np.iinfo(dtype).max, dtype) for dtype in dtypes)
    assert convolve(x, w).item() == 9 * int(x[0, 0, 0, 0]) * int(w[0, 0, 0, 0])
    assert convolve(x, w, np.array([1])).dtype == np.int64
