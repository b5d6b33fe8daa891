"""The functions of lesson 12, as the reader sees them, against torch, SciPy and brute force."""

import numpy as np
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
FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)


@st.composite
def convolutions(draw, dtypes=(np.float32, np.float64)):
    """(x, w, b, options) of a convolution that torch accepts."""
    groups = draw(st.integers(1, 3))
    c_in, c_out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    options = {
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.integers(0, 2)),
        "dilation": draw(st.integers(1, 3)),
        "groups": groups,
    }
    reach = [options["dilation"] * (k - 1) + 1 for k in kernel]
    size = [max(1, r - 2 * options["padding"]) + draw(st.integers(0, 5)) for r in reach]
    rng, dtype = np.random.default_rng(draw(seeds)), draw(st.sampled_from(dtypes))
    x = rng.standard_normal((draw(st.integers(1, 3)), c_in, *size)).astype(dtype)
    w = rng.standard_normal((c_out, c_in // groups, *kernel)).astype(dtype)
    return x, w, rng.standard_normal(c_out).astype(dtype), options


@FEW
@given(convolutions())
def test_convolutions_equal_torch(case):
    x, w, b, options = case
    library = F.conv2d(*(torch.from_numpy(a) for a in (x, w, b)), **options).numpy()
    before = x.copy()
    for conv in CONVOLUTIONS:
        y = conv(x, w, b, **options)
        assert y.dtype == x.dtype and y.shape == library.shape
        assert np.allclose(y, library, rtol=0, atol=2e-5 if x.dtype == np.float32 else 1e-12)
        assert np.allclose(conv(x, w, **options), y - b[:, None, None], atol=2e-5)
    assert np.array_equal(x, before), "the input must stay as it is"


@FEW
@given(st.integers(1, 40), st.integers(1, 7), *(st.integers(1, 5),) * 2, st.integers(0, 4))
def test_output_size_equals_torch(H, kernel, stride, dilation, padding):
    assume(dilation * (kernel - 1) + 1 <= H + 2 * padding)
    options = dict(stride=stride, padding=padding, dilation=dilation)
    library = F.conv1d(torch.zeros(1, 1, H), torch.zeros(1, 1, kernel), **options)
    assert LESSON.output_size(H, kernel, **options) == library.shape[-1]


@FEW
@given(seeds, *(st.integers(1, 4),) * 2, *(st.integers(0, 5),) * 2)
def test_double_sum_is_a_correlation_and_a_flipped_convolution(seed, kh, kw, more_h, more_w):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-99, 100, (kh + more_h, kw + more_w)), rng.integers(-99, 100, (kh, kw))
    y = LESSON.cross_correlate(x, w)
    assert np.array_equal(y, correlate2d(x, w, "valid"))
    assert np.array_equal(y, convolve2d(x, w[::-1, ::-1], "valid"))


@FEW
@given(seeds, st.integers(1, 8), st.integers(1, 8), st.integers(1, 9))
def test_moved_pads_with_zeros(seed, height, width, pixels):
    x = np.random.default_rng(seed).integers(1, 9, (2, height, width))
    y = LESSON.moved(x, pixels)
    assert y.shape == x.shape
    assert not y[..., :pixels].any()
    assert np.array_equal(y[..., pixels:], x[..., : max(width - pixels, 0)])


@FEW
@given(seeds)
def test_a_dense_layer_does_not_know_the_order_of_its_inputs(seed):
    rng = np.random.default_rng(seed)
    x, labels, order = rng.random((20, 6)), rng.integers(0, 10, 20), rng.permutation(6)
    straight = LESSON.train_dense(x, labels, steps=5)
    assert np.allclose(straight[:, order], LESSON.train_dense(x[:, order], labels, steps=5))


@FEW
@given(seeds)
def test_a_step_of_the_dense_layer_is_torchs(seed):
    rng = np.random.default_rng(seed)
    x, labels = rng.random((8, 5)), rng.integers(0, 10, 8)
    weights = torch.zeros(10, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(torch.from_numpy(x) @ weights.T, torch.from_numpy(labels)).backward()
        optimizer.step()
    ours = LESSON.train_dense(x, labels, steps=3, rate=0.3)
    assert np.allclose(ours, weights.detach().numpy(), atol=1e-12)


@FEW
@given(seeds, st.integers(1, 4), st.integers(0, 6), st.integers(0, 6))
def test_pools_equal_torch(seed, size, more_h, more_w):
    x = np.random.default_rng(seed).standard_normal((2, 3, size + more_h, size + more_w))
    library = torch.from_numpy(x)
    assert np.array_equal(LESSON.max_pool2d(x, size), F.max_pool2d(library, size))
    assert np.allclose(LESSON.avg_pool2d(x, size), F.avg_pool2d(library, size), atol=1e-12)


@FEW
@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_orders_of_im2col_compute_the_same(seed, N, C):
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((N, C, 4, 5)), rng.standard_normal((2, C, 3, 3))
    library = F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1).numpy()
    assert np.allclose(LESSON.one_row_a_window(x, w), library)
    assert np.allclose(LESSON.one_column_a_window(x, w), library)


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


# --- the solutions ------------------------------------------------------------------------------

SOLUTION = definitions("solutions/12_cnn_math")


@FEW
@given(*(st.integers(1, n) for n in (40, 20, 7, 5, 3)))
def test_least_zeros_is_the_least(H, H_out, kernel, stride, dilation):
    """Brute force: the first number of zeros with room for H_out windows."""
    reach = dilation * (kernel - 1) + 1
    zeros = next(z for z in range(500) if (H + z - reach) // stride + 1 >= H_out)
    assert SOLUTION.least_zeros(H, H_out, kernel, stride, dilation) == zeros


@FEW
@given(st.lists(st.tuples(*(st.integers(a, b) for a, b in ((1, 4), (1, 3), (0, 2)))), max_size=3))
def test_seen_is_what_the_gradient_reaches(layers):
    """In an image so wide that no padding is seen from the middle."""
    x = torch.zeros(1, 1, 400, requires_grad=True)
    y = x
    for kernel, stride, padding in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride, padding=padding)
    place = y.shape[-1] // 2
    (gradient,) = torch.autograd.grad(y[0, 0, place], x)
    reached = gradient.nonzero()[:, -1]
    assert SOLUTION.seen(place, layers) == (int(reached.min()), int(reached.max()))
