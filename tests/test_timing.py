"""Times against a clock that the test sets."""

import functools
import gc
import json
import math
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import timing
from helpers.significance import Interval
from helpers.timing import compare_latency, latency


class Clock:
    """Stands in for the time module: a function under test moves it, and it shows whole ticks."""

    def __init__(self, tick=1, now=0):
        self.now, self.tick = now, tick

    def perf_counter_ns(self):
        return int(self.now // self.tick * self.tick)

    def perf_counter(self):
        return self.perf_counter_ns() * 1e-9


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


# Steps in ns: 1 ms, 15.6 ms (Windows, also where it is no whole number), 100 ns; functions of 20 µs
# to 20 ms, which take a tenth more or less from call to call.
TICKS = [1e6, 15.6e6, 15_600_100.3, 100]
MICROSECONDS = [20, 300, 1500, 15_000, 20_000]


def work(clock, microseconds):
    """A function that takes about so long on the clock."""
    calls = 0

    def fn():
        nonlocal calls
        calls += 1
        clock.now += 1000 * microseconds * (0.9 + 0.2 * (calls * 0.618034 % 1))

    return fn


@pytest.mark.parametrize("tick", TICKS)
@pytest.mark.parametrize("microseconds", MICROSECONDS)
def test_a_clock_of_long_steps_gives_the_right_latency(monkeypatch, tick, microseconds):
    for start in (0, 0.37, 0.8):
        clock = Clock(tick, start * tick)
        monkeypatch.setattr(timing, "time", clock)
        found = latency(work(clock, microseconds))
        assert found.p50 == pytest.approx(microseconds * 1e-6, rel=0.12)
        assert found.p50 <= found.p90 <= found.p99 < 1.35e-6 * microseconds
        assert 5 <= found.runs <= 1000 and clock.now < 5e9


@pytest.mark.parametrize("tick", TICKS[:3])
@pytest.mark.parametrize("microseconds", MICROSECONDS)
def test_a_clock_of_long_steps_gives_the_right_ratio(monkeypatch, tick, microseconds):
    for seed in range(3):
        clock = Clock(tick, seed * 0.31 * tick)
        monkeypatch.setattr(timing, "time", clock)
        pair = {"one": work(clock, microseconds), "two": work(clock, 2 * microseconds)}
        found = compare_latency(pair, seed=seed)
        ratio = found.ratio["two"]
        assert ratio.low <= 2 <= ratio.high and 1.3 < ratio.low < ratio.high < 3
        assert ratio.estimate == pytest.approx(2, rel=0.12)
        assert found.latency["one"].p50 == pytest.approx(microseconds * 1e-6, rel=0.12)
        assert found.latency["two"].p50 == pytest.approx(2e-6 * microseconds, rel=0.12)


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_few_runs_on_a_clock_of_long_steps(monkeypatch, runs):
    clock = Clock(15.6e6, 7e6)
    monkeypatch.setattr(timing, "time", clock)
    found = latency(work(clock, 5), runs=runs)
    assert found.runs == runs and found.p50 == pytest.approx(5e-6, rel=0.12)


@settings(deadline=None, max_examples=50)
@given(st.integers(1000, 20_000_000), st.floats(0.01, 30), st.floats(0, 1), st.integers(1, 50))
def test_latency_is_about_right_on_any_clock(tick, share, start, runs):
    """share: of the clock's step that a call takes. Single calls differ by a tenth."""
    clock = Clock(tick, start * tick)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "time", clock)
        found = latency(work(clock, share * tick / 1000), runs=runs, seconds=2)
    assert found.p50 == pytest.approx(share * tick * 1e-9, rel=0.3) and found.runs <= runs


@pytest.mark.parametrize(
    ("times", "tick"),
    [
        ([0, 0, 1000, 0, 2000], 1000),
        ([2000, 3000], 1000),
        ([1000, 3000], 1000),  # no two that are one step apart
        ([0, 1000, 1001, 2001], 1000),  # a step that is no whole ns
        ([10**7, 10**7 + 4000, 2 * 10**7], 9_996_000),  # 4000 ns do not matter here
        ([10_000, 29_990], 10_000),
        ([501, 537], 0),
        ([1000, 1003, 1500, 2200], 0),
        ([1000, 1000, 1000], 0),
        ([0, 0], 0),
        ([1000], 0),
    ],
)
def test_the_clocks_step_shows_in_times_that_differ(times, tick):
    assert timing._tick(np.array(times)) == tick


def test_a_clock_that_stands_still_is_named(monkeypatch):
    monkeypatch.setattr(timing, "time", Clock())
    monkeypatch.setattr(timing, "MAX_CALLS", 10**4)
    for runs, calls in ((1, "10,000"), (7, "7,000")):
        with pytest.raises(ValueError, match=f"did not move in {calls} calls"):
            latency(lambda: None, runs=runs)
    with pytest.raises(ValueError, match="did not move in 10,000 calls"):
        compare_latency({"one": lambda: None, "two": lambda: None})


def test_a_clock_that_stops_and_goes_is_named(clock):
    calls = []

    def fn():
        calls.append(0)
        clock.now += 0 if len(calls) % 5 == 0 else 1000 + len(calls) ** 2

    with pytest.raises(ValueError, match="stood still for a whole block"):
        compare_latency({"one": fn, "two": fn}, seconds=1e-4)


