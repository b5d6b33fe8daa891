"""The formats that lesson 22 builds, against NumPy, torch, scikit-learn and ai-edge-quantizer."""

import numpy as np
import pytest
import torch
from ai_edge_quantizer.transformations.transformation_utils import pack_data
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from lesson_code import definitions
from sklearn.cluster import KMeans

from helpers import quantize as Q

lesson = definitions("22_number_formats")
values = arrays.arrays(np.float64, st.integers(2, 60), elements=st.floats(-10, 10, width=32))
quick = settings(max_examples=60, deadline=None)


@quick
@given(values, st.sets(st.integers(-40, 40), min_size=1, max_size=12))
def test_nearest_is_the_nearest_of_all(x, levels):
    levels = torch.tensor(sorted(levels), dtype=torch.double) / 4
    x = torch.from_numpy(x)
    error = (lesson.nearest(x, levels) - x).abs()
    assert torch.equal(error, (levels - x[:, None]).abs().amin(1))


@quick
@given(values, st.sets(st.integers(-40, 40), min_size=2, max_size=12))
def test_a_round_of_lloyd_moves_to_the_means(x, levels):
    book = np.array(sorted(levels)) / 4
    index = np.abs(x[:, None] - book).argmin(1)
    expected = [x[index == k].mean() if (index == k).any() else book[k] for k in range(len(book))]
    moved = lesson.lloyd_round(x, book)
    borders = (book[1:] + book[:-1]) / 2
    if not np.isin(x, borders).any():  # a value on a border belongs to either
        assert np.allclose(moved, expected, atol=1e-12)

    def error(book):
        return np.square(x[:, None] - book).min(1).sum()

    assert error(moved) <= error(book) + 1e-9, "a round raises the error"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_kmeans_is_scikit_learns_and_the_helpers(seed, bits):
    x = np.random.default_rng(seed).normal(size=200).astype(np.float32).astype(np.float64)
    start = np.linspace(x.min(), x.max(), 2**bits)
    moved = start
    for _ in range(100):
        borders = (moved[1:] + moved[:-1]) / 2
        assume(len(np.unique(np.searchsorted(borders, x))) == 2**bits)  # theirs moves empty ones
        moved = lesson.lloyd_round(x, moved)
    library = KMeans(2**bits, init=start[:, None], n_init=1, tol=0).fit(x[:, None])
    book = lesson.kmeans(x, bits)
    assert np.allclose(np.sort(library.cluster_centers_[:, 0]), book, atol=1e-9)
    theirs, index = Q.kmeans_codebook(torch.from_numpy(x).float(), bits)
    assert np.allclose(theirs, book, atol=1e-6)
    again = lesson.codebook(torch.from_numpy(x).float(), bits)
    assert torch.equal(again, theirs[index.long()])


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
def test_powers_of_two_halve(bits):
    levels = lesson.powers_of_two(bits)
    positive = levels[levels > 0]
    assert len(levels) == 2**bits - 1 and levels[-1] == 1
    assert torch.equal(levels, -levels.flip(0)) and torch.equal(positive[1:], 2 * positive[:-1])


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32, allow_nan=False), st.sampled_from(sorted(lesson.FORMATS)))
def test_floats_are_torchs(value, name):
    value = float(np.clip(value, -lesson.FORMATS[name][2], lesson.FORMATS[name][2]))
    x = torch.tensor([value])
    theirs = x.to(getattr(torch, name)).float().numpy()
    ours = lesson.round_to_float(x.numpy(), name)
    assert ours.view(np.uint32) == theirs.view(np.uint32)


@pytest.mark.parametrize("name", sorted(lesson.FORMATS))
def test_formats_are_torchs(name):
    mantissa_bits, smallest, largest = lesson.FORMATS[name]
    info = torch.finfo(getattr(torch, name))
    assert info.max == largest and info.eps == 2.0**-mantissa_bits
    assert info.smallest_normal == 2.0**smallest


def test_every_float16_and_every_tie_is_numpys():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    every = every[np.isfinite(every)].astype(np.float32)
    grid = np.unique(every)
    for x in (every, (grid[1:] + grid[:-1]) / 2, np.float32([65519.9, 65520, np.inf, -np.inf])):
        with np.errstate(over="ignore"):
            ours = lesson.round_to_float(x, "float16").astype(np.float16)
            assert np.array_equal(ours.view(np.uint16), x.astype(np.float16).view(np.uint16))


def test_float8_is_scaled_to_the_largest_value():
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-6, 2000).astype(np.float32))
    assert lesson.float_sqnr(x, "float8_e4m3fn") > 30
    assert lesson.float_sqnr(x, "float8_e4m3fn") == pytest.approx(
        lesson.float_sqnr(1024 * x, "float8_e4m3fn"), abs=1e-3
    )


@quick
@given(arrays.arrays(np.int8, st.integers(2, 33), elements=st.integers(-8, 7)))
def test_packing_is_that_of_ai_edge_quantizer(q):
    packed = lesson.pack_int4(q)
    assert packed.dtype == np.uint8 and len(packed) == (len(q) + 1) // 2
    assert np.array_equal(packed, pack_data(4, q))


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_uniform_ways_are_torchs(bits):
    x = torch.from_numpy(np.random.default_rng(0).normal(size=640).astype(np.float32))
    top = 2 ** (bits - 1) - 1
    theirs = torch.fake_quantize_per_tensor_affine(x, float(x.abs().max()) / top, 0, -top - 1, top)
    assert torch.allclose(lesson.uniform(x, bits), theirs, atol=1e-6)
    rows = x.reshape(-1, 32)
    scale = rows.abs().amax(1) / top
    zeros = torch.zeros(len(rows), dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(rows, scale, zeros, 0, -top - 1, top)
    assert torch.allclose(lesson.grouped(x, bits), theirs.flatten(), atol=1e-6)
    assert Q.sqnr_db(x, lesson.uniform_mse(x, bits)) >= Q.sqnr_db(x, lesson.uniform(x, bits)) - 0.01
