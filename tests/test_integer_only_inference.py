"""The functions of lesson 43 are those of the helpers, and of LiteRT."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lesson_code import definitions
from test_twins import randomized

from helpers import fixed_point
from helpers.convert import to_tflite
from helpers.data import fashion_mnist
from helpers.integer import IntegerModel
from helpers.models import build
from helpers.tflite_file import operators

lesson = definitions("43_integer_only_inference")
SUMS = st.integers(-(2**24), 2**24)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return fashion_mnist("test").images[:6]


@pytest.fixture(scope="module")
def content(images) -> bytes:
    return to_tflite(randomized(build("TinyCNN")), "int8", images)


def pixels(images: np.ndarray) -> np.ndarray:
    return (images.astype(np.int16) - 128).astype(np.int8)[..., None]


@given(SUMS, st.floats(2.0**-25, 0.9999))
def test_the_lesson_rescales_as_the_helpers_do(total, factor):
    total = np.array([total])
    factor32 = np.float32(factor)
    assert lesson.times(total, factor) == fixed_point.rescale_twice(total, factor)
    assert lesson.times_once(total, factor) == fixed_point.rescale_in_float64(total, factor)
    assert lesson.times_float32(total, factor32) == fixed_point.rescale_in_float32(total, factor32)


def test_a_quarter_becomes_one():
    assert lesson.times(np.array([1]), 0.25) == 1
    assert lesson.times_once(np.array([1]), 0.25) == 0


@given(st.integers(-(2**40), 2**40), st.integers(8, 32))
def test_a_register_keeps_the_lowest_bits(total, bits):
    found = int(lesson.wrapped(total, bits))
    assert -(2 ** (bits - 1)) <= found < 2 ** (bits - 1)
    assert (found - total) % 2**bits == 0


@given(SUMS)
def test_so_many_bits_hold_a_number_and_no_fewer(number):
    bits = lesson.bits_of(abs(number))
    assert abs(number) < 2 ** (bits - 1)
    assert abs(number) >= 2 ** (bits - 2) or bits <= 1


def test_run_by_hand_is_the_helper(content, images):
    ours = lesson.run_by_hand(content, pixels(images))
    np.testing.assert_array_equal(ours, IntegerModel(content).run(pixels(images)))


def test_no_sum_leaves_its_bound(content, images):
    for step in operators(content):
        if step.name == "CONV_2D":
            rng = np.random.default_rng(0)
            shape = (3, *step.inputs[0].shape[1:])
            for q in (rng.integers(-128, 128, shape), np.full(shape, 127), np.full(shape, -128)):
                assert np.abs(lesson.sums(step, q.astype(np.int8))).max() <= lesson.bound(step)


def test_tensors_are_those_of_the_helper(content, images):
    theirs = lesson.all_tensors(content, pixels(images))
    ours = IntegerModel(content).activations(pixels(images))
    assert theirs.keys() == ours.keys()
    for index in ours:
        np.testing.assert_array_equal(ours[index], theirs[index])