def test_the_defaults_of_latency_and_of_a_comparison(clock):
    count = []

    def fn(microseconds):
        count.append(0)
        clock.now += 1000 * microseconds + len(count) % 3

    assert latency(lambda: fn(10)).runs == 1000 and len(count) == 10 + 1000
    assert latency(lambda: fn(2000)).runs == 500  # one second
    count.clear()
    found = compare_latency({"one": lambda: fn(1990), "two": lambda: fn(1990)})
    # Two seconds in rounds of two blocks of 10 calls (below 20 ms), after 11 calls to warm up.
    assert found.latency["one"].runs == found.latency["two"].runs == 51 * 10
    assert len(count) == 2 * 51 * 10 + 2 * 11


def test_latency_of_a_sleep():
    found = latency(lambda: time.sleep(0.003), seconds=0.15)
    assert 0.003 <= found.p50 < 0.3 and found.p50 <= found.p90 <= found.p99
    assert 5 <= found.runs <= 50


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


def test_garbage_collection_comes_back_after_a_comparison():
    seen = []

    def fn():
        seen.append(gc.isenabled())

    compare_latency({"one": fn, "two": fn}, seconds=1e-4)
    assert gc.isenabled() and seen[0] and not any(seen[-20:])

    def failing():
        seen.append(gc.isenabled())
        if not seen[-1]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        compare_latency({"one": failing, "two": fn}, seconds=1e-4)
    assert gc.isenabled()


async def coroutine():
    pass


def generator():
    yield


async def asynchronous_generator():
    yield


class Asynchronous:
    async def __call__(self):
        pass


@pytest.mark.parametrize(
    "fn",
    [
        coroutine,
        generator,
        asynchronous_generator,
        Asynchronous(),
        functools.partial(coroutine),
        functools.partial(generator),
    ],
)
def test_a_function_that_returns_before_it_runs_is_refused(fn):
    with pytest.raises(TypeError, match="fn is a generator or coroutine function"):
        latency(fn)
    with pytest.raises(TypeError, match="function 'two' is a generator or coroutine function"):
        compare_latency({"one": lambda: None, "two": fn})


class Counted:
    calls = 0

    def __call__(self):
        self.calls += 1

    def method(self):
        self.calls += 1


def test_whatever_can_be_called_can_be_timed():
    counted = Counted()
    for fn in (counted, counted.method, functools.partial(counted.method), Counted):
        assert latency(fn, runs=3, warmup=0, seconds=1e-9).runs == 3
    assert counted.calls == 9


@pytest.mark.parametrize("wrong", [None, 3, "fn", [len], coroutine.__code__])
def test_what_cannot_be_called_is_refused(wrong):
    with pytest.raises(TypeError, match="fn is .*: pass a function"):
        latency(wrong)
    with pytest.raises(TypeError, match="function 'two' is .*: pass a function"):
        compare_latency({"one": lambda: None, "two": wrong})


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"seconds": 0}, ValueError),
        ({"seconds": -1}, ValueError),
        ({"seconds": math.nan}, ValueError),
        ({"seconds": math.inf}, ValueError),
        ({"seconds": True}, TypeError),
        ({"seconds": "1"}, TypeError),
        ({"seconds": None}, TypeError),
        ({"runs": 0}, ValueError),
        ({"runs": True}, TypeError),
        ({"runs": 10.0}, TypeError),
        ({"warmup": -1}, ValueError),
        ({"warmup": False}, TypeError),
        ({"warmup": 1.5}, TypeError),
        ({"seed": -1}, ValueError),
        ({"seed": None}, TypeError),
    ],
)
def test_wrong_settings_are_refused(wrong, error):
    (name,) = wrong
    if name != "seed":
        with pytest.raises(error, match=name):
            latency(lambda: None, **wrong)
    if name in ("seconds", "seed"):
        with pytest.raises(error, match=name):
            compare_latency({"one": lambda: None, "two": lambda: None}, **wrong)


def test_the_smallest_settings_and_numpys_numbers(clock):
    def fn():
        clock.now += 1000

    found = latency(fn, seconds=np.float32(1e-9), runs=np.int64(1), warmup=np.int8(0))
    assert found.runs == 1 and found.p50 == found.p99 == pytest.approx(1e-6)
    assert compare_latency({"one": fn, "two": fn}, seconds=1e-9).ratio["two"].estimate == 1


@pytest.mark.parametrize(
    ("functions", "error", "words"),
    [
        ([len, len], TypeError, "pass a dictionary"),
        (len, TypeError, "pass a dictionary"),
        ({1: lambda: None, 2: lambda: None}, TypeError, "pass a dictionary of names"),
        ({}, ValueError, "0 functions: pass two"),
        ({"one": lambda: None}, ValueError, "1 functions: pass two"),
    ],
)
def test_wrong_functions_are_refused(functions, error, words):
    with pytest.raises(error, match=words):
        compare_latency(functions)


def test_a_result_is_not_changed_by_mistake(clock):
    def fn():
        clock.now += 1000

    race = compare_latency({"one": fn, "two": fn}, seconds=1e-9)
    with pytest.raises(FrozenInstanceError):
        race.ratio = {}
    with pytest.raises(FrozenInstanceError):
        race.latency["one"].p50 = 0.0


def test_importing_the_clock_imports_neither_torch_nor_scipy():
    code = "import helpers.timing, sys, json; print(json.dumps(list(sys.modules)))"
    root = Path(__file__).resolve().parent.parent
    out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True)
    assert not {"torch", "scipy", "tensorflow"} & set(json.loads(out.stdout))
