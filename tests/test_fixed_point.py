"""Rescaling in integers is what exact fractions say."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import fixed_point as fp

INT32 = st.integers(-(2**31), 2**31 - 1)
FACTORS = st.floats(2.0**-30, 0.99999)


def half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def half_away(x: Fraction) -> int:
    return half_up(x) if x >= 0 else ceil(x - Fraction(1, 2))


@given(st.floats(2.0**-31, 2.0**20))
def test_a_factor_keeps_31_bits(factor):
    multiplier, shift = fp.multiplier_and_shift(factor)
    assert 2**30 <= multiplier < 2**31
    stored = Fraction(int(multiplier)) * Fraction(2) ** (int(shift) - 31)
    assert abs(stored - Fraction(factor)) <= Fraction(factor) / 2**31


@pytest.mark.parametrize("factor", [0.0, 2.0**-33, 1e-40])
def test_a_factor_that_moves_every_bit_out_is_zero(factor):
    assert fp.multiplier_and_shift(factor) == (0, 0)


def test_a_fraction_that_rounds_up_to_one_is_carried():
    multiplier, shift = fp.multiplier_and_shift(np.nextafter(1.0, 0))
    assert (multiplier, shift) == (2**30, 1)


@given(INT32, st.integers(0, 2**31 - 1))
def test_the_high_multiply_rounds_halves_upwards(x, multiplier):
    found = fp.doubling_high_multiply(np.int64(x), np.int64(multiplier))
    assert found == half_up(Fraction(x * multiplier, 2**31))


@given(INT32, st.integers(0, 31))
def test_the_right_shift_rounds_halves_away_from_zero(x, places):
    assert fp.rounding_right_shift(np.int64(x), places) == half_away(Fraction(x, 2**places))


@given(st.integers(-(2**24), 2**24), FACTORS)
def test_rounding_twice_is_at_most_one_half_and_a_bit_off(x, factor):
    multiplier, shift = map(int, fp.multiplier_and_shift(factor))
    first = half_up(Fraction(x * multiplier, 2**31))
    assert fp.rescale_twice(np.array([x]), factor) == half_away(Fraction(first, 2**-shift))


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 100.0))
def test_rounding_once_is_the_nearest_integer(x, factor):
    product = x * factor  # rounded to float64, as C rounds it
    assert fp.rescale_in_float64(np.array([x]), factor) == half_away(Fraction(product))


@given(st.integers(-(2**24), 2**24), st.floats(2.0**-20, 100.0, width=32))
def test_float32_rounds_halves_to_even(x, factor):
    product = np.float32(x) * np.float32(factor)
    assert fp.rescale_in_float32(np.array([x]), factor) == round(Fraction(float(product)))


def test_a_factor_for_each_channel():
    x = np.arange(-6, 6).reshape(2, 6)
    factor = np.array([0.25, 0.5, 1.0, 2.0, 0.75, 0.1])
    for rescale in (fp.rescale_twice, fp.rescale_in_float64, fp.rescale_in_float32):
        one_by_one = [[rescale(v, f) for v, f in zip(row, factor, strict=True)] for row in x]
        np.testing.assert_array_equal(rescale(x, factor), one_by_one)
