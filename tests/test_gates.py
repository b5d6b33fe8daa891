"""The gates: their expected number against draws and differences, their range, their errors."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, logistic

from helpers.gates import L0Gate

quick = settings(max_examples=40, deadline=None)
values = st.lists(st.floats(-6, 6), min_size=1, max_size=6)
betas = st.floats(0.2, 0.95)
lows, highs = st.floats(-1, -0.02), st.floats(1.02, 2)


def gate(log_alpha, *, seed=0, **options):
    """A gate with these log_alpha, in float64."""
    layer = L0Gate(
        len(log_alpha), generator=torch.Generator().manual_seed(seed), **options
    ).double()
    with torch.no_grad():
        layer.log_alpha.copy_(torch.tensor(log_alpha, dtype=torch.float64))
    return layer


# --- how many are open -------------------------------------------------------------------------


@quick
@given(values, betas, lows, highs, st.integers(0, 2**16))
def test_the_probability_is_the_frequency_of_draws(log_alpha, beta, low, high, seed):
    layer = gate(log_alpha, beta=beta, low=low, high=high, seed=seed)
    draws = 4000
    opened = (layer.sample(draws) > 0).sum(0)
    for k, p in zip(opened.tolist(), layer.open_probability().tolist(), strict=True):
        assert binomtest(k, draws, p).pvalue > 1e-7
    assert torch.isclose(layer.expected_open(), layer.open_probability().sum())


@quick
@given(values, betas, lows, highs)
def test_the_probability_is_scipys(log_alpha, beta, low, high):
    """The concrete variable is a logistic one, through a sigmoid."""
    layer = gate(log_alpha, beta=beta, low=low, high=high)
    border = -low / (high - low)  # where the stretched variable is 0
    edge = beta * math.log(border / (1 - border))
    theirs = logistic.sf(edge, loc=np.array(log_alpha))
    assert np.allclose(layer.open_probability().detach(), theirs, rtol=1e-9)


@quick
@given(values, betas, lows, highs)
def test_the_gradient_of_the_count_is_that_of_differences(log_alpha, beta, low, high):
    layer = gate(log_alpha, beta=beta, low=low, high=high)
    layer.expected_open().backward()
    for j, slope in enumerate(layer.log_alpha.grad.tolist()):
        counts = []
        for h in (1e-4, -1e-4):
            moved = list(log_alpha)
            moved[j] += h
            counts.append(gate(moved, beta=beta, low=low, high=high).expected_open().item())
        assert math.isclose(slope, (counts[0] - counts[1]) / 2e-4, rel_tol=1e-4, abs_tol=1e-8)


def test_the_count_begins_where_it_is_told():
    for share in (0.1, 0.5, 0.9):
        layer = L0Gate(1000, open_at_start=share)
        assert math.isclose(layer.expected_open().item(), 1000 * share, rel_tol=1e-4)


# --- the gates ---------------------------------------------------------------------------------


@quick
@given(values, betas, lows, highs, st.integers(0, 2**16))
def test_gates_are_in_0_to_1(log_alpha, beta, low, high, seed):
    layer = gate([30 * v for v in log_alpha], beta=beta, low=low, high=high, seed=seed)
    for z in (layer.sample(50), layer.fixed()):
        assert z.isfinite().all() and (z >= 0).all() and (z <= 1).all()


@quick
@given(values, st.integers(0, 2**16))
def test_evaluation_is_deterministic_and_training_draws(log_alpha, seed):
    layer = gate(log_alpha, seed=seed).eval()
    x = torch.linspace(-1, 1, 8 * len(log_alpha), dtype=torch.float64).reshape(8, -1)
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(layer(x), x * layer.fixed())
    first, again = gate([0.0], seed=seed), gate([0.0], seed=seed)
    ones = torch.ones(50, 1, dtype=torch.float64)
    before = first(ones)
    assert torch.equal(before, again(ones)) and not torch.equal(before, first(ones))
    assert len(before.unique()) > 10  # another draw for each example


def test_the_middle_gate_by_hand():
    """log_alpha 0 and u = 0.2: sigmoid(1.5 log(1/4)) = 1/9, stretched to 1/30."""
    layer = gate([0.0])
    s = torch.sigmoid(torch.tensor(math.log(0.25) / layer.beta))
    assert math.isclose(layer._clip(s).item(), 1 / 30, rel_tol=1e-5)


def test_the_loss_reaches_log_alpha_through_open_gates_only():
    layer = gate([0.0, 30.0, -30.0])
    layer(torch.ones(200, 3, dtype=torch.float64)).sum().backward()
    assert layer.log_alpha.grad[0] > 0 and (layer.log_alpha.grad[1:] == 0).all()


def test_the_slope_through_a_draw_is_that_of_differences():
    """With the same draws, the mean output is a smooth function of log_alpha."""
    at = [-0.7, 0.4]
    layer = gate(at, seed=3)
    layer(torch.ones(20_000, 2, dtype=torch.float64)).mean(0).sum().backward()
    means = [
        gate([v + h for v in at], seed=3)(torch.ones(20_000, 2, dtype=torch.float64)).mean(0)
        for h in (1e-4, -1e-4)
    ]
    difference = (means[0] - means[1]) / 2e-4
    torch.testing.assert_close(layer.log_alpha.grad, difference.detach(), rtol=1e-2, atol=1e-4)


def test_a_penalty_closes_gates_and_a_loss_opens_them():
    layer = L0Gate(2, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        kept = (1 - layer(torch.ones(32, 2))[:, 0]).square().mean()  # only the first is useful
        (kept + 0.05 * layer.expected_open()).backward()
        optimizer.step()
    assert layer.eval()(torch.ones(1, 2)).tolist()[0] == pytest.approx([1, 0], abs=0.05)


def test_it_is_saved_copied_and_empty_batches_pass():
    layer = gate([1.0, -1.0], seed=5)
    twin = copy.deepcopy(layer)
    assert torch.equal(layer.sample(3), twin.sample(3))
    other = L0Gate(2).double()
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.fixed(), layer.fixed())
    assert layer(torch.ones(0, 2, dtype=torch.float64)).shape == (0, 2)


def test_without_a_generator_it_draws_from_torchs():
    torch.manual_seed(0)
    first = L0Gate(4).sample(3)
    torch.manual_seed(0)
    assert torch.equal(first, L0Gate(4).sample(3))


# --- what it refuses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"size": 0}, ValueError, "size is 0: choose a whole number, at least 1"),
        ({"size": 2.0}, TypeError, "size is 2.0"),
        ({"beta": 0}, ValueError, "beta is 0: choose a finite number between 0 and 1"),
        ({"beta": 1.5}, ValueError, "beta is 1.5"),
        ({"beta": "x"}, TypeError, "beta is 'x'"),
        ({"beta": float("nan")}, ValueError, "beta is nan"),
        ({"open_at_start": 1}, ValueError, "open_at_start is 1"),
        ({"open_at_start": True}, TypeError, "open_at_start is True"),
        ({"low": 0.0}, ValueError, "low is 0.0: choose a finite number below 0"),
        ({"low": 0.1}, ValueError, "low is 0.1: choose a finite number below 0"),
        ({"low": None}, TypeError, "low is None"),
        ({"high": 1.0}, ValueError, "high is 1.0: choose a finite number above 1"),
        ({"high": float("inf")}, ValueError, "high is inf"),
        ({"high": "1.1"}, TypeError, "high is '1.1'"),
        ({"generator": 0}, TypeError, "generator is 0: pass a torch.Generator"),
    ],
)
def test_bad_arguments_are_named(options, error, words):
    with pytest.raises(error, match=words.replace(".", r"\.")):
        L0Gate(**({"size": 3} | options))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 1)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="3 gates"):
        L0Gate(3)(torch.ones(shape))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="int64"):
        L0Gate(3)(torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("count", [0, 1.5])
def test_a_bad_count_of_draws_is_named(count):
    with pytest.raises((TypeError, ValueError), match="count is"):
        L0Gate(3).sample(count)
