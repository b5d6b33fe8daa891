"""Accuracies and their differences, against SciPy and by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.significance import accuracy_interval, compare_accuracy


def from_counts(both, only_a, only_b, neither):
    """Predictions of two models, and labels, with these four counts."""
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    return a, b, np.ones(len(a), np.int64)


def test_compare_accuracy_by_hand():
    found = compare_accuracy(*from_counts(1, 7, 1, 12))
    assert (found.only_a, found.only_b) == (7, 1)
    assert (found.accuracy_a, found.accuracy_b) == pytest.approx((8 / 21, 2 / 21))
    assert found.difference == pytest.approx(-6 / 21)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)  # both tails: 0 or 1 of 8
    # Laplace: 8/23 and 2/23, their difference -6/23, its variance (10/23 - (6/23)^2) / 23.
    half = 1.959964 * math.sqrt((10 / 23 - 36 / 529) / 23)
    assert (found.low, found.high) == pytest.approx((-6 / 23 - half, -6 / 23 + half), abs=1e-6)


def test_equal_predictions_have_p_one():
    found = compare_accuracy(*from_counts(30, 0, 0, 10))
    assert (found.difference, found.p) == (0.0, 1.0) and found.low < 0 < found.high


def test_logits_and_classes_agree():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200)
    expected = compare_accuracy(a.argmax(1), b.argmax(1), labels)
    assert compare_accuracy(a, b, labels) == expected
    assert compare_accuracy(torch.tensor(a), b.argmax(1), torch.tensor(labels)) == expected


counts = st.tuples(*[st.integers(0, 60)] * 4).filter(sum)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_swapping_the_models_turns_the_sign(four):
    a, b, labels = from_counts(*four)
    found, swapped = compare_accuracy(a, b, labels), compare_accuracy(b, a, labels)
    assert swapped.difference == -found.difference
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert swapped.p == pytest.approx(found.p) and 0 < found.p <= 1
    assert (swapped.only_a, swapped.only_b) == (found.only_b, found.only_a)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.difference == pytest.approx(found.accuracy_b - found.accuracy_a)
    if found.only_a + found.only_b:
        assert found.p == stats.binomtest(four[1], four[1] + four[2]).pvalue


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0.02, 0.02), (0.1, 0.05), (0.05, 0.3), (0.01, 0.1)]
)
def test_the_interval_covers_the_true_difference(only_a, only_b):
    n = 50
    cases = [(i, j) for i in range(n + 1) for j in range(n + 1 - i) if i + j <= 35]
    probability = stats.multinomial.pmf(
        [(i, j, n - i - j) for i, j in cases], n, [only_a, only_b, 1 - only_a - only_b]
    )
    covered = 0.0
    for (i, j), p in zip(cases, probability, strict=True):
        if p > 1e-5:
            found = compare_accuracy(*from_counts(0, i, j, n - i - j))
            covered += p * (found.low <= only_b - only_a <= found.high)
    assert covered > 0.94


@pytest.mark.parametrize(
    ("a", "b", "labels", "words"),
    [
        ([1, 2], [1, 2, 3], [1, 2, 3], "2 and 3 predictions, 3 labels"),
        ([1, 2], [1, 2], [1], "1 labels"),
        (np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), "at least one"),
        ([0.5, 1.0], [1, 2], [1, 2], "pred_a is float64"),
        ([1, 2], np.zeros((2, 1)), [1, 2], "pred_b"),
        ([1, 2], np.zeros((2, 3, 4)), [1, 2], "pred_b"),
        (np.full((2, 3), np.nan), [1, 2], [1, 2], "NaN"),
        ([1, 2], [1, 2], np.eye(2), "labels"),
    ],
)
def test_compare_accuracy_refuses(a, b, labels, words):
    with pytest.raises(ValueError, match=words):
        compare_accuracy(np.asarray(a), np.asarray(b), labels)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (9, 10), (9123, 10_000), (7, 7)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_accuracy_interval_is_wilsons(correct, total, confidence):
    found, z = accuracy_interval(correct, total, confidence), stats.norm.ppf(0.5 + confidence / 2)
    share = correct / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    half = z / (1 + z**2 / total) * spread
    assert (found.low, found.high) == pytest.approx((center - half, center + half), abs=1e-9)
    bounds = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert (found.estimate, found.low, found.high) == (share, bounds.low, bounds.high)


@pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_accuracy_interval_refuses(correct, total):
    with pytest.raises(ValueError, match="correct"):
        accuracy_interval(correct, total)
