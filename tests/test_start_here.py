"""The functions that lesson 00 and its solutions write out, against SciPy and torch."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions

lesson = definitions("00_start_here")
solution = definitions("solutions/00_start_here")
quick = settings(max_examples=50, deadline=None)
shapes = arrays.array_shapes(max_dims=3, max_side=6)


@quick
@given(
    arrays.arrays(
        float, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-1e6, 1e6)
    )
)
def test_softmax_is_scipys(y):
    np.testing.assert_allclose(
        lesson.softmax(y), scipy.special.softmax(y, axis=1), rtol=1e-9, atol=1e-300
    )


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@quick
@given(arrays.arrays(np.int8, shapes), st.floats(2.0**-20, 2.0**20), st.integers(-128, 127))
def test_to_real_is_torchs_dequantization(q, scale, zero_point):
    integers = torch.from_numpy(q)
    theirs = torch._make_per_tensor_quantized_tensor(integers, scale, zero_point).dequantize()
    np.testing.assert_allclose(lesson.to_real(q, scale, zero_point), theirs.numpy(), rtol=1e-6)


@quick
@given(arrays.arrays(np.uint8, shapes))
def test_to_int8_is_the_way_in(pixels):
    q = solution.to_int8(pixels)
    assert q.dtype == np.int8 and q.shape == pixels.shape
    np.testing.assert_allclose(lesson.to_real(q, 1 / 255, -128), pixels / 255, atol=1e-12)


@quick
@given(st.integers(0, 60), st.integers(0, 60))
def test_p_value_is_scipys_exact_test(n01, n10):
    expected = scipy.stats.binomtest(n01, n01 + n10).pvalue if n01 + n10 else 1.0
    assert solution.p_value(n01, n10) == pytest.approx(expected, rel=1e-9)
