"""Costs against counts by hand, times against a clock that the test sets, accuracy by SciPy."""

import gc
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from helpers import measure
from helpers.measure import (
    accuracy_interval,
    compare_accuracy,
    compare_latency,
    cost,
    latency,
    layer_costs,
)
from helpers.models import NAMES, build


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Two threads wait for each other where other work holds a core: 20 times as long, measured."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


IMAGE, WINDOW = (1, 28, 28), (100, 6)


def shape_of(name):
    return WINDOW if name.startswith("Sensor") else IMAGE


def block(channels_in, channels_out, size):
    """MACs of a residual block whose output is size x size."""
    first = 9 * channels_in * channels_out * size**2
    second = 9 * channels_out**2 * size**2
    return first + second + (channels_in != channels_out) * channels_in * channels_out * size**2


def residual(width, blocks):
    """MACs of a residual network: 3x3 stem, blocks of (in, out, size), linear layer."""
    return 9 * width * 28**2 + sum(block(*b) for b in blocks) + blocks[-1][1] * 10


MACS = {
    "LeNet300": 784 * 300 + 300 * 100 + 100 * 10,
    "LeNet5": 20 * 25 * 24**2 + 50 * 20 * 25 * 8**2 + 800 * 500 + 500 * 10,
    "TinyCNN": 16 * 9 * 28**2 + 24 * 16 * 9 * 14**2 + 48 * 24 * 9 * 7**2 + 48 * 10,
    "ResNet8": residual(16, [(16, 16, 28), (16, 32, 14), (32, 64, 7)]),
    "WideResNet": residual(32, [(32, 64, 14), (64, 64, 14), (64, 128, 7), (128, 128, 7)]),
    "SensorGRU": 100 * 3 * (6 * 32 + 32 * 32) + 32 * 7,
    "SensorLSTM": 100 * 4 * (6 * 32 + 32 * 32) + 32 * 7,
}
PEAK = {  # float32: 4 bytes
    "LeNet300": 4 * (784 + 300),
    "LeNet5": 4 * (20 * 24**2 + 20 * 12**2),  # around the first pooling
    "TinyCNN": 4 * (16 * 28**2 + 16 * 14**2),
    "ResNet8": 4 * 3 * 16 * 28**2,  # shortcut, input and output of a convolution, or of the sum
    "WideResNet": 4 * (32 * 28**2 + 2 * 64 * 14**2),  # in the first block, as above
    "SensorGRU": 4 * (100 * 6 + 100 * 32 + 32),  # input, all outputs, last state
    "SensorLSTM": 4 * (100 * 6 + 100 * 32 + 32 + 32),
}


@pytest.mark.parametrize("name", NAMES)
def test_cost_of_every_model_is_the_count_by_hand(name):
    model = build(name)
    found = cost(model, shape_of(name))
    state = model.state_dict().values()
    assert found.params == sum(p.numel() for p in model.parameters())
    assert found.macs == MACS[name]
    assert found.weight_bytes == 4 * sum(t.numel() for t in state if t.is_floating_point())
    assert found.peak_activation_bytes == PEAK[name]


def test_known_parameter_counts():
    assert cost(build("LeNet300"), IMAGE).params == 266_610  # Han et al. 2016: 266 K, 431 K
    assert cost(build("LeNet5"), IMAGE).params == 431_080


@pytest.mark.parametrize("name", NAMES)
def test_layers_add_up_and_have_the_names_of_the_model(name):
    model = build(name)
    rows = layer_costs(model, shape_of(name))
    total = cost(model, shape_of(name))
    assert sum(row.params for row in rows) == total.params
    assert sum(row.macs for row in rows) == total.macs
    for row in rows:
        assert row.kind == type(model.get_submodule(row.name)).__name__


