"""Calibrators against independent witnesses: an observer, brute force, and sums by hand."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import calibrate as C

ALL = [C.minmax, C.percentile, C.mse, C.entropy]
SEEDS = range(12)
seeds = st.integers(0, 2**16)


def sample(seed: int, n: int = 2000) -> torch.Tensor:
    """Of each fourth seed normal, long-tailed, after a ReLU, or with an outlier."""
    x = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    x = x + 1e-3 * x.sign()  # so that scaling ends in no subnormal number
    if seed % 4 == 1:
        x = x**3
    elif seed % 4 == 2:
        x = x.sub(0.5).relu()
    elif seed % 4 == 3:
        x[0] = 15
    return x


# --- minmax and percentile ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_minmax_is_torchs_observer(seed):
    from torch.ao.quantization import MinMaxObserver

    x = sample(seed)
    observer = MinMaxObserver()
    observer(x)
    assert C.minmax(x).tolist() == [observer.min_val, observer.max_val]


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(1, 60), st.floats(50, 100, exclude_min=True))
def test_percentile_is_numpys_nearest_rank(seed, n, percent):
    x = sample(seed, n)
    share = [(100 - percent) / 200]
    low = np.quantile(x.double().numpy(), share, method="nearest")
    high = -np.quantile(-x.double().numpy(), share, method="nearest")  # as many at either end
    assert C.percentile(x, percent).tolist() == [*low, *high]


@pytest.mark.parametrize(
    ("percent", "cut"), [(100, 0), (99.5, 0), (99, 0), (98.9, 1), (98, 1), (90, 5), (50.1, 25)]
)
def test_percentile_cuts_as_many_at_either_end(percent, cut):
    """Of 101 values each is 1 %: 0.5 rounds to the even 0, 0.55 to 1."""
    x = torch.arange(101.0)[torch.randperm(101, generator=torch.Generator().manual_seed(0))]
    assert C.percentile(x, percent).tolist() == [cut, 100 - cut]


def test_percentile_is_999_of_1000_unless_told():
    x = torch.arange(10_001.0)
    assert C.percentile(x).tolist() == [5, 9995]


@pytest.mark.parametrize("percent", [50, 0, -1, 100.1, float("nan")])
def test_percent_is_checked(percent):
    with pytest.raises(ValueError, match=f"percent is {percent}: choose a number above 50, up to"):
        C.percentile([1.0], percent)


# --- the least squared error -------------------------------------------------------------------


def rounded(x: np.ndarray, low: float, high: float, bits: int, symmetric: bool) -> np.ndarray:
    """Fake quantization in float64, from its definition."""
    low, high = min(low, 0), max(high, 0)
    if symmetric:
        steps = 2 ** (bits - 1) - 1
        step = max(-low, high) / steps
        return np.clip(np.rint(x / step), -steps - 1, steps) * step
    step = (high - low) / (2**bits - 1)
    first = np.rint(low / step)
    return np.clip(np.rint(x / step), first, first + 2**bits - 1) * step


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_mse_is_the_best_of_its_fractions_by_brute_force(seed, symmetric):
    x, bits, count = sample(seed, 500), 2 + seed % 5, 10 + 15 * (seed % 3)
    widest = np.array([float(x.min()), float(x.max())])
    errors = [
        np.square(rounded(x.double().numpy(), *(widest * i / count), bits, symmetric) - x.numpy())
        for i in range(1, count + 1)
    ]
    errors = [error.sum() for error in errors]
    found = C.mse(x, bits=bits, symmetric=symmetric, count=count)
    i = round(float(found[1] / x.max()) * count)
    torch.testing.assert_close(found, C.minmax(x) * i / count)
    assert errors[i - 1] <= min(errors) * (1 + 1e-4)
    assert max(errors) > 2 * min(errors), "it matters which"


def test_mse_has_documented_defaults():
    x = sample(0, 20_000)
    options = dict(bits=8, symmetric=False, signed=True, count=100)
    assert torch.equal(C.mse(x), C.mse(x, **options))
    for other in (dict(bits=7), dict(bits=9), dict(symmetric=True), dict(count=99)):
        assert not torch.equal(C.mse(x), C.mse(x, **options | other)), other


def test_mse_tries_the_whole_range_and_the_smallest_fraction():
    evenly = torch.linspace(0, 255, 256)
    assert torch.equal(C.mse(evenly), C.minmax(evenly)), "each value is a level"
    # one bit: 0 and the end; one step is right for all 20,000 ones, and 99 off for the outlier
    x = torch.cat([torch.ones(20_000), torch.tensor([100.0])])
    assert C.mse(x, bits=1)[1] == 1
    assert C.mse([3.0, 1.0], count=1).tolist() == [1, 3]


def test_unsigned_mse():
    x = sample(2)
    assert torch.equal(C.mse(x, signed=False, bits=3), C.mse(x, bits=3)), "as many levels"
    found = [C.mse(x, bits=3, symmetric=True, signed=signed)[1] for signed in (True, False)]
    assert found[0] < found[1], "with a sign, half the levels are lost and more is clipped"
    with pytest.raises(ValueError, match="no room for negative"):
        C.mse([-1.0, 1.0], symmetric=True, signed=False)


def test_the_best_fraction_is_found_for_each_row():
    rows = torch.tensor([[0.1, 0.2, 0.3, 9.0], [1.0, 2.0, 2.0, 5.0]])
    ends = torch.tensor([[10.0], [10.0]])
    best = C.best_fraction(rows, lambda fraction: rows.clamp(max=fraction * ends), 10)
    torch.testing.assert_close(best, torch.tensor([[0.9], [0.5]]))
    assert torch.equal(C.best_fraction(rows, lambda f: 0 * rows, 4), torch.full((2, 1), 0.25))
    assert torch.equal(C.best_fraction(rows, lambda f: rows * f, 1), torch.ones(2, 1))
    tried = []
    C.best_fraction(rows, lambda f: tried.append(float(f)) or rows)
    assert tried == torch.arange(1, 101).div(100).tolist(), "a hundred fractions unless told"


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(-149, 127))
def test_units_keep_the_digits_and_bring_the_largest_to_one_or_more(seed, exponent):
    rows = torch.stack([sample(seed, 9), torch.zeros(9)])
    rows = (
        rows / rows.abs().max().clamp(min=1e-9) * 2.0 ** min(exponent, 126) * 2 ** (exponent > 126)
    ).float()
    units, powers = C.unit(rows)
    assert powers[1] == 1 and not units[1].any()
    if rows.any():
        assert 1 <= units[0].abs().max() < 2
        assert torch.equal(units.double() * powers.double(), rows.double())
        assert np.frexp(powers[0].item())[0] == 0.5


# --- entropy -----------------------------------------------------------------------------------


def migacz(counts: list[int], levels: int) -> int:
    """How many bins to keep: the search of Migacz 2017, slides 38 to 40, one number at a time."""
    best, kept = np.inf, len(counts)
    for n in range(levels, len(counts) + 1, max(1, levels // 16)):
        reference = [float(c) for c in counts[:n]]
        reference[-1] += sum(counts[n:])
        candidate = [0.0] * n
        for level in range(levels):
            inside = [i for i in range(n) if i * levels // n == level and counts[i]]
            for i in inside:
                candidate[i] = sum(counts[j] for j in inside) / len(inside)
        divergence = 0.0
        for p, q in zip(reference, candidate, strict=True):
            if p and not q:
                divergence = np.inf
            elif p:
                p, q = p / sum(reference), q / sum(candidate)
                divergence += p * np.log(p / q)
        if divergence < best:
            best, kept = divergence, n
    return kept


def spread(counts: list[int], seed: int, top: float) -> torch.Tensor:
    """Values of random sign with this histogram of sizes, none near an edge but the largest."""
    rng = np.random.default_rng(seed)
    bins = np.repeat(np.arange(len(counts)), counts)
    sizes = (bins + rng.uniform(0.2, 0.8, len(bins))) * top / len(counts)
    sizes[-1] = top
    return torch.from_numpy(rng.permutation(sizes * rng.choice([-1, 1], len(sizes)))).float()


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("seed", range(6))
def test_entropy_is_the_search_of_its_author(seed, bits):
    rng = np.random.default_rng(seed)
    falling = 200 * np.exp(-np.linspace(0, rng.uniform(3, 9), 128))
    counts = rng.poisson(falling * rng.choice([0, 1], 128, p=[0.1, 0.9]))
    counts[-1] += 1
    top = float(rng.uniform(0.5, 20))
    x = spread(counts.tolist(), seed, top)
    kept = migacz(counts.tolist(), max(2 ** (bits - 1), 2))
    found = C.entropy(x, bits=bits, bins=128)
    torch.testing.assert_close(found, C.minmax(x).clamp(-top * kept / 128, top * kept / 128))


def test_the_search_clips_somewhere():
    """So that the test above compares more than the whole range."""
    counts = [60, 30, 15, 8, 4, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    assert 2 < migacz(counts, 2) < 16


def test_entropy_by_hand():
    """Bins of width 1 with 6, 2, 1 and 1 values, two levels.

    Two bins: P = (6, 4)/10, Q = (6, 2)/8: 0.6 ln 0.8 + 0.4 ln 1.6 = 0.054.
    Three: the third gets the tail, P = (6, 2, 2)/10; Q = (4, 4, 1)/9: 0.138.
    Four: P = (6, 2, 1, 1)/10; Q = (4, 4, 1, 1)/10: 0.105. So two bins are kept, up to 2.
    """
    x = [0.5] * 6 + [1.5] * 2 + [2.5, 4.0]
    assert C.entropy(x, bits=2, bins=4).tolist() == [0.5, 2.0]
    assert C.entropy([-v for v in x], bits=2, bins=4).tolist() == [-2.0, -0.5]


def test_entropy_by_hand_skips_a_range_whose_last_bin_is_empty():
    """6, 6, 0 and 1 values. Two bins: P = (6, 7)/13, Q = (1, 1)/2, 0.003. Three: the tail of 1 has
    gone to a bin that Q leaves at 0, infinite. Four: Q = (6, 6, 0, 1)/13 = P, and nothing is lost.
    """
    x = [0.5] * 6 + [1.5] * 6 + [4.0]
    assert C.entropy(x, bits=2, bins=4).tolist() == [0.5, 4.0]


def test_entropy_has_documented_defaults():
    x = sample(9, 5000)
    assert torch.equal(C.entropy(x), C.entropy(x, bits=8, bins=2048))
    for other in (dict(bits=7), dict(bits=9), dict(bins=2047), dict(bins=2049)):
        assert not torch.equal(C.entropy(x), C.entropy(x, **other)), other


def test_entropy_counts_no_zeros():
    x = sample(0)
    zeros = torch.zeros(len(x) * 5)
    assert torch.equal(C.entropy(torch.cat([x, zeros])), C.entropy(x))
    low, high = C.entropy(torch.cat([sample(2), zeros]), bits=4)
    assert low == 0 and high > 0.4 * sample(2).max(), "the range of a ReLU keeps 0"


def test_entropy_clips_nothing_with_as_many_levels_as_bins():
    x = sample(3)
    assert torch.equal(C.entropy(x, bits=12, bins=2048), C.minmax(x))
    assert torch.equal(C.entropy(x, bits=16), C.minmax(x))
    assert torch.equal(C.entropy(x, bits=1, bins=2), C.minmax(x))
    assert not torch.equal(C.entropy(sample(0), bits=2, bins=3), C.minmax(sample(0)))
    assert torch.equal(C.entropy([2.0], bits=4), torch.tensor([2.0, 2.0]))


# --- all four ----------------------------------------------------------------------------------


@pytest.mark.parametrize("calibrate", ALL)
def test_a_calibrated_range_lies_inside(calibrate):
    x = sample(3, 4000)
    low, high = calibrate(x)
    assert x.min() <= low < 0 < high <= x.max()
    assert calibrate(torch.zeros(5)).tolist() == [0, 0]
    assert calibrate([7.0]).dtype == torch.float32


def test_an_outlier_is_clipped_where_it_pays():
    x = sample(3, 20000)

    def error(window, bits):
        found = rounded(x.numpy(), *window.tolist(), bits, False)
        return np.square(x.numpy() - found).sum()

    assert error(C.mse(x, bits=4), 4) <= error(C.minmax(x), 4) / 2
    assert C.percentile(x, 99.9)[1] < 4 and C.entropy(x)[1] < 8
    assert torch.equal(C.percentile(x, 100), C.minmax(x))


@pytest.mark.parametrize("calibrate", ALL)
@settings(max_examples=25, deadline=None)
@given(seed=seeds, exponent=st.integers(-100, 110))
def test_scaling_by_a_power_of_two_scales_the_range(calibrate, seed, exponent):
    x, factor = sample(seed, 200), 2.0**exponent
    assert torch.equal(calibrate(x * factor), calibrate(x) * factor)


@pytest.mark.parametrize("calibrate", ALL)
@pytest.mark.parametrize("factor", [1e-36, 1e-30, 1e-9, 1e9, 1e30, 1e36])
def test_scaling_by_any_number_scales_the_range(calibrate, factor):
    for seed in range(4):
        x = sample(seed, 400)
        torch.testing.assert_close(calibrate(x * factor), calibrate(x) * factor, rtol=1e-5, atol=0)


@pytest.mark.parametrize("calibrate", ALL)
@pytest.mark.parametrize("value", [1e-45, 1e-39, -3e38, 3.4e38])
def test_the_ends_of_float32_are_ranges(calibrate, value):
    low, high = calibrate([value, 0.0, value])
    assert min(value, 0) <= low <= high <= max(value, 0)


@pytest.mark.parametrize("calibrate", ALL)
@pytest.mark.parametrize("dtype", [np.float16, ">f4", ">f8"])
def test_arrays_of_any_layout_are_taken(calibrate, dtype):
    x = sample(1, 60).clamp(-4, 4).numpy().astype(dtype).reshape(6, 10)
    expected = calibrate(torch.tensor(x.astype(np.float32)))
    frozen = x.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (x[::-1, ::-1], np.asfortranarray(x), x.T, frozen, x.astype(float).tolist()):
            assert torch.equal(calibrate(same), expected)


@pytest.mark.parametrize("calibrate", ALL)
def test_nothing_hangs_on_a_graph(calibrate):
    weight = torch.nn.Parameter(sample(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not calibrate(weight).requires_grad
        assert torch.equal(calibrate(weight.bfloat16()), calibrate(weight.bfloat16().float()))


@pytest.mark.parametrize("calibrate", ALL)
@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([1.0, float("nan")], ValueError, "x holds NaN"),
        ([1.0, float("inf")], ValueError, "x holds NaN or what float32 calls infinity"),
        ([], ValueError, "x is empty"),
        ([1, 2], TypeError, "pass real numbers"),
    ],
)
def test_what_has_no_range_is_refused(calibrate, x, error, words):
    with pytest.raises(error, match=words):
        calibrate(x)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: C.mse([1.0], bits=0), ValueError, "bits is 0"),
        (lambda: C.mse([1.0], bits=17), ValueError, "bits is 17"),
        (lambda: C.mse([1.0], count=0), ValueError, "count is 0"),
        (lambda: C.mse([1.0], count=2.5), TypeError, "count is 2.5"),
        (lambda: C.entropy([1.0], bits=0), ValueError, "bits is 0"),
        (lambda: C.entropy([1.0], bits=17), ValueError, "bits is 17"),
        (lambda: C.entropy([1.0], bins=0), ValueError, "bins is 0"),
        (lambda: C.entropy([1.0], bins=9.5), TypeError, "bins is 9.5"),
    ],
)
def test_settings_are_checked(call, error, words):
    with pytest.raises(error, match=words):
        call()
