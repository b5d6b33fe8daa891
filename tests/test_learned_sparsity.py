"""The formulas that lesson 36 writes out, against SciPy, scikit-learn, PyTorch and plain search."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Lasso
from torch import nn

from helpers.gates import L0Gate

lesson = definitions("36_learned_sparsity")
solutions = definitions("solutions/36_learned_sparsity")
lesson.__globals__.update(BETA=2 / 3, GAMMA=-0.1, ZETA=1.1)
quick = settings(max_examples=60, deadline=None)
numbers, sizes = st.floats(-5, 5), st.floats(0, 3)


# --- thresholds --------------------------------------------------------------------------------


@quick
@given(numbers, sizes)
def test_the_soft_threshold_is_the_minimum_and_torchs(a, t):
    def objective(w):
        return 0.5 * (w - a) ** 2 + t * abs(w)

    w = float(lesson.soft(torch.tensor(a, dtype=torch.float64), t))
    found = minimize_scalar(objective, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10})
    assert objective(w) <= found.fun + 1e-12
    x = torch.tensor([a, -a, 0.0])
    torch.testing.assert_close(lesson.soft(x, t), nn.functional.softshrink(x, t))


@quick
@given(numbers, sizes, sizes)
def test_the_elastic_net_is_the_minimum(a, t, d):
    def objective(w):
        return 0.5 * (w - a) ** 2 + t * abs(w) + 0.5 * d * w**2

    w = float(solutions.elastic(torch.tensor(a, dtype=torch.float64), t, d))
    found = minimize_scalar(objective, bounds=(-6, 6), method="bounded", options={"xatol": 1e-10})
    assert objective(w) <= found.fun + 1e-12


@quick
@given(st.integers(0, 2**16), st.floats(0.01, 3))
def test_the_group_threshold_satisfies_its_optimality_condition(seed, t):
    """W - A + t W / |W| = 0 for a column that stays, |A| <= t for one that goes."""
    A = torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    A[:, 0] = 0
    W = solutions.group_soft(A, t)
    length, gone = W.norm(dim=0), (W == 0).all(0)
    assert gone[0] and (A.norm(dim=0)[gone] <= t + 1e-12).all()
    kept = ~gone
    slope = W[:, kept] - A[:, kept] + t * W[:, kept] / length[kept]
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-9, rtol=0)


# --- the lasso ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.02, 1.2))
def test_ista_is_scikit_learns_lasso(seed, share):
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    y = X[:, 0] - 2 * X[:, 1] + torch.randn(30, generator=generator, dtype=torch.float64)
    c = X.T @ y
    penalty = share * float(c.abs().max())
    w = lesson.ista(X.T @ X, c, penalty, torch.zeros(6, dtype=torch.float64), 3000)
    theirs = Lasso(alpha=penalty / 30, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(X, y)
    assert np.allclose(w, theirs.coef_, atol=1e-6)
    r = X.T @ (y - X @ w)
    assert (r.abs() <= penalty + 1e-5).all()
    assert (w == 0).all() == (share >= 1)


def test_no_ista_step_makes_the_objective_larger():
    generator = torch.Generator().manual_seed(1)
    X, y = (torch.randn(20, n, generator=generator, dtype=torch.float64) for n in (8, 1))
    G, c, w = X.T @ X, (X.T @ y)[:, 0], torch.zeros(8, dtype=torch.float64)
    last = math.inf
    for _ in range(50):
        now = float(0.5 * (y[:, 0] - X @ w).square().sum() + 2.0 * w.abs().sum())
        assert now <= last + 1e-12
        w, last = lesson.ista(G, c, 2.0, w, 1), now


# --- one weight --------------------------------------------------------------------------------


@quick
@given(st.floats(-0.95, 0.95), st.floats(0.1, 2), st.floats(0.005, 0.5), numbers)
def test_the_subgradient_stays_in_its_band_and_the_proximal_step_at_zero(share, penalty, rate, w):
    a = share * penalty
    low, high = rate * (a - penalty), rate * (a + penalty)
    late = lesson.by_subgradient(a, penalty, rate, 4000, w)[3000:]
    assert low - 1e-9 <= late.min() and late.max() <= high + 1e-9
    assert lesson.by_proximal(a, penalty, rate, 4000, w)[-1] == 0


# --- masks -------------------------------------------------------------------------------------


def small():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.9])
def test_the_largest_weights_are_kept(zeros):
    network = small()
    masks = lesson.largest(network, zeros)
    sizes = torch.cat([w.detach().abs().flatten() for w in lesson.weights(network)])
    kept = torch.cat([m.flatten() for m in masks])
    assert int((~kept).sum()) == round(zeros * len(sizes))
    assert sizes[kept].min() > sizes[~kept].max()
    with torch.no_grad():
        lesson.fixed(masks)(network, 0.1)
    assert lesson.below(network, 0) == pytest.approx(round(zeros * len(sizes)) / len(sizes))


def test_a_proximal_step_is_soft_on_weights_and_leaves_biases():
    network, before = small(), small().state_dict()
    with torch.no_grad():
        lesson.proximal(0.5)(network, 0.2)
    for name, values in network.state_dict().items():
        expected = before[name]
        if name.endswith("weight"):
            expected = nn.functional.softshrink(expected, 0.1)
        torch.testing.assert_close(values, expected)


def test_penalties_are_sums_over_weights():
    network = small()
    flat = torch.cat([w.flatten() for w in lesson.weights(network)])
    torch.testing.assert_close(lesson.l1(0.1)(network), 0.1 * flat.abs().sum())
    torch.testing.assert_close(lesson.l2(0.1)(network), 0.05 * flat.square().sum())
    assert lesson.below(lesson.cut(network, 0.1), 0) == lesson.below(network, 0.1) > 0


# --- gates -------------------------------------------------------------------------------------


@quick
@given(st.floats(-5, 5), st.integers(0, 2**16))
def test_the_lessons_gate_is_the_helpers(log_alpha, seed):
    layer = L0Gate(1, generator=torch.Generator().manual_seed(seed)).double()
    layer.log_alpha.data.fill_(log_alpha)
    u = torch.empty(50, 1, dtype=torch.float64)
    u.uniform_(1e-6, 1 - 1e-6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(lesson.gate(layer.log_alpha, u), layer.sample(50))
    at = layer.log_alpha.detach()
    torch.testing.assert_close(lesson.open_probability(at), layer.open_probability().detach())


@quick
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=5), st.floats(0.2, 0.95))
def test_the_count_and_its_gradient_by_hand_are_the_helpers(log_alpha, beta):
    layer = L0Gate(len(log_alpha), beta=beta, low=-0.3, high=1.2).double()
    layer.log_alpha.data = torch.tensor(log_alpha, dtype=torch.float64)
    layer.expected_open().backward()
    count, gradient = solutions.count_and_gradient(np.array(log_alpha), beta, -0.3, 1.2)
    assert math.isclose(count, layer.expected_open().item(), rel_tol=1e-9)
    assert np.allclose(gradient, layer.log_alpha.grad, rtol=1e-9)


def test_what_is_left_without_gates_gives_the_same_logits():
    gates = L0Gate(784)
    gates.log_alpha.data = torch.randn(784, generator=torch.Generator().manual_seed(0)) * 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = [nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)]
    network = nn.Sequential(nn.Flatten(), gates, *dense).eval()
    keep, fewer = lesson.without_gates(network)
    x = torch.rand(5, 784, generator=torch.Generator().manual_seed(1))
    assert 0 < int(keep.sum()) < 784 and fewer[0].in_features == int(keep.sum())
    torch.testing.assert_close(fewer(x[:, keep]), network(x), rtol=1e-4, atol=1e-5)


# --- choices of pixels -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 50, 77, 195, 300])
def test_choices_have_their_number_of_pixels(k):
    score = torch.rand(784, generator=torch.Generator().manual_seed(k))
    chosen = lesson.top_pixels(score, k)
    assert int(chosen.sum()) == k and score[chosen].min() > score[~chosen].max()
    assert k <= int(lesson.even_grid(k).sum()) <= k + k**0.5
    spread = lesson.apart(score, min(k, 200))
    assert int(spread.sum()) == min(k, 200) and lesson.touching(spread) == 0
    assert spread[score.argmax()]


def test_touching_pairs_are_counted_by_hand():
    chosen = torch.zeros(28, 28, dtype=torch.bool)
    chosen[0, :3] = chosen[1, 1] = chosen[5, 5] = chosen[6, 6] = True
    assert lesson.touching(chosen.flatten()) == 3
