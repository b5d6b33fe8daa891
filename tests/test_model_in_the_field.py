"""The functions of lesson 55 against libraries and against a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.stats import chi2_contingency, ks_2samp

from helpers.checks_55 import decide, gap
from helpers.significance import compare_accuracy

lesson = definitions("55_model_in_the_field")
COUNTS = st.integers(0, 60)


@given(COUNTS, COUNTS)
def test_the_paired_test_is_the_helpers(only_old, only_new):
    old = np.repeat([1, 0, 1], [only_old, only_new, 5])
    new = np.repeat([0, 1, 1], [only_old, only_new, 5])
    expected = compare_accuracy(old, new, np.ones(len(old), int)).p
    assert lesson.p_paired(np.array(only_old), np.array(only_new)) == pytest.approx(expected)


@given(st.integers(1, 99), st.integers(1, 99))
def test_the_test_of_two_groups_is_scipys(right_a, right_b):
    table = [[right_a, 100 - right_a], [right_b, 100 - right_b]]
    expected = chi2_contingency(table, correction=False).pvalue  # z squared
    assert lesson.p_groups(right_a, right_b, 100) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 0.8))
def test_the_sequential_test_is_the_exercises_loop(seed, share):
    """On images that both models have right nothing moves; the rest is the loop's."""
    rng = np.random.default_rng(seed)
    signs = np.where(rng.random(120) < share, 1, -1) * (rng.random(120) < 0.6)
    verdict, images = lesson.sequential((signs >= 0)[None], (signs <= 0)[None])
    told = np.flatnonzero(signs)
    expected, used = decide(signs[told], 2 / 3, 0.05, 0.1)
    assert verdict[0] == expected
    if expected:
        assert images[0] == told[used - 1] + 1


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_the_largest_gap_is_scipys(a, b):
    assert gap(np.array(a), np.array(b)) == pytest.approx(ks_2samp(a, b, method="asymp").statistic)


@pytest.mark.parametrize("eps", [0.01, 0.1, 0.5])
def test_attacks_stay_in_their_box_and_raise_the_loss(eps):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    x, labels = torch.rand(8, 1, 28, 28), torch.arange(8)
    loss = torch.nn.functional.cross_entropy
    for attack in (lesson.fast, lesson.pgd, lesson.random_signs):
        z = attack(network, x, labels, eps)
        assert (z - x).abs().max() <= eps + 1e-6 and z.min() >= 0 and z.max() <= 1
    assert loss(network(lesson.fast(network, x, labels, eps)), labels) > loss(network(x), labels)


def test_dividing_by_the_absolute_value_is_the_sign():
    g = np.array([-3.0, 0.0, 1e-12, 5.0])
    np.testing.assert_allclose(lesson.fgsm(np.full(4, 0.5), g, 0.1), 0.5 + 0.1 * np.sign(g))
