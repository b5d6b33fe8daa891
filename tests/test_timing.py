"""Times against a clock that the test sets."""

import gc
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import timing
from helpers.significance import Interval
from helpers.timing import compare_latency, latency


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
    monkeypatch.setattr(timing, "time", clock)
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
    assert found.ratio["a"] == Interval(1.0, 1.0, 1.0)
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
    assert set(rounds) == {"ab", "ba"} and len(rounds) == timing.MIN_ROUNDS
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


def test_importing_the_clock_imports_neither_torch_nor_scipy():
    code = "import helpers.timing, sys, json; print(json.dumps(list(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert not {"torch", "scipy", "tensorflow"} & set(json.loads(out.stdout))
