"""Accuracies and their differences, against SciPy and by hand."""

import json
import math
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers.significance import accuracy_interval, classes, compare_accuracy, right


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


def binomial(n, k, p):
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_p_is_the_sum_over_all_outcomes_that_are_no_likelier(four):
    n = four[1] + four[2]
    chances = [binomial(n, k, 0.5) for k in range(n + 1)]
    expected = sum(c for c in chances if c <= chances[four[1]] * (1 + 1e-9))
    assert compare_accuracy(*from_counts(*four)).p == pytest.approx(min(expected, 1))


@settings(deadline=None, max_examples=60)
@given(counts)
def test_the_interval_is_that_of_bonett_and_price(four):
    """Their adjusted proportions: one example added to each of the two discordant cells."""
    n, only_a, only_b = sum(four), four[1], four[2]
    p12, p21 = (only_b + 1) / (n + 2), (only_a + 1) / (n + 2)
    spread = math.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    found = compare_accuracy(*from_counts(*four))
    assert found.low == pytest.approx(max(p12 - p21 - 1.959963985 * spread, -1))
    assert found.high == pytest.approx(min(p12 - p21 + 1.959963985 * spread, 1))


def test_the_interval_ends_where_accuracies_end():
    found = compare_accuracy(*from_counts(0, 0, 1, 0))
    assert (found.difference, found.high, found.p) == (1.0, 1.0, 1.0) and -1 < found.low
    assert compare_accuracy(*from_counts(0, 1, 0, 0)).low == -1.0


@pytest.mark.parametrize(
    "given",
    [
        [[0.5, 2.0], [3.0, -1.0], [0.0, 0.25]],
        ((0, 1), (1, 0), (-1, 0)),
        np.array([[0, 200], [255, 1], [1, 2]], np.uint8),
        np.asfortranarray([[0.5, 2.0], [3.0, -1.0], [0.0, 0.25]], np.float16),
        np.array([[2.0, 0.5], [-1.0, 3.0], [0.25, 0.0]], ">f4")[:, ::-1],
        np.array([[-np.inf, 2.0], [3.0, -np.inf], [0.0, 0.25]]),
        torch.tensor([[0.5, 2.0], [3.0, -1.0], [0.0, 0.25]], requires_grad=True),
        torch.tensor([[0.5, 2.0], [3.0, -1.0], [0.0, 0.25]], dtype=torch.bfloat16),
        torch.tensor([[0, 127], [3, 1], [-1, 2]], dtype=torch.int8),
        [1, 0, 1],
        (np.int8(1), np.int8(0), np.int8(1)),
        np.array([1, 0, 1], np.uint64),
        np.array([1, 0, 1], ">i4"),
        torch.tensor([1, 0, 1], dtype=torch.uint8),
    ],
    ids=lambda given: type(given).__name__ + str(getattr(given, "dtype", "")),
)
def test_any_logits_or_classes_are_read(given):
    found = classes("given", given)
    assert isinstance(found, np.ndarray) and found.dtype.kind in "iu"
    assert found.tolist() == [1, 0, 1]
    assert right("given", given, [1, 1, 1]).tolist() == [True, False, True]
    assert compare_accuracy(given, [1, 0, 1], labels=np.array([1, 1, 1], np.uint8)).p == 1.0


def test_inference_tensors_are_read():
    with torch.inference_mode():
        logits = torch.tensor([[0.5, 2.0], [3.0, -1.0]]) * 1
    assert right("logits", logits, torch.tensor([1, 1])).tolist() == [True, False]


REFUSED = [
    ([0.0, 1.0], "float64"),
    (np.array([True, False]), "bool"),
    (torch.tensor([True, False]), "bool"),
    (torch.tensor([0.0, 1.0], requires_grad=True), "integers"),
    (np.array([0, 1], object), "object"),
    (["0", "1"], "pass integers"),
    (np.array([0j, 1j]), "complex"),
    (None, "object"),
    (1, "integers"),
    ([], "at least one"),
    (np.zeros((0, 3)), "at least one"),
    (np.zeros((2, 0)), "at least one"),
    ([0, -1], "class -1"),
    ([[0], [1]], "C >= 2"),
    (np.zeros((2, 3, 4)), "C >= 2"),
    ([[0.0, 1.0], [2.0]], "is no array"),
    ([[0.0, 1.0], [np.nan, 2.0]], "row 1"),
    ([[np.nan, np.nan], [0.0, 2.0]], "row 0"),
    ([[0.0, 1.0], [0.0, np.inf]], "row 1"),
    ([[-np.inf, -np.inf], [0.0, 2.0]], "row 0"),
    (torch.tensor([[0.0, 1.0], [1.0, torch.nan]], requires_grad=True), "NaN"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_what_are_no_classes_is_refused_by_name(wrong, words):
    with pytest.raises(ValueError, match=f"given .*{words}"):
        classes("given", wrong)
    with pytest.raises(ValueError, match=f"given .*{words}"):
        right("given", wrong, [0, 1])
    with pytest.raises(ValueError, match=f"pred_a .*{words}"):
        compare_accuracy(wrong, [0, 1], [0, 1])
    with pytest.raises(ValueError, match=f"pred_b .*{words}"):
        compare_accuracy([0, 1], wrong, [0, 1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0], "2 rows, labels 1"),
        ([0, 1, 1], "2 rows, labels 3"),
        ([], "labels .*at least one"),
        ([0.0, 1.0], "labels .*integers"),
        ([True, False], "labels .*bool"),
        (np.eye(2), "labels have shape"),
        (np.eye(2, dtype=int), "labels have shape"),
        (0, "labels have shape"),
        (None, "labels .*object"),
        ([0, -100], "labels .*class -100"),
        ([0, 3], "labels go up to 3, but given has 3 columns"),
    ],
)
def test_labels_that_fit_no_logits_are_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        right("given", np.eye(3)[:2], labels)


