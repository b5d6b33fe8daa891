"""The functions of lesson 17 and its solutions, against SciPy, torch and counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy import stats

from helpers import data

LESSON = definitions("17_motion_and_people")
SOLUTION = definitions("solutions/17_motion_and_people")
FEW = settings(max_examples=60, deadline=None)
labels = st.lists(st.sampled_from([2, 5, 7, 30]), min_size=2, max_size=30)


@FEW
@given(st.lists(st.booleans(), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_a_window_overlaps_what_its_neighbors_are(mask, random):
    follows = [random.random() < 0.7 for _ in mask[1:]]
    by_hand = [
        (k > 0 and follows[k - 1] and mask[k - 1])
        or (k + 1 < len(mask) and follows[k] and mask[k + 1])
        for k in range(len(mask))
    ]
    LESSON.overlapping.__globals__["follows"] = np.array(follows)
    assert LESSON.overlapping(np.array(mask)).tolist() == by_hand


def test_what_follows_shares_half_of_its_samples():
    """In the shipped windows: 98 recordings, none of two people or of two exercises."""
    pool = data.watch("train")
    follows = (pool.windows[1:, :50] == pool.windows[:-1, 50:]).all((1, 2))
    assert (pool.subjects[1:] == pool.subjects[:-1])[follows].all()
    assert (pool.labels[1:] == pool.labels[:-1])[follows].all()
    recordings = np.concatenate([[0], np.cumsum(~follows)])
    each = [len(np.unique(recordings[pool.subjects == k])) for k in range(1, 8)]
    assert each == 7 * [14]  # seven exercises, left and right


@FEW
@given(labels, st.lists(st.sampled_from([2, 5, 7, 30, 31]), max_size=3))
def test_windows_of_some_people(subjects, people):
    expected = [subject in people for subject in subjects]
    assert LESSON.windows_of(people, np.array(subjects)).tolist() == expected


@FEW
@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_the_half_width_is_scipys(accuracies):
    spread = np.std(accuracies, ddof=1)
    if spread < 1e-9:
        return
    theirs = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    ours = LESSON.half_width(spread, len(accuracies))
    assert 2 * ours == pytest.approx(theirs.high - theirs.low, rel=1e-6)


def test_the_cnn_answers_for_windows_of_any_length():
    network = LESSON.MotionCNN().eval()
    for steps in (20, 100):
        assert network(torch.zeros(3, steps, 6)).shape == (3, 7)
    assert sum(p.numel() for p in network.parameters()) == 4111


def test_the_solutions_network_is_the_lessons():
    ours, theirs = LESSON.build("MotionCNN", 3).eval(), SOLUTION.motion_cnn(3).eval()
    x = torch.randn(4, 100, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x.mT), atol=1e-6)


@FEW
@given(labels, st.integers(0, 2**32))
def test_solution_splits_by_person(subjects, seed):
    subjects = np.array(subjects)
    held = len(np.unique(subjects)) - 1
    training, testing = SOLUTION.split_people(subjects, held, np.random.default_rng(seed))
    assert sorted([*training, *testing]) == list(range(len(subjects)))
    assert not set(subjects[training]) & set(subjects[testing])
    assert len(set(subjects[testing])) == held


@FEW
@given(labels, st.integers(0, 2**32))
def test_solution_of_the_interval_counts_each_person_once(subjects, seed):
    subjects = np.array(subjects)
    right = np.random.default_rng(seed).random(len(subjects)) < 0.6
    accuracies = [right[subjects == person].mean() for person in np.unique(subjects)]
    if np.ptp(accuracies) < 1e-9:
        return
    mean, half = SOLUTION.interval_over_people(right, subjects)
    theirs = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((theirs.low, theirs.high))
