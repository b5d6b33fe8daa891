"""What lesson 37 writes out: formats against SciPy, products, masks, and LiteRT's blocks."""

import lzma
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lesson_code import definitions
from scipy.sparse import bsr_array, csr_array
from scipy.stats import entropy as scipys_entropy

lesson = definitions("37_sparse_files_and_speed")
solutions = definitions("solutions/37_sparse_files_and_speed")
quick = settings(max_examples=60, deadline=None)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 9))
seeds, shares = st.integers(0, 2**16), st.floats(0, 1)


def matrix(seed, shape, share):
    """float32, about this share of zeros."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * (rng.random(shape) >= share)).astype(np.float32)


# --- formats -----------------------------------------------------------------------------------


@quick
@given(seeds, shapes, shares)
def test_csr_is_scipys(seed, shape, share):
    W = matrix(seed, shape, share)
    theirs = csr_array(W)
    starts, columns, values = lesson.to_csr(W)
    assert np.array_equal(starts, theirs.indptr) and np.array_equal(columns, theirs.indices)
    assert np.array_equal(values, theirs.data) and values.dtype == np.float32


@quick
@given(seeds, shapes, shares)
def test_files_have_the_bytes_of_the_formulas(seed, shape, share):
    W = matrix(seed, shape, share)
    kept = np.count_nonzero(W)
    assert len(lesson.bitmap_file(W)) == math.ceil(W.size / 8) + 4 * kept
    assert len(lesson.csr_file(W)) == 6 * kept + 4 * (len(W) + 1)


@quick
@given(seeds, shapes, shares)
def test_a_bitmap_file_is_read_back(seed, shape, share):
    W = matrix(seed, shape, share)
    file = lesson.bitmap_file(W)
    bits = np.frombuffer(file, np.uint8, math.ceil(W.size / 8))
    values = np.frombuffer(file, np.float32, offset=len(bits))
    assert np.array_equal(solutions.from_bitmap(bits, values, shape), W)


@quick
@given(seeds, st.integers(1, 200), st.floats(0, 0.98), st.integers(1, 6))
def test_gaps_lead_back_to_the_vector(seed, n, share, b):
    w = matrix(seed, n, share)
    gaps, values = solutions.gap_code(w, b)
    places = np.cumsum(gaps + 1).astype(int) - 1
    again = np.zeros(n, np.float32)
    again[places] = values
    assert np.array_equal(again, w)
    assert len(gaps) == 0 or (gaps.min() >= 0 and gaps.max() < 2**b)
    assert (values == 0).sum() == sum(gaps[values == 0] == 2**b - 1)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9])
def test_entropy_is_scipys_and_no_compressor_beats_it_at_random(share):
    assert math.isclose(lesson.entropy(share), scipys_entropy([share, 1 - share], base=2))
    bits = np.random.default_rng(0).random(200_000) >= share
    file = lzma.compress(np.packbits(bits).tobytes())
    assert len(file) > lesson.entropy(bits.mean()) * len(bits) / 8


# --- products ----------------------------------------------------------------------------------


@quick
@given(seeds, shapes, shares)
def test_both_products_are_the_dense_one(seed, shape, share):
    W = matrix(seed, shape, share).astype(float)
    x = np.random.default_rng(seed + 1).normal(size=shape[1])
    for product in (lesson.csr_loop, lesson.csr_product):
        y = product(*lesson.to_csr(W), x)
        assert y.shape == (shape[0],) and np.allclose(y, W @ x)


# --- patterns ----------------------------------------------------------------------------------


@quick
@given(seeds, st.integers(1, 5), st.integers(1, 5), shares)
def test_blocks_stay_or_go_together_and_the_largest_stay(seed, rows, groups, share):
    w = torch.from_numpy(matrix(seed, (rows, 4 * groups), 0))
    mask = lesson.block_mask(w, share).numpy()
    blocks = mask.reshape(rows * groups, 4)
    assert (blocks == blocks[:, :1]).all()
    assert np.count_nonzero(~blocks[:, 0]) == round(share * rows * groups)
    squares = (w.numpy() ** 2).reshape(-1, 4).sum(1)
    if 0 < blocks[:, 0].sum() < len(blocks):
        assert squares[blocks[:, 0]].min() >= squares[~blocks[:, 0]].max()
    assert np.array_equal(solutions.shaped_mask(w.numpy(), share, 1, 4) == 1, mask)


@quick
@given(seeds, st.sampled_from([(1, 1), (2, 3), (4, 1), (3, 2)]), shares)
def test_a_mask_of_any_shape_has_scipys_blocks(seed, shape, share):
    r, c = shape
    w = matrix(seed, (12, 6), 0)
    mask = solutions.shaped_mask(w, share, r, c)
    number = 72 // (r * c)
    kept = bsr_array(w * mask, blocksize=shape)
    kept.eliminate_zeros()
    assert len(kept.indices) == number - round(share * number)


@quick
@given(seeds, st.integers(1, 6), st.integers(1, 6), shares)
def test_blocks_are_read_as_scipy_writes_them(seed, rows, groups, share):
    w = torch.from_numpy(matrix(seed, (rows, 4 * groups), 0))
    W = (w * lesson.block_mask(w, share)).numpy()
    theirs = bsr_array(W, blocksize=(1, 4))
    theirs.eliminate_zeros()
    read = lesson.from_blocks(theirs.indptr, theirs.indices, theirs.data.ravel(), W.shape)
    assert np.array_equal(read, W)


def test_a_pattern_keeps_what_its_mask_keeps():
    w = torch.tensor([[4.0, 3, 2, 1, 0.1, 0.2, 0.4, 0.3]])
    total = 16 + 9 + 4 + 1 + 0.01 + 0.04 + 0.16 + 0.09
    found = {name: lesson.kept(w, make) * total for name, make in patterns().items()}
    expected = {"scattered": 30, "2:4": 25 + 0.25, "1 x 4": 30}
    assert found == pytest.approx(expected, rel=1e-5)


def patterns():
    """The lesson's three patterns; the dictionary itself is computed, so it is made here."""
    from helpers import prune

    return {
        "scattered": prune.magnitude_mask,
        "2:4": lambda w, share: prune.n_m_mask(w, 2, 4),
        "1 x 4": lesson.block_mask,
    }
