"""What a reader of lesson 45 sees and writes, against torchvision and brute force."""

import collections
import threading
import time

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from tools.lesson_code import definitions

LESSON = definitions("45_real_time_detection")
SOLUTIONS = definitions("solutions/45_real_time_detection")


def random_boxes(seed: int, count: int, spread: float = 4.0) -> np.ndarray:
    """Corners [count, 4]; with little spread most of them overlap."""
    rng = np.random.default_rng(seed)
    low = rng.random((count, 2)) * spread
    return np.concatenate([low, low + 0.1 + 2 * rng.random((count, 2))], axis=1)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0.3, 30))
def test_iou_is_torchvisions(seed, count, spread):
    boxes = random_boxes(seed, count, spread)
    expected = torchvision.ops.box_iou(torch.tensor(boxes[:1]), torch.tensor(boxes))[0]
    np.testing.assert_allclose(LESSON.iou(boxes[0], boxes), expected, rtol=1e-12, atol=1e-15)


def test_iou_by_counting_cells():
    a, b = np.array([0, 0, 6, 4]), np.array([[3, 1, 9, 8], [6, 0, 8, 4], [1, 1, 2, 2]])
    x, y = np.meshgrid(np.arange(10), np.arange(10))

    def cells(box):
        return (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])

    expected = [(cells(a) & cells(c)).sum() / (cells(a) | cells(c)).sum() for c in b]
    np.testing.assert_allclose(LESSON.iou(a, b), expected)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 80), st.floats(0.3, 30), st.floats(0.01, 0.99))
def test_nms_keeps_what_torchvision_keeps(seed, count, spread, limit):
    boxes = random_boxes(seed, count, spread)
    scores = np.random.default_rng(seed).permutation(count) / count  # no two are equal
    theirs = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(scores), limit)
    np.testing.assert_array_equal(LESSON.nms(boxes, scores, limit), theirs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 60), st.floats(0.05, 0.9))
def test_weighted_nms_has_the_groups_of_the_plain_one(seed, count, limit):
    boxes = random_boxes(seed, count)
    scores = np.random.default_rng(seed).permutation(count) / max(count, 1) + 0.01
    found, kept = LESSON.weighted_nms(boxes, scores, limit), LESSON.nms(boxes, scores, limit)
    assert found.shape == (len(kept), 5)
    np.testing.assert_array_equal(found[:, 4], scores[kept])
    left = np.ones(count, bool)
    for row, best in zip(found, kept, strict=True):
        group = left & (LESSON.iou(boxes[best], boxes) > limit)
        expected = (scores[group, None] * boxes[group]).sum(0) / scores[group].sum()
        np.testing.assert_allclose(row[:4], expected)
        left &= ~group


def test_the_anchors_are_those_of_the_published_options():
    found = np.concatenate([LESSON.anchors(16, 2), LESSON.anchors(8, 6)])
    expected = [
        ((x + 0.5) / n, (y + 0.5) / n)
        for n, each in ((16, 2), (8, 6))
        for y in range(n)
        for x in range(n)
        for _ in range(each)
    ]
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(20, 300), st.integers(20, 300))
def test_letterbox_and_the_two_ways_of_a_box(height, width):
    image = np.full((height, width, 3), 255, np.uint8)
    x, place = LESSON.letterbox(image)
    assert x.shape == (128, 128, 3) and x.dtype == np.float32 and x.min() >= -1 and x.max() <= 1
    boxes = np.array([[0.0, 0, width, height], [0.3 * width, 0.1 * height, width, 0.7 * height]])
    there = SOLUTIONS.to_network(boxes, height, width)
    np.testing.assert_allclose(LESSON.to_photo(there / 128, place), boxes, atol=1e-9)
    inside = np.zeros((128, 128), bool)
    x0, y0, x1, y1 = there[0]
    blur = 2 + 128 // max(height, width)
    inside[int(y0) + blur : int(y1) - blur, int(x0) + blur : int(x1) - blur] = True
    assert (x[inside] == 1).all()


def test_soft_nms_with_a_hard_decay_is_nms():
    boxes, scores = random_boxes(3, 30), np.random.default_rng(3).permutation(30) / 30 + 0.01
    places, decayed = SOLUTIONS.soft_nms(boxes, scores, 0.0).T
    assert sorted(places) == list(range(30)) and (np.diff(decayed) <= 1e-12).all()
    far = random_boxes(3, 5) + 100 * np.arange(5)[:, None]
    places, same = SOLUTIONS.soft_nms(far, scores[:5], 0.0).T
    np.testing.assert_array_equal(places, np.argsort(-scores[:5]))
    np.testing.assert_array_equal(same, scores[:5][places.astype(int)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_average_precision_is_the_area_under_the_steps(seed, count):
    rng = np.random.default_rng(seed)
    scores, right = rng.permutation(count) / count, rng.random(count) < 0.6
    faces = int(right.sum()) + int(rng.integers(0, 5)) + 1
    hits = np.cumsum(right[np.argsort(-scores)])
    precision, recall = hits / np.arange(1, count + 1), hits / faces
    levels = np.arange(1, faces + 1) / faces
    area = sum(max(precision[recall >= r - 1e-12], default=0) for r in levels) / faces
    assert SOLUTIONS.average_precision(scores, right, faces) == pytest.approx(area)


@pytest.mark.parametrize(("size", "late"), [(None, True), (1, False)])
def test_the_newest_frame_waits_and_the_queue_grows(size, late):
    def slow(frame):
        time.sleep(0.03)
        return frame

    def camera(frames, mailbox):
        for k, frame in enumerate(frames):
            mailbox.append((k, time.perf_counter(), frame))
            time.sleep(0.01)

    found = vars(LESSON) | {"camera": camera, "collections": collections, "threading": threading}
    watch = type(LESSON.watch)(LESSON.watch.__code__, found)
    seen = watch(range(20), size, slow)
    waited = [seconds for _, seconds, _ in seen]
    assert (
        [k for k, _, _ in seen] == [frame for _, _, frame in seen] == sorted({s[0] for s in seen})
    )
    assert (len(seen) == 20) == late and (max(waited) > 0.25) == late
    assert seen[-1][0] == 19, "the last frame is answered"


def test_the_recorded_answers_are_boxes_inside_of_their_pictures():
    answers = data.face_detector_answers()
    assert set(answers) == {*data.PHOTOS, "two faces"}
    for rows in answers.values():
        for x0, y0, x1, y1, p in rows:
            assert 0 < x0 < x1 < 600 and 0 < y0 < y1 < 500 and 0.5 < p < 1