def test_layer_costs_row():
    rows = layer_costs(build("ResNet8"), IMAGE)
    found = next(row for row in rows if row.name == "4.body.0")
    assert found == measure.LayerCost("4.body.0", "Conv2d", (32, 14, 14), 32 * 16 * 9, 903_168)
    assert rows[0].name == "0" and rows[-1].kind == "Linear"


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), (8, 10, 10), 8 * 9 * 100),  # depthwise
        (nn.Conv2d(8, 12, 3, groups=4), (8, 10, 10), 12 * 2 * 9 * 64),
        (nn.Conv2d(3, 5, (1, 3), stride=2, bias=False), (3, 9, 9), 5 * 3 * 3 * 5 * 4),
        (nn.Conv2d(3, 5, 3, dilation=2), (3, 9, 9), 5 * 3 * 9 * 25),
        (nn.Conv1d(6, 4, 5), (6, 20), 4 * 6 * 5 * 16),
        (nn.Conv1d(6, 6, 5, groups=6), (6, 20), 6 * 5 * 16),
        (nn.Linear(6, 7), (6,), 6 * 7),
        (nn.Linear(6, 7), (20, 6), 20 * 6 * 7),  # at each time step
        (nn.RNN(6, 5, batch_first=True), (20, 6), 20 * (6 * 5 + 5 * 5)),
        (nn.GRU(6, 5, batch_first=True), (20, 6), 20 * 3 * (6 * 5 + 5 * 5)),
        (nn.LSTM(6, 5, batch_first=True), (20, 6), 20 * 4 * (6 * 5 + 5 * 5)),
        (
            nn.GRU(6, 5, num_layers=2, bidirectional=True, batch_first=True),
            (20, 6),
            20 * 2 * 3 * ((6 * 5 + 5 * 5) + (10 * 5 + 5 * 5)),
        ),
        (
            nn.LSTM(6, 5, num_layers=3, bias=False, batch_first=True),
            (20, 6),
            20 * 4 * ((6 * 5 + 5 * 5) + 2 * (5 * 5 + 5 * 5)),
        ),
        (nn.LSTM(6, 5, proj_size=2, batch_first=True), (20, 6), 20 * (4 * 5 * (6 + 2) + 5 * 2)),
        (nn.BatchNorm2d(3), (3, 4, 4), 0),
    ],
)
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_macs_of_single_layers(layer, shape, macs):
    assert cost(layer, shape).macs == macs
    assert cost(layer, shape).params == sum(p.numel() for p in layer.parameters())


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.bn, self.head = nn.BatchNorm2d(4), nn.Linear(4, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = (self.bn(self.a(x)) + x).relu()
        return self.head(x.mean((2, 3)))


class Forward(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(4, 1, 3, 3))

    def forward(self, x):
        return self.function(x, self.weight)


MAP = 4 * 8 * 8  # bytes of one 8 x 8 map of float32


@pytest.mark.parametrize(
    ("model", "maps"),
    [
        (Residual(), 3 * 4),  # the sum reads two tensors and writes a third
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), 1 + 4),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 6, 1), nn.ReLU()), 4 + 6),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 1)), 4 + 6),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Softplus(), nn.Flatten()), 4 + 4),  # not in place
        (Forward(lambda x, w: torch.relu(x)), 1),  # in place on the input itself
        (Forward(lambda x, w: torch.relu(x) + x), 3),  # x is read again: not in place
        (Forward(lambda x, w: torch.relu(x.flatten(1)).view(1, 8, 8)), 1),  # views
        (Forward(lambda x, w: torch.cat([x * 2, x * 3, x * 4], 1)), 3 + 3),
        (Forward(lambda x, w: x + 1 + w.sum()), 2),  # what depends on weights alone is a weight
        (Forward(lambda x, w: (x * 2).argmax(1).float() + 1), 2),  # integers are not counted
        (Forward(lambda x, w: torch.stack((x * 2).chunk(2, 2))), 2),  # chunks are views
    ],
)
def test_peak_activations_by_hand(model, maps):
    assert cost(model, (1, 8, 8)).peak_activation_bytes == maps * MAP


def test_a_long_shortcut_stays_alive():
    def function(x, w):
        y = x.repeat(1, 3, 1, 1)  # 3 maps beside x
        return y.mean((1, 2, 3)) + x.mean((1, 2, 3))

    assert cost(Forward(function), (1, 8, 8)).peak_activation_bytes == 4 * MAP + 4  # and y's mean
    assert cost(Forward(lambda x, w: x * 2 * 2 * 2 + x), (1, 8, 8)).peak_activation_bytes == 3 * MAP


