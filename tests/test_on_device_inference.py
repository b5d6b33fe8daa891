"""What a reader of lessons 40 and 44 sees and writes, against brute force and closed forms."""

import io
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.convert import to_tflite
from helpers.costs import cost
from helpers.data import fashion_mnist
from helpers.models import load
from helpers.runtime import open_model
from tools.lesson_code import definitions

MEASURING = definitions("40_measuring_on_a_device")
INFERENCE = definitions("44_on_device_inference")
SOLUTIONS = definitions("solutions/44_on_device_inference")
IMAGES = fashion_mnist("validation").images[:40]


# --- 40 ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=5), st.sampled_from([0.25, 1.0, 2.0]))
def test_expected_ties_are_those_of_a_grid_at_every_place(leads, step):
    places = (np.arange(2000)[:, None] + 0.5) / 2000 * step
    tied = np.floor(places / step) == np.floor((places + leads) / step)
    found = MEASURING.expected_ties(np.array(leads), step)
    assert found == pytest.approx(tied.mean(0).sum(), abs=2e-3 * len(leads))


def test_lead_is_the_largest_minus_the_second():
    z = np.random.default_rng(0).normal(size=(50, 10))
    expected = [sorted(row)[-1] - sorted(row)[-2] for row in z]
    np.testing.assert_allclose(MEASURING.lead(z), expected)
    assert MEASURING.lead(np.array([[2.0, 2.0, 1.0]]))[0] == 0


def test_exact_sums_are_what_the_file_rounds():
    content = to_tflite(load("TinyCNN"), "int8", IMAGES)
    exact, found = MEASURING.before_rounding(content, IMAGES), open_model(content).predict(IMAGES)
    step = MEASURING.operators(content)[-1].outputs[0].scales[0]
    inside = (found > found.min()) & (found < found.max())
    assert np.abs(exact - found)[inside].max() < 0.51 * step


def test_a_photograph_comes_back_as_the_image():
    for i in (0, 7):
        jpeg = MEASURING.photograph(IMAGES[i], seed=i, noise=0.0)
        assert Image.open(io.BytesIO(jpeg)).size == (640, 480)
        whole = MEASURING.darken(MEASURING.shrink(MEASURING.gray(MEASURING.decode(jpeg))))
        MEASURING.__globals__["SMALL"] = tuple(v / 8 for v in MEASURING.BOX)
        small = MEASURING.darken(MEASURING.shrink_small(MEASURING.decode_small(jpeg)))
        for found in (whole, small):
            assert found.shape == (28, 28) and found.dtype == np.uint8
            assert np.abs(found.astype(int) - IMAGES[i]).mean() < 12


def test_integers_are_what_open_model_reads():
    model = open_model(to_tflite(load("TinyCNN"), "int8", IMAGES))
    names = MEASURING.__globals__
    names["scale"], names["zero_point"] = model.input_quantization
    np.testing.assert_array_equal(MEASURING.integers(IMAGES[3]), model.as_read(IMAGES[3:4])[0])


@pytest.mark.parametrize(("p", "k", "expected"), [(0.2, 4, 1 / 0.85), (1, 3, 3), (0, 9, 1)])
def test_amdahl(p, k, expected):
    assert MEASURING.amdahl(p, k) == pytest.approx(expected)


def test_readings_and_load():
    calls = []
    assert len(MEASURING.readings(lambda: calls.append(1), 7)) == 7 and len(calls) == 7
    with MEASURING.load():
        pass
    with pytest.raises(KeyError), MEASURING.load():
        raise KeyError


# --- 44 ----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_instructions_add_up_to_the_dot_product(seed):
    rng = np.random.default_rng(seed)
    x, w = rng.integers(0, 256, 32, np.uint8), rng.integers(-127, 128, 32).astype(np.int8)
    exact = int(np.dot(x.astype(int), w))
    sums = rng.integers(-1000, 1000, 8).astype(np.int32)
    assert INFERENCE.dpbusd(sums, x, w).sum() - sums.sum() == exact
    halves = [
        INFERENCE.madd(x[s].astype(np.int16), w[s].astype(np.int16))
        for s in (slice(16), slice(16, 32))
    ]
    assert sum(half.sum() for half in halves) == exact
    assert all(half.shape == (8,) for half in halves)