def test_the_last_class_is_a_class():
    assert right("given", np.eye(3), [0, 1, 2]).all()
    assert right("given", np.eye(2), [1, 1]).tolist() == [False, True]
    assert right("given", [4, 9], [9, 9]).tolist() == [
        False,
        True,
    ]  # of classes, no number is known


def test_a_comparison_names_the_prediction_that_does_not_fit():
    with pytest.raises(ValueError, match="pred_a has 3 rows, labels 2"):
        compare_accuracy([1, 2, 2], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="pred_b has 3 rows, labels 2"):
        compare_accuracy([1, 2], [1, 2, 2], [1, 2])
    with pytest.raises(ValueError, match="labels go up to 2, but pred_b has 2 columns"):
        compare_accuracy([1, 2], np.eye(2), [1, 2])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 10_000))
def test_right_is_what_a_loop_finds(n, columns, seed):
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(n, columns)), rng.integers(0, columns, n)
    rows = zip(logits, labels, strict=True)
    expected = [max(range(columns), key=row.__getitem__) == label for row, label in rows]
    assert right("logits", logits, labels).tolist() == expected
    assert compare_accuracy(logits, labels, labels).accuracy_a == pytest.approx(sum(expected) / n)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (9, 10), (9123, 10_000), (7, 7), (1, 1)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_accuracy_interval_is_wilsons(correct, total, confidence):
    found, z = accuracy_interval(correct, total, confidence), stats.norm.ppf(0.5 + confidence / 2)
    share = correct / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    half = z / (1 + z**2 / total) * spread
    assert (found.low, found.high) == pytest.approx((center - half, center + half), abs=1e-9)
    assert found.estimate == share
    if confidence == 0.95:
        assert accuracy_interval(np.int64(correct), np.uint16(total)) == found


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.floats(0.02, 0.98), st.floats(0.5, 0.99))
def test_wilsons_interval_inverts_the_score_test(total, truth, confidence):
    """It holds exactly those accuracies that the score test does not reject (Wilson 1927)."""
    z = stats.norm.ppf(0.5 + confidence / 2)
    for correct in range(total + 1):
        score = abs(correct / total - truth) / math.sqrt(truth * (1 - truth) / total)
        if abs(score - z) > 1e-6:
            found = accuracy_interval(correct, total, confidence)
            assert (found.low <= truth <= found.high) == (score < z)


@pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, 0), (1, 0), (0, -1)])
def test_accuracy_interval_refuses(correct, total):
    with pytest.raises(ValueError, match="correct|total"):
        accuracy_interval(correct, total)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((950.0, 1000), TypeError, "correct is 950.0"),
        ((True, 1), TypeError, "correct is True"),
        ((1, 10.0), TypeError, "total is 10.0"),
        ((1, True), TypeError, "total is True"),
        (("9", 10), TypeError, "correct is '9'"),
        ((9, 10, 0.0), ValueError, "confidence is 0.0"),
        ((9, 10, 1.0), ValueError, "confidence is 1.0"),
        ((9, 10, 95), ValueError, "confidence is 95"),
        ((9, 10, -0.5), ValueError, "confidence is -0.5"),
        ((9, 10, math.nan), ValueError, "confidence is nan"),
        ((9, 10, True), TypeError, "confidence is True"),
        ((9, 10, "0.95"), TypeError, "confidence is '0.95'"),
        ((9, 10, None), TypeError, "confidence is None"),
    ],
)
def test_accuracy_interval_refuses_by_name(given, error, words):
    with pytest.raises(error, match=words):
        accuracy_interval(*given)


def test_a_result_is_not_changed_by_mistake():
    for result in (accuracy_interval(1, 2), compare_accuracy([1], [1], [1])):
        with pytest.raises(FrozenInstanceError):
            result.low = 0.0


def test_importing_it_imports_neither_torch_nor_scipy():
    code = "import helpers.significance, sys, json; print(json.dumps(list(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert not {"torch", "scipy", "tensorflow"} & set(json.loads(out.stdout))
