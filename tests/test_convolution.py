"""helpers.convolution against torch, and what it says of arguments that do not fit."""

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from helpers import convolution
from helpers.convolution import conv2d, max_pool2d, pad, windows

FEW = settings(max_examples=40, deadline=None)


def test_examples():
    assert doctest.testmod(convolution).failed == 0


def either(least, most):
    """An int or a pair of ints in [least, most], as arguments may be given."""
    one = st.integers(least, most)
    return one | st.tuples(one, one)


def both(value):
    return value if isinstance(value, tuple) else (value, value)


@st.composite
def convolutions(draw):
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
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    x = rng.standard_normal((draw(st.integers(1, 3)), c_in, *size)).astype(dtype)
    w = rng.standard_normal((c_out, c_in // groups, *kernel)).astype(dtype)
    b = rng.standard_normal(c_out).astype(dtype) if draw(st.booleans()) else None
    return x, w, b, options


def tensor(a):
    return None if a is None else torch.from_numpy(a)


@FEW
@given(convolutions())
def test_conv2d_equals_torch(case):
    x, w, b, options = case
    library = F.conv2d(tensor(x), tensor(w), tensor(b), **options).numpy()
    before = x.copy()
    y = conv2d(x, w, b, **options)
    assert y.dtype == x.dtype and y.shape == library.shape
    assert np.allclose(y, library, rtol=0, atol=2e-5 if x.dtype == np.float32 else 1e-12)
    assert np.array_equal(x, before), "the input must stay as it is"


def test_views_and_empty_batches():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 2, 1)
    w = rng.standard_normal((3, 4, 3, 3)).transpose(1, 0, 3, 2)[..., ::-1]
    assert np.allclose(conv2d(x, w), F.conv2d(tensor(x.copy()), tensor(w.copy())))
    assert conv2d(x[:0], w).shape == (0, 4, 6, 7)


@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)])
def test_sums_of_bytes_do_not_wrap(dtypes):
    """Nine products of the largest values: 585,225 for two bytes without a sign."""
    x, w = (np.full((1, 1, 3, 3), np.iinfo(dtype).max, dtype) for dtype in dtypes)
    assert conv2d(x, w).item() == 9 * int(x[0, 0, 0, 0]) * int(w[0, 0, 0, 0])
    assert conv2d(x, w, np.array([1])).dtype == np.int64


@FEW
@given(either(1, 4), st.none() | either(1, 4), *(st.integers(0, 6),) * 2, st.integers(0, 2**32))
def test_max_pool_equals_torch(size, stride, more_h, more_w, seed):
    shape = [k + more for k, more in zip(both(size), (more_h, more_w), strict=True)]
    x = np.random.default_rng(seed).standard_normal((2, 3, *shape))
    assert np.array_equal(max_pool2d(x, size, stride), F.max_pool2d(tensor(x), size, stride))


def test_windows_write_into_the_image():
    x = np.zeros((1, 1, 4, 4))
    windows(x, 2, 2, writeable=True)[..., 1, 1] = 1
    assert x.sum() == 4 and (x[0, 0, 2:, 2:] == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        windows(x, 2)[:] = 1


def test_pad():
    x = pad(np.ones((1, 1, 2, 2)), (1, 2))
    assert x.shape == (1, 1, 4, 6) and x.sum() == 4


X, W = np.zeros((2, 4, 6, 6)), np.zeros((6, 4, 3, 3))
LARGE = np.zeros((6, 4, 7, 3))


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (X[0], W, {}, r"x \(4, 6, 6\).*pass \[N, C, H, W\]"),
        (X, W[0], {}, r"w \(4, 3, 3\).*pass \[N, C, H, W\]"),
        (X, np.zeros((6, 3, 3, 3)), {}, r"reads 3 channels, x .* 4 .*pass w \[out, 4, kh, kw\]"),
        (X, W, {"groups": 2}, r"reads 4 channels, x .* 4 in 2 group.*pass w \[out, 2, kh, kw\]"),
        (X, W, {"groups": 3}, "groups=3: pass an int that divides x's 4 and w's 6 maps"),
        (X, np.zeros((6, 1, 3, 3)), {"groups": 4}, "groups=4: pass an int that divides .* 6 maps"),
        (X, W, {"groups": 0}, "groups=0: pass an int"),
        (X, W, {"groups": 1.0}, "groups=1.0: pass an int"),
        (X, W, {"stride": 0}, "stride is 0: pass .* 1 or more"),
        (X, W, {"stride": (1, -2)}, r"stride is \(1, -2\)"),
        (X, W, {"stride": 1.5}, "stride is 1.5"),
        (X, W, {"stride": (1, 1, 1)}, "a pair of ints"),
        (X, W, {"dilation": 0}, "dilation is 0: pass .* 1 or more"),
        (X, W, {"padding": -1}, "padding is -1: pass .* 0 or more"),
        (X, W, {"padding": "same"}, "padding is 'same': pass an int or a pair"),
        (X, LARGE, {}, "reaches over 7 x 3 pixels, .* has 6 x 6: pass a larger image"),
        (X, W, {"dilation": 4, "padding": 1}, "reaches over 9 x 9 pixels, .* has 8 x 8"),
        (X, W, {"b": np.zeros(4)}, r"b has shape \(4,\): pass one bias for each output, \(6,\)"),
    ],
)
def test_bad_convolutions(x, w, options, message):
    with pytest.raises(ValueError, match=message):
        conv2d(x, w, **options)


@pytest.mark.parametrize(
    ("x", "size", "stride", "message"),
    [
        (X[0], 2, None, r"x has shape \(4, 6, 6\): pass \[N, C, H, W\]"),
        (X, 7, None, "reaches over 7 x 7 pixels"),
        (X, 0, None, "size is 0: pass .* 1 or more"),
        (X, 2.0, None, "size is 2.0"),
        (X, 2, 0, "stride is 0: pass .* 1 or more"),
    ],
)
def test_bad_pools(x, size, stride, message):
    with pytest.raises(ValueError, match=message):
        max_pool2d(x, size, stride)
