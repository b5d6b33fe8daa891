"""Distillation's loss against its definition in float64 and SciPy, and the training around it."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax

from helpers.distill import UNLABELED, soft_target_loss, with_answers
from helpers.models import build
from helpers.train import fit, predict

quick = settings(max_examples=50, deadline=None)
temperatures = st.floats(0.25, 30)


def drawn(seed, n, classes, size=3.0):
    rng = np.random.default_rng(seed)
    student, teacher = rng.normal(0, size, (2, n, classes))
    return student, teacher, rng.integers(0, classes, n)


@quick
@given(st.integers(0, 2**16), st.integers(1, 6), st.integers(2, 12), temperatures, st.floats(0, 1))
def test_the_loss_is_its_definition(seed, n, classes, T, alpha):
    student, teacher, labels = drawn(seed, n, classes)
    p, q = softmax(teacher / T, 1), softmax(student / T, 1)
    soft = rel_entr(p, q).sum(1).mean()
    hard = -log_softmax(student, 1)[np.arange(n), labels].mean()
    found = soft_target_loss(*map(torch.from_numpy, (student, teacher, labels)), T, alpha)
    assert float(found) == pytest.approx(alpha * T**2 * soft + (1 - alpha) * hard, abs=1e-9)


@quick
@given(st.integers(0, 2**16), st.integers(2, 10), temperatures)
def test_the_gradient_is_t_times_the_difference_of_probabilities(seed, classes, T):
    student, teacher, labels = map(torch.from_numpy, drawn(seed, 1, classes))
    student.requires_grad_()
    soft_target_loss(student, teacher, labels, T, 1.0).backward()
    expected = T * ((student / T).softmax(1) - (teacher / T).softmax(1))
    torch.testing.assert_close(student.grad, expected.detach())


@quick
@given(st.integers(0, 2**16), st.integers(2, 10))
def test_a_high_temperature_matches_centered_logits(seed, classes):
    """Hinton et al. 2015, equation 4."""
    student, teacher, labels = map(torch.from_numpy, drawn(seed, 1, classes))
    student.requires_grad_()
    soft_target_loss(student, teacher, labels, 1e4, 1.0).backward()
    centered = [z - z.mean(1, keepdim=True) for z in (student.detach(), teacher)]
    torch.testing.assert_close(
        student.grad, (centered[0] - centered[1]) / classes, rtol=0.02, atol=1e-3
    )


def test_the_teacher_is_not_differentiated():
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    soft_target_loss(student, teacher, torch.zeros(3).long(), 2, 0.5).backward()
    assert teacher.grad is None


def test_rows_without_a_label_count_in_the_soft_part_only():
    student, teacher, labels = map(torch.from_numpy, drawn(0, 4, 5))
    some = torch.tensor([int(labels[0]), UNLABELED, int(labels[2]), UNLABELED])
    hard = torch.nn.functional.cross_entropy(student[[0, 2]], labels[[0, 2]], reduction="sum") / 4
    assert soft_target_loss(student, teacher, some, 3, 0).item() == pytest.approx(hard.item())
    whole = soft_target_loss(student, teacher, labels, 3, 1)
    assert soft_target_loss(student, teacher, some, 3, 1) == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(T=0), "T is 0"),
        (dict(T=float("nan")), "T is nan"),
        (dict(alpha=1.5), "share of the loss"),
        (dict(alpha=-0.1), "alpha is -0.1"),
        (dict(labels=torch.tensor([0, 5])), "0 to 4"),
        (dict(labels=torch.tensor([0, -2])), "0 to 4"),
        (dict(labels=torch.tensor([0])), r"labels \[1\]"),
        (dict(teacher=torch.zeros(2, 4)), r"teacher \[2, 4\]"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    good = dict(student=torch.zeros(2, 5), teacher=torch.zeros(2, 5), T=2, alpha=0.5)
    with pytest.raises(ValueError, match=words):
        soft_target_loss(**good | dict(labels=torch.tensor([0, 1])) | change)


# --- training ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sixty():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8)
    return images, rng.normal(0, 3, (60, 10)).astype(np.float32), rng.integers(0, 10, 60)


def test_without_a_teacher_it_is_ordinary_training(sixty):
    images, answers, labels = sixty
    a, b = build("TinyCNN"), build("TinyCNN")
    rows, loss = with_answers(answers, labels, T=3, alpha=0)
    fit(a, images, rows, loss=loss, epochs=2, lr=0.05)
    fit(b, images, labels, epochs=2, lr=0.05)
    np.testing.assert_allclose(predict(a, images), predict(b, images), atol=1e-4)


def test_a_student_approaches_the_teacher_without_a_label(sixty):
    images, answers, _ = sixty
    student = build("LeNet300")
    unknown = np.full(60, UNLABELED)
    before = copy.deepcopy(student)
    rows, loss = with_answers(answers, unknown, T=4, alpha=1)
    fit(student, images, rows, loss=loss, epochs=60, lr=0.02, batch_size=20)
    agree = [(predict(m, images).argmax(1) == answers.argmax(1)).mean() for m in (before, student)]
    assert agree[0] < 0.4 and agree[1] > 0.9


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (dict(answers=np.zeros((60,))), ValueError, "expected"),
        (dict(answers=np.zeros((59, 10))), ValueError, "expected"),
        (dict(labels=np.zeros(60)), TypeError, "pass integers"),
        (dict(labels=np.full(60, 10)), ValueError, "0 to 9"),
        (dict(answers=np.full((60, 10), np.nan)), ValueError, "NaN"),
        (dict(answers=np.zeros((60, 9))), ValueError, "teacher"),
    ],
)
def test_answers_and_labels_that_do_not_fit_are_refused(sixty, change, error, words):
    images, answers, labels = sixty
    given_ = dict(answers=answers, labels=labels) | change
    with pytest.raises(error, match=words):
        rows, loss = with_answers(**given_, T=2, alpha=0.5)
        fit(build("LeNet300"), images, rows, loss=loss, epochs=1)