def test_a_tile_counted_one_by_one():
    for r, g, a, m, v in INFERENCE.KERNELS.values():
        spent = a * r + g
        done = 0
        for _ in product(range(r), range(g)):
            spent, done = spent + m, done + v
        assert INFERENCE.per_instruction(r, g, a, m, v) == pytest.approx(done / spent)


def test_kernels_keep_their_sums_in_registers():
    for name, (r, g, *_) in INFERENCE.KERNELS.items():
        assert r * g + min(r, g) + 1 <= (32 if "512" in name else 16), name


def test_best_tile_against_all_tiles():
    for registers, a in ((16, 1), (32, 2), (24, 3)):
        found = SOLUTIONS.best_tile(registers, a)
        rates = {
            (r, g): INFERENCE.per_instruction(r, g, a, 1, 8)
            for r, g in product(range(1, registers), repeat=2)
            if r * g + r + 1 <= registers
        }
        assert rates[found] == pytest.approx(max(rates.values()))


def test_front_is_what_nothing_beats():
    rng = np.random.default_rng(44)
    costs, scores = rng.integers(1, 9, 40).astype(float), rng.integers(80, 95, 40).astype(float)
    on = set(INFERENCE.front(costs, scores).tolist())
    for i in range(40):
        beaten = (
            (costs <= costs[i])
            & (scores >= scores[i])
            & ((costs < costs[i]) | (scores > scores[i]))
        )
        assert i not in on or not beaten.any()
        if not beaten.any():
            same = {j for j in range(40) if (costs[j], scores[j]) == (costs[i], scores[i])}
            assert same & on


def test_fits_leaves_room_for_the_program():
    assert INFERENCE.fits(1024 * 36, 1024 * 12, 20, 100)
    assert not INFERENCE.fits(1024 * 36 + 1, 1024 * 12, 20, 100)
    assert not INFERENCE.fits(1024 * 36, 1024 * 12 + 1, 20, 100)


def test_mean_power_second_by_second():
    on, off, sensor = 0.01, 1e-5, 1e-3
    busy = np.arange(1_000_000) % 20_000 < 100  # 0.1 ms in 20 ms, by microseconds
    expected = np.where(busy, on, off).mean() + sensor
    assert INFERENCE.mean_power(50, 1e-4, on, off, sensor) == pytest.approx(expected)
    assert INFERENCE.days(0.24, 0.01) == pytest.approx(1)


def test_unpacked_networks_have_the_files_weights():
    for name in INFERENCE.PACKED:
        network = INFERENCE.unpacked(name)
        state = INFERENCE.codec.decode(INFERENCE.models.compressed(name))
        assert all((network.state_dict()[key] == values).all() for key, values in state.items())


def test_weight_only_files_hold_int8_weights_and_compute_in_float():
    content = to_tflite(load("TinyCNN"), "float32")
    small = INFERENCE.weight_only(content)
    assert len(small) < 0.45 * len(content)
    assert open_model(small).input_quantization == (0.0, 0)
    found, exact = open_model(small).predict(IMAGES), open_model(content).predict(IMAGES)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
    assert (found.argmax(1) == exact.argmax(1)).mean() > 0.9


def test_the_small_networks_have_the_shares_that_the_lesson_names():
    whole, new = (cost(load(name), (1, 28, 28)) for name in ("ResNet8", "ResNet7"))
    assert (round(100 * new.params / whole.params), round(100 * new.macs / whole.macs)) == (69, 19)
    for name in ("ResNet7", "TinyCNN_distilled", "SearchedCNN"):
        assert 0.095 < cost(load(name), (1, 28, 28)).macs / whole.macs < 0.2