def test_functional_layers_count_their_macs():
    conv = Forward(lambda x, w: nn.functional.conv2d(x, w * 2, padding=1))
    assert cost(conv, (1, 8, 8)).macs == 4 * 9 * 64
    assert layer_costs(conv, (1, 8, 8))[0].output_shape == (4, 8, 8)


def test_a_shared_layer_counts_its_parameters_once_and_its_macs_twice():
    layer = nn.Linear(5, 5)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert (cost(model, (5,)).params, cost(model, (5,)).macs) == (30, 50)
    assert len(layer_costs(model, (5,))) == 1


def test_a_subclass_that_changes_its_weights_is_still_a_layer():
    class Rounded(nn.Conv2d):
        def forward(self, x):
            if float(self.weight.detach().abs().max()) < 0:  # torch.fx could not follow into this
                return x
            return self._conv_forward(x, torch.round(self.weight), self.bias)

    assert cost(nn.Sequential(Rounded(1, 4, 3)), (1, 8, 8)).macs == 4 * 9 * 36


def test_half_precision_and_memory_format():
    model = build("TinyCNN")
    last = build("TinyCNN").to(memory_format=torch.channels_last)
    assert cost(last, IMAGE) == cost(model, IMAGE)
    half = cost(build("LeNet300").bfloat16(), IMAGE)
    assert (half.weight_bytes, half.peak_activation_bytes) == (2 * 266_610, PEAK["LeNet300"] // 2)


@pytest.mark.parametrize("training", [True, False])
def test_cost_leaves_the_model_as_it_was(training):
    model = build("ResNet8").train(training)
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    cost(model, IMAGE)
    with pytest.raises(ValueError, match="refuses"):
        cost(model, (2, 28, 28))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        (28, TypeError, "integers"),
        ((1, 28.0, 28), TypeError, "28.0"),
        ("abc", TypeError, "integers"),
        ((), ValueError, "without the batch"),
        ((1, 0, 28), ValueError, ">= 1"),
        ((3, 28, 28), ValueError, r"ResNet8 refuses .*\(3, 28, 28\)"),
        ((1, 1, 28, 28), ValueError, r"ResNet8 refuses .*\(1, 1, 28, 28\)"),
    ],
)
def test_cost_of_a_wrong_shape(shape, error, words):
    with pytest.raises(error, match=words):
        cost(build("ResNet8"), shape)


def test_cost_of_what_is_no_model():
    with pytest.raises(TypeError, match="nn.Module"):
        cost(lambda x: x, IMAGE)
    with pytest.raises(ValueError, match="control flow"):
        cost(Forward(lambda x, w: x if x.sum() > 0 else -x), IMAGE)


def test_importing_measure_imports_neither_torch_nor_scipy():
    code = "import helpers.measure, sys, json; print(json.dumps(list(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert not {"torch", "scipy", "tensorflow"} & set(json.loads(out.stdout))


class Clock:
    """Stands in for the time module: it moves only when a function under test moves it."""

    def __init__(self):
        self.now = 0

    def perf_counter_ns(self):
        return self.now

    def perf_counter(self):
        return self.now * 1e-9


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_percentiles_are_those_of_the_calls_after_warm_up(clock):
    durations = iter([10**6] * 3 + list(range(1000, 101_000, 1000)))

    def fn():
        clock.now += next(durations)

    found = latency(fn, runs=100, warmup=3)
    assert found.runs == 100
    expected = np.percentile(np.arange(1, 101) * 1e-6, [50, 90, 99])
    np.testing.assert_allclose([found.p50, found.p90, found.p99], expected)


@pytest.mark.parametrize(
    ("milliseconds", "calls", "runs"), [(1, 110, 100), (10, 15, 10), (500, 6, 5)]
)
def test_runs_fit_the_time(clock, milliseconds, calls, runs):
    count = []

    def fn():
        count.append(0)
        clock.now += milliseconds * 10**6

    found = latency(fn, seconds=0.1)
    assert found.runs == runs
    assert len(count) in (calls, calls + 1)
    assert latency(fn, seconds=0.1, runs=2).runs == 2


