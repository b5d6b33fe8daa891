"""Pictures of any size become 28 x 28 pixels, or are refused; what is exact is checked exactly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from helpers import picture
from helpers.data import fashion_mnist

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(st.integers(1, 60), st.integers(1, 40))
def test_overlaps_share_each_input_out_and_fill_each_output(given_, out):
    found = picture.overlaps(given_, out)
    assert found.shape == (out, given_) and found.min() >= 0
    assert (found.sum(1) == given_).all() and (found.sum(0) == out).all()


@given(SIDES.flatmap(lambda s: arrays(np.uint8, s)), SIDES)
def test_a_small_picture_has_the_means_of_areas(gray, size):
    height, width = size
    written = gray.astype(int).repeat(height, 0).repeat(width, 1)
    means = written.reshape(height, gray.shape[0], width, gray.shape[1]).sum((1, 3))
    exact = [Fraction(int(v), gray.size) for v in means.ravel()]
    found = picture.shrink(gray, height, width).ravel().tolist()
    assert found == [int(v + Fraction(1, 2)) for v in exact]


@given(SIDES.flatmap(lambda s: arrays(np.uint8, (*s, 4))))
def test_any_picture_is_right_or_refused_by_name(rgba):
    try:
        found = picture.to_pixels(rgba)
    except ValueError as error:
        assert "nothing in the picture but background" in str(error)
    else:
        assert found.shape == (28, 28) and found.dtype == np.uint8 and found.any()


def test_gray_is_pils():
    colors = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    image = Image.fromarray(colors)
    found = picture.gray_of(np.asarray(image.convert("RGBA")))
    np.testing.assert_array_equal(found, np.asarray(image.convert("L")))


def test_the_background_may_be_bright_or_dark():
    thing = np.zeros((9, 9), np.uint8)
    thing[3:6, 2:7] = 255
    np.testing.assert_array_equal(picture.on_black(thing), thing)
    np.testing.assert_array_equal(picture.on_black(255 - thing), thing)
    assert not picture.on_black(np.full((4, 5), 255, np.uint8)).any()


def test_a_thing_fills_the_longer_side_and_stands_in_the_middle():
    gray = np.zeros((50, 90), np.uint8)
    gray[10:20, 30:70] = 200
    found = picture.fitted(gray)
    assert picture.box_of(found) == (slice(10, 17), slice(0, 28))
    assert set(found.ravel().tolist()) == {0, 200}


def test_photographs_are_drawn_from_the_generator():
    image = fashion_mnist("test").images[0]
    made = [picture.photograph(image, np.random.default_rng(1)) for _ in range(2)]
    assert made[0].shape == (200, 240) and (made[0] == made[1]).all()
    rows, columns = picture.box_of(picture.on_black(made[0]))
    assert rows.stop - rows.start < 170 and columns.stop - columns.start < 170


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.zeros((2, 2, 4)), TypeError, "rgba is float64: pass a uint8 array"),
        ([[1]], TypeError, "rgba is list"),
        (np.zeros((2, 2), np.uint8), ValueError, "has the shape"),
        (np.zeros((0, 2, 4), np.uint8), ValueError, "not empty"),
        (np.zeros((2, 2, 3), np.uint8), ValueError, "3 channels: pass image.convert"),
    ],
)
def test_what_is_no_picture_is_refused(values, error, words):
    with pytest.raises(error, match=words):
        picture.to_pixels(values)
