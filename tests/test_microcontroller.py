"""The functions of lesson 47 are those of the helpers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lesson_code import definitions

from helpers import arena, fixed_point, toolchain
from helpers.arena import Buffer
from helpers.tflite_file import operators

lesson = definitions("47_microcontroller")
compiled = pytest.mark.skipif(bool(toolchain.missing()), reason=toolchain.missing() or "there")
LIVES = st.tuples(st.integers(1, 40), st.integers(0, 6), st.integers(0, 3))


@compiled
@pytest.mark.parametrize("factor", [0.3, 0.25, 0.003, 2.0**-20, 0.9999])
def test_the_lesson_rescales_as_the_helpers_do(factor):
    sums = np.concatenate(
        [np.arange(-50, 51), np.random.default_rng(0).integers(-(2**24), 2**24, 500)]
    )
    m, shift = map(int, fixed_point.multiplier_and_shift(factor))
    twice, once = fixed_point.rescale_twice, fixed_point.rescale_in_float64
    np.testing.assert_array_equal(lesson.rescale_twice(sums, m, -shift), twice(sums, factor))
    np.testing.assert_array_equal(lesson.rescale_once(sums, m, -shift), once(sums, factor))


@compiled
def test_a_narrow_product_loses_the_upper_half():
    assert lesson.high_multiply(17, 1288490189) == 10
    assert lesson.too_narrow(17, 1288490189) == 0


@given(st.lists(LIVES, min_size=1, max_size=8))
def test_the_lesson_places_as_the_helper_does(rows):
    buffers = [Buffer(i, size, first, first + more) for i, (size, first, more) in enumerate(rows)]
    assert lesson.place([tuple(b) for b in buffers]) == arena.place(buffers)


def test_products_are_counted():
    from helpers.convert import to_tflite
    from helpers.costs import cost
    from helpers.data import fashion_mnist
    from helpers.models import build

    model = build("TinyCNN")
    steps = operators(to_tflite(model, "int8", fashion_mnist("fit").images[:5]))
    assert sum(map(lesson.macs_of, steps)) == cost(model, (1, 28, 28)).macs