def test_ratio_is_exact_where_the_machine_drifts_and_stutters(clock):
    rng, calls = np.random.default_rng(0), {"a": 0, "b": 0, "c": 0}

    def advance(name, nanoseconds):
        calls[name] += 1
        slow = 1 + clock.now * 1e-9  # twice as slow at the end of a second as at its start
        clock.now += int(nanoseconds * slow * (50 if rng.random() < 0.001 else 1))

    found = compare_latency(
        {
            "a": lambda: advance("a", 100_000),
            "b": lambda: advance("b", 200_000),
            "c": lambda: advance("c", 103_000),
        },
        seconds=1,
    )
    assert list(found.latency) == list(found.ratio) == ["a", "b", "c"]
    assert found.ratio["a"] == measure.Interval(1.0, 1.0, 1.0)
    for name, truth in (("b", 2.0), ("c", 1.03)):
        ratio = found.ratio[name]
        assert ratio.low <= ratio.estimate <= ratio.high
        assert ratio.estimate == pytest.approx(truth, rel=0.04)
        assert ratio.high - ratio.low < 0.2 * truth
    assert all(calls[name] > found.latency[name].runs >= 100 for name in calls)
    assert found.latency["b"].p50 > 1.5 * found.latency["a"].p50


def test_rounds_interleave_in_changing_order(clock):
    def order(seed):
        trace = []

        def record(name):
            trace.append(name)
            clock.now += 10**8

        compare_latency(
            {"a": lambda: record("a"), "b": lambda: record("b")}, seconds=0.1, seed=seed
        )
        return "".join(trace[10:])  # after the five calls of each that warm up

    trace = order(3)
    rounds = [trace[i : i + 2] for i in range(0, len(trace), 2)]
    assert set(rounds) == {"ab", "ba"} and len(rounds) == measure.MIN_ROUNDS
    assert order(3) == trace != order(4)


def test_latency_of_a_sleep():
    found = latency(lambda: time.sleep(0.003), seconds=0.15)
    assert 0.003 <= found.p50 < 0.03 and found.p50 <= found.p90 <= found.p99
    assert 5 <= found.runs <= 50


def test_two_sleeps_differ_twofold():
    short, long = (lambda: time.sleep(0.006)), (lambda: time.sleep(0.012))
    ratio = compare_latency({"short": short, "long": long}, seconds=0.5).ratio["long"]
    assert 1.4 < ratio.estimate < 2.6 and ratio.low <= ratio.estimate <= ratio.high


def test_fast_functions_differ_twofold():
    one, two = list(range(200)), list(range(400))  # a few microseconds
    ratio = compare_latency({"one": lambda: sum(one), "two": lambda: sum(two)}, seconds=0.3).ratio
    assert 1.3 < ratio["two"].estimate < 2.7


def test_garbage_collection_is_off_and_comes_back():
    seen = []
    latency(lambda: seen.append(gc.isenabled()), runs=5, warmup=1)
    assert seen == [True] + 5 * [False] and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        latency(lambda: 1 / (len(seen) - len(seen)))
    assert gc.isenabled()
    gc.disable()
    try:
        latency(lambda: None, runs=5)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_wrong_input_to_the_clock():
    for wrong in ({"seconds": 0}, {"seconds": math.nan}, {"runs": 0}, {"warmup": -1}):
        with pytest.raises(ValueError, match="expected > 0"):
            latency(lambda: None, **wrong)
    with pytest.raises(ValueError, match="1 functions"):
        compare_latency({"one": lambda: None})
    with pytest.raises(ValueError, match="seconds"):
        compare_latency({"one": lambda: None, "two": lambda: None}, seconds=-1)


def from_counts(both, only_a, only_b, neither):
    """Predictions of two models, and labels, with these four counts."""
    a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    return a, b, np.ones(len(a), np.int64)


def test_compare_accuracy_by_hand():
    found = compare_accuracy(*from_counts(1, 7, 1, 12))
    assert (found.only_a, found.only_b) == (7, 1)
    assert (found.accuracy_a, found.accuracy_b) == pytest.approx((8 / 21, 2 / 21))
    assert found.difference == pytest.approx(-6 / 21)
    assert found.p == pytest.approx(2 * (1 + 8) / 2**8)  # both tails: 0 or 1 of 8
    # Laplace: 8/23 and 2/23, their difference -6/23, its variance (10/23 - (6/23)^2) / 23.
    half = 1.959964 * math.sqrt((10 / 23 - 36 / 529) / 23)
    assert (found.low, found.high) == pytest.approx((-6 / 23 - half, -6 / 23 + half), abs=1e-6)


