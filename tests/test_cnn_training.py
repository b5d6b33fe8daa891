"""The functions of lesson 13, as the reader sees them, against torch and SciPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.signal import convolve2d, correlate2d
from torch.nn import functional as F

LESSON = definitions("13_cnn_training")
SOLUTION = definitions("solutions/13_cnn_training")
FEW = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32)
small = st.integers(1, 4)


@FEW
@given(seeds, small, small, small, small)
def test_gradients_by_loops_are_a_convolution_and_a_correlation(seed, kh, kw, H_out, W_out):
    rng = np.random.default_rng(seed)
    w, dy = rng.integers(-99, 100, (kh, kw)), rng.integers(-99, 100, (H_out, W_out))
    x = rng.integers(-99, 100, (H_out + kh - 1, W_out + kw - 1))
    assert np.array_equal(LESSON.input_gradient(dy, w), convolve2d(dy, w, "full"))
    assert np.array_equal(LESSON.weight_gradient(dy, x, (kh, kw)), correlate2d(x, dy, "valid"))


@FEW
@given(seeds, *(small,) * 4, st.integers(1, 3), st.integers(0, 2))
def test_backward_of_convolution_equals_autograd(seed, C, out, kh, kw, stride, padding):
    rng = np.random.default_rng(seed)
    size = [max(1, k - 2 * padding) + rng.integers(0, 6) for k in (kh, kw)]
    x, w = rng.standard_normal((2, C, *size)), rng.standard_normal((out, C, kh, kw))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, np.zeros(out))]
    y = F.conv2d(*leaves, stride=stride, padding=padding)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.from_numpy(dy))
    ours = LESSON.conv2d_backward(dy, x, w, stride, padding)
    for gradient, leaf in zip(ours, leaves, strict=True):
        assert gradient.shape == leaf.shape
        assert np.allclose(gradient, leaf.grad, rtol=0, atol=1e-11)


@FEW
@given(seeds, small, st.integers(0, 6), st.integers(0, 6), st.booleans())
def test_backward_of_pools_equals_autograd(seed, size, more_h, more_w, ties):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, size + more_h, size + more_w))
    x = np.round(x) if ties else x
    for library, backward in (
        (F.max_pool2d, LESSON.max_pool2d_backward),
        (F.avg_pool2d, LESSON.avg_pool2d_backward),
    ):
        leaf = torch.tensor(x, requires_grad=True)
        y = library(leaf, size)
        dy = rng.standard_normal(y.shape)
        y.backward(torch.from_numpy(dy))
        assert np.allclose(backward(dy, x, size), leaf.grad, rtol=0, atol=1e-12)


@FEW
@given(seeds, st.sampled_from([1.0, 30.0, 1000.0]))
def test_loss_and_gradient_equal_torch(seed, scale):
    rng = np.random.default_rng(seed)
    logits, labels = scale * rng.standard_normal((5, 10)), rng.integers(0, 10, 5)
    leaf = torch.tensor(logits, requires_grad=True)
    library = F.cross_entropy(leaf, torch.from_numpy(labels))
    library.backward()
    loss, gradient = LESSON.loss_and_gradient(logits, labels)
    assert np.isclose(loss, library.item()) and np.allclose(gradient, leaf.grad, atol=1e-7)


@FEW
@given(seeds)
def test_central_differences_of_a_cubic(seed):
    a = np.random.default_rng(seed).uniform(-1, 1, (2, 3))
    before = a.copy()
    gradient = LESSON.central_differences(lambda: (a**3).sum(), a)
    assert np.allclose(gradient, 3 * before**2, atol=1e-8) and np.array_equal(a, before)


def test_adam_equals_torch():
    rng = np.random.default_rng(0)
    ours = rng.standard_normal(5).astype(np.float32)
    theirs = torch.tensor(ours.copy(), requires_grad=True)
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    m, v = np.zeros_like(ours), np.zeros_like(ours)
    for t in range(1, 6):
        g = rng.standard_normal(5).astype(np.float32)
        theirs.grad = torch.from_numpy(g)
        optimizer.step()
        LESSON.adam_step(ours, g, m, v, t, 0.1)
    assert np.allclose(ours, theirs.detach(), atol=1e-5)


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    return rng.random((4, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, 4)


def test_own_network_equals_torch_in_all_gradients(batch):
    errors = LESSON.compare(LESSON.own_network(np.random.default_rng(0)), *batch)
    assert len(errors) == 13 and max(errors.values()) < 1e-4


def test_a_fault_shows_from_the_layer_below_it_on(batch):
    network = LESSON.own_network(np.random.default_rng(0))
    network[3] = LESSON.UpsideDown(8, 16, np.random.default_rng(1))
    wrong = {name for name, error in LESSON.compare(network, *batch).items() if error > 1e-4}
    assert wrong == {"conv 1", "relu 1", "pool 1", "conv 1 w", "conv 1 b"}


def test_training_lowers_the_loss(batch):
    x, labels = (np.repeat(a, 80, 0) for a in batch)
    network = LESSON.own_network(np.random.default_rng(0))
    losses = LESSON.train(network, x, labels)
    assert len(losses) == 5 and losses[-1] < losses[0]
    assert LESSON.outputs_of(network, np.repeat(x, 2, 0)[:500]).shape == (500, 10)


@FEW
@given(seeds, *(small,) * 4, st.integers(1, 3))
def test_solution_of_the_strided_gradient_equals_autograd(seed, kh, kw, H_out, W_out, stride):
    rng = np.random.default_rng(seed)
    size = [stride * (o - 1) + k + rng.integers(0, stride) for o, k in ((H_out, kh), (W_out, kw))]
    x, w = rng.standard_normal((1, 1, *size)), rng.standard_normal((1, 1, kh, kw))
    leaf = torch.tensor(w, requires_grad=True)
    y = F.conv2d(torch.from_numpy(x), leaf, stride=stride)
    dy = rng.standard_normal(y.shape)
    y.backward(torch.from_numpy(dy))
    ours = SOLUTION.strided_weight_gradient(dy[0, 0], x[0, 0], (kh, kw), stride)
    assert np.allclose(ours, leaf.grad[0, 0], atol=1e-12)


@FEW
@given(seeds, *(small,) * 4)
def test_solution_of_the_mean_equals_autograd(seed, N, C, H, W):
    rng = np.random.default_rng(seed)
    leaf = torch.zeros((N, C, H, W), dtype=torch.float64, requires_grad=True)
    dy = rng.standard_normal((N, C))
    leaf.mean((2, 3)).backward(torch.from_numpy(dy))
    assert np.allclose(SOLUTION.mean_backward(dy, (N, C, H, W)), leaf.grad)
