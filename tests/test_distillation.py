"""What lesson 33 writes out: the loss and its gradient, its controls, and its exercises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.special import log_softmax, rel_entr, softmax
from torch import nn

lesson = definitions("33_distillation")
solutions = definitions("solutions/33_distillation")
quick = settings(max_examples=60, deadline=None)
seeds, sizes, classes = st.integers(0, 2**16), st.integers(1, 6), st.integers(2, 12)
temperatures = st.floats(0.25, 30)


def logits(seed, n, K):
    """Of a student, and of a teacher."""
    return np.random.default_rng(seed).normal(0, 3, (2, n, K))


# --- the loss ----------------------------------------------------------------------------------


@quick
@given(seeds, sizes, classes, temperatures)
def test_the_soft_loss_is_scipys_divergence(seed, n, K, T):
    z, v = logits(seed, n, K)
    p, q = softmax(v / T, 1), softmax(z / T, 1)
    found = lesson.soft_loss(torch.from_numpy(z), torch.from_numpy(v), T)
    assert float(found) == pytest.approx(T**2 * rel_entr(p, q).sum(1).mean(), abs=1e-9)


@quick
@given(seeds, sizes, classes, temperatures, st.floats(0, 1))
def test_labels_have_the_rest_of_the_loss(seed, n, K, T, alpha):
    z, v = map(torch.from_numpy, logits(seed, n, K))
    labels = np.random.default_rng(seed).integers(0, K, n)
    hard = -log_softmax(z.numpy(), 1)[np.arange(n), labels].mean()
    soft = float(lesson.soft_loss(z, v, T))
    found = float(lesson.mixed_loss(z, v, torch.from_numpy(labels), T, alpha))
    assert found == pytest.approx(alpha * soft + (1 - alpha) * hard, abs=1e-9)


@quick
@given(seeds, sizes, classes, temperatures)
def test_the_gradient_of_the_exercise_is_autograds(seed, n, K, T):
    z, v = logits(seed, n, K)
    student = torch.from_numpy(z).requires_grad_()
    lesson.soft_loss(student, torch.from_numpy(v), T).backward()
    np.testing.assert_allclose(solutions.gradient(z, v, T), student.grad, atol=1e-9)


@quick
@given(seeds, sizes, classes)
def test_a_constant_on_a_row_changes_nothing_and_equals_cost_nothing(seed, n, K):
    z, v = map(torch.from_numpy, logits(seed, n, K))
    shift = torch.arange(n)[:, None] * 2.5
    assert torch.allclose(lesson.soft_loss(z + shift, v - shift, 3), lesson.soft_loss(z, v, 3))
    assert float(lesson.soft_loss(v + shift, v, 3)) == pytest.approx(0, abs=1e-9)


@quick
@given(st.floats(0, 9), st.floats(0.3, 6))
def test_a_bump_is_a_normal_density_on_ten_places(m, w):
    from scipy.stats import norm

    lesson.bump.__globals__["k"] = torch.arange(10.0)
    q = lesson.bump(torch.tensor([m]), torch.tensor([w]))[0].exp()
    expected = softmax(norm.logpdf(np.arange(10), m, w))
    np.testing.assert_allclose(q, expected, atol=1e-5)


# --- exercises ---------------------------------------------------------------------------------


@quick
@given(seeds, sizes, classes, st.floats(0.01, 0.9))
def test_a_smoothing_teacher_trains_as_smoothed_labels_do(seed, n, K, eps):
    z, _ = logits(seed, n, K)
    labels = np.random.default_rng(seed).integers(0, K, n)
    v = solutions.smoothing_teacher(labels, K, eps)
    np.testing.assert_allclose(softmax(v, 1).sum(1), 1)
    one, other = (torch.from_numpy(z).requires_grad_() for _ in range(2))
    lesson.soft_loss(one, torch.from_numpy(v), 1.0).backward()
    nn.functional.cross_entropy(other, torch.from_numpy(labels), label_smoothing=eps).backward()
    assert torch.allclose(one.grad, other.grad)


@quick
@given(seeds, sizes, st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_attention_has_length_one_and_forgets_scale_and_channels(seed, n, C, H, W):
    h = torch.randn(n, C, H, W, generator=torch.Generator().manual_seed(seed))
    a = solutions.attention(h)
    assert a.shape == (n, H * W) and torch.allclose(a.norm(dim=1), torch.ones(n))
    expected = torch.stack([(image**2).sum(0).ravel() for image in h])
    assert torch.allclose(a, nn.functional.normalize(expected), atol=1e-6)
    turned = 3 * h.flip(1)
    assert torch.allclose(solutions.attention(turned), a, atol=1e-5)