def test_equal_predictions_have_p_one():
    found = compare_accuracy(*from_counts(30, 0, 0, 10))
    assert (found.difference, found.p) == (0.0, 1.0) and found.low < 0 < found.high


def test_logits_and_classes_agree():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200, 10)).astype(np.float32)
    labels = rng.integers(0, 10, 200)
    expected = compare_accuracy(a.argmax(1), b.argmax(1), labels)
    assert compare_accuracy(a, b, labels) == expected
    assert compare_accuracy(torch.tensor(a), b.argmax(1), torch.tensor(labels)) == expected


counts = st.tuples(*[st.integers(0, 60)] * 4).filter(sum)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_swapping_the_models_turns_the_sign(four):
    a, b, labels = from_counts(*four)
    found, swapped = compare_accuracy(a, b, labels), compare_accuracy(b, a, labels)
    assert swapped.difference == -found.difference
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low))
    assert swapped.p == pytest.approx(found.p) and 0 < found.p <= 1
    assert (swapped.only_a, swapped.only_b) == (found.only_b, found.only_a)
    assert -1 <= found.low <= found.difference <= found.high <= 1
    assert found.difference == pytest.approx(found.accuracy_b - found.accuracy_a)
    if found.only_a + found.only_b:
        assert found.p == stats.binomtest(four[1], four[1] + four[2]).pvalue


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0.02, 0.02), (0.1, 0.05), (0.05, 0.3), (0.01, 0.1)]
)
def test_the_interval_covers_the_true_difference(only_a, only_b):
    n = 50
    cases = [(i, j) for i in range(n + 1) for j in range(n + 1 - i) if i + j <= 35]
    probability = stats.multinomial.pmf(
        [(i, j, n - i - j) for i, j in cases], n, [only_a, only_b, 1 - only_a - only_b]
    )
    covered = 0.0
    for (i, j), p in zip(cases, probability, strict=True):
        if p > 1e-5:
            found = compare_accuracy(*from_counts(0, i, j, n - i - j))
            covered += p * (found.low <= only_b - only_a <= found.high)
    assert covered > 0.94


@pytest.mark.parametrize(
    ("a", "b", "labels", "words"),
    [
        ([1, 2], [1, 2, 3], [1, 2, 3], "2 and 3 predictions, 3 labels"),
        ([1, 2], [1, 2], [1], "1 labels"),
        (np.zeros(0, int), np.zeros(0, int), np.zeros(0, int), "at least one"),
        ([0.5, 1.0], [1, 2], [1, 2], "pred_a is float64"),
        ([1, 2], np.zeros((2, 1)), [1, 2], "pred_b"),
        ([1, 2], np.zeros((2, 3, 4)), [1, 2], "pred_b"),
        (np.full((2, 3), np.nan), [1, 2], [1, 2], "NaN"),
        ([1, 2], [1, 2], np.eye(2), "labels"),
    ],
)
def test_compare_accuracy_refuses(a, b, labels, words):
    with pytest.raises(ValueError, match=words):
        compare_accuracy(np.asarray(a), np.asarray(b), labels)


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (9, 10), (9123, 10_000), (7, 7)])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_accuracy_interval_is_wilsons(correct, total, confidence):
    found, z = accuracy_interval(correct, total, confidence), stats.norm.ppf(0.5 + confidence / 2)
    share = correct / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    half = z / (1 + z**2 / total) * spread
    assert (found.low, found.high) == pytest.approx((center - half, center + half), abs=1e-9)
    bounds = stats.binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert (found.estimate, found.low, found.high) == (share, bounds.low, bounds.high)


@pytest.mark.parametrize(("correct", "total"), [(-1, 5), (6, 5), (0, 0)])
def test_accuracy_interval_refuses(correct, total):
    with pytest.raises(ValueError, match="correct"):
        accuracy_interval(correct, total)
