"""How long a call takes, and how much longer than another."""

from __future__ import annotations

import gc
import inspect
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real

import numpy as np

from helpers.arguments import whole
from helpers.significance import Interval

Functions = Mapping[str, Callable[[], object]]  # by name; they take no arguments
MIN_RUNS, MIN_ROUNDS, MAX_ROUNDS, MAX_LOOPS = 5, 10, 200, 1000
MIN_TICKS = 10  # steps of the clock in one reading, which is then right to about a tenth
MAX_CALLS = 10**7  # so many calls take long enough for any clock to move


@dataclass(frozen=True)
class Latency:
    """Percentiles of the seconds that one call takes, over `runs` readings of the clock.

    A reading is one call, or the mean of several where the clock's steps are too long for one.
    """

    p50: float
    p90: float
    p99: float
    runs: int


@dataclass(frozen=True)
class LatencyComparison:
    """Each function's Latency, and its time divided by the first one's (2.0: twice as slow)."""

    latency: dict[str, Latency]
    ratio: dict[str, Interval]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check(name: str, fn: object) -> None:
    """TypeError unless fn is a function whose call ends when its work is done."""
    if not callable(fn):
        raise TypeError(f"{name} is {fn!r}: pass a function, such as lambda: model(x)")
    kinds = inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction
    if any(is_one(f) for is_one in kinds for f in (fn, type(fn).__call__)):
        raise TypeError(
            f"{name} is a generator or coroutine function, whose call returns before it runs: "
            "pass a function that uses it up, such as lambda: list(generate())"
        )


def _check_seconds(seconds: object) -> None:
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"seconds is {seconds!r}: pass a number, such as 1.0")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds}: pass a finite number above 0")


def _readings(
    fn: Callable[[], object], calls: int, count: int, stop: float = math.inf
) -> np.ndarray:
    """int [readings]: ns of `calls` calls, `count` times or, past MIN_RUNS, until `stop` ns."""
    block = range(calls)
    stamps = [time.perf_counter_ns()]
    for done in range(count):
        if stamps[-1] >= stop and done >= MIN_RUNS:
            break
        for _ in block:
            fn()
        stamps.append(time.perf_counter_ns())
    return np.diff(stamps)


def _tick(times: np.ndarray) -> float:
    """The step of the clock, in ns, if all times are multiples of one; else 0.

    Differences of 1 ns (rounding) or below a thousandth of the mean do not matter. Real times
    differ from call to call: times that are all alike show nothing.

    >>> print(_tick(np.array([0, 0, 1000, 0, 2000])), _tick(np.array([501, 537])))
    1000 0
    """
    steps = np.diff(np.unique(times))
    steps = steps[steps > max(1, times.mean() / 1000)]
    if not len(steps):
        return 0
    step = min(steps.min(), times[times > 0].min())
    return step if np.abs(times / step - np.rint(times / step)).max() < 0.002 else 0


def _more(times: np.ndarray, tick: float) -> int:
    """How many times as many calls a reading needs to have MIN_TICKS steps; 1 if it has them."""
    if np.median(times) > 0 and np.median(times) >= MIN_TICKS * tick:
        return 1
    if not times.any():
        return 10
    return max(2, math.ceil(1.5 * MIN_TICKS * tick / times.mean()))  # the mean is a rough one


def _time(
    fn: Callable[[], object], runs: int, seconds: float, seen: np.ndarray
) -> tuple[int, np.ndarray, float]:
    """(calls of fn in one reading, as many as the clock needs; ns int [readings]; clock's step).

    seen: ns of earlier calls, if any, which may show the clock's step.
    """
    calls = 1
    while calls * runs <= MAX_CALLS or seen.any():
        times = _readings(fn, calls, runs, time.perf_counter_ns() + seconds * 1e9)
        seen = np.append(seen, times)
        tick = _tick(seen)
        more = _more(times, tick)
        if more == 1:
            return calls, times, tick
        calls *= more
    raise ValueError(f"the clock did not move in {calls * runs // 10:,} calls: is it stopped?")


def _percentiles(times: np.ndarray) -> Latency:
    """Of times in ns."""
    return Latency(*np.percentile(times * 1e-9, (50, 90, 99)).tolist(), runs=len(times))


def latency(
    fn: Callable[[], object], *, seconds: float = 1.0, runs: int = 1000, warmup: int = 10
) -> Latency:
    """Time fn() by itself, in seconds, after `warmup` calls; fn takes no arguments.

    At most `runs` calls are timed, fewer when `seconds` are over, but at least five (or `runs`, if
    that is less). Warm-up is cut short after half of `seconds`. Garbage collection is off. A time
    includes the clock's own, 0.1 to 0.2 µs. Where the clock moves in steps longer than a tenth of a
    call, several calls are timed together, for another `seconds` or more. TypeError or ValueError
    for other arguments and for a clock that stands still.

    >>> latency(lambda: sum(range(100)), runs=5).runs
    5
    """
    _check("fn", fn)
    _check_seconds(seconds)
    runs, warmup = whole("runs", runs), whole("warmup", warmup, 0)
    stamps = [time.perf_counter_ns()]
    for _ in range(warmup):
        fn()
        stamps.append(time.perf_counter_ns())
        if stamps[-1] > stamps[0] + seconds * 1e9 / 2:
            break
    with _no_garbage_collection():
        calls, times, _ = _time(fn, runs, seconds, np.diff(stamps))
    return _percentiles(times / calls)


def _race(
    functions: Functions, calls: dict, count: dict, seconds: float, rng: np.random.Generator
) -> dict[str, list[np.ndarray]]:
    """ns of each function's readings, an array int [count] for each round; see compare_latency."""
    names, rounds = list(functions), {name: [] for name in functions}
    with _no_garbage_collection():
        stop = time.perf_counter_ns() + seconds * 1e9
        for done in range(MAX_ROUNDS):
            if time.perf_counter_ns() > stop and done >= MIN_ROUNDS:
                break
            for name in (names[i] for i in rng.permutation(len(names))):
                rounds[name].append(_readings(functions[name], calls[name], count[name]))
    return rounds


def _ratio(slow: np.ndarray, fast: np.ndarray, unsure: float) -> Interval:
    """Median of slow / fast, float [rounds], with a 95 % interval from order statistics.

    unsure: by what share the clock's steps may have changed each ratio; it widens the interval.
    """
    from scipy.stats import quantile_test

    ratios = slow / fast
    bounds = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    low, high = float(bounds.low / (1 + unsure)), float(bounds.high * (1 + unsure))
    return Interval(float(np.median(ratios)), low, high)


def compare_latency(
    functions: Functions, *, seconds: float = 2.0, seed: int = 0
) -> LatencyComparison:
    """Time functions in turn, so that a change of the machine's load meets all of them alike.

    Each round runs every function in an order drawn from `seed`: one block of readings each, long
    enough for about 50 rounds in `seconds` (all functions together). There are at least ten rounds,
    so that slow functions take longer. Percentiles are of single readings (a call, or several as in
    `latency`). A ratio is the median over rounds of the block's mean / the first function's, each
    without its slowest and fastest tenth (calls that another process interrupted); low and high:
    the 95 % interval of that median from order statistics (Conover 1999, section 3.2), which takes
    the rounds for independent, widened by the clock's steps. Raises TypeError or ValueError.

    >>> race = compare_latency({"a": lambda: 1, "b": lambda: sum(range(1000))}, seconds=0.01)
    >>> race.ratio["a"], race.ratio["b"].estimate > 2
    (Interval(estimate=1.0, low=1.0, high=1.0), True)
    """
    from scipy.stats import trim_mean

    if not isinstance(functions, Mapping) or not all(isinstance(name, str) for name in functions):
        raise TypeError(f"functions is {functions!r}: pass a dictionary of names and functions")
    if len(functions) < 2:
        raise ValueError(f"{len(functions)} functions: pass two or more, to be compared")
    for name, fn in functions.items():
        _check(f"function {name!r}", fn)
    _check_seconds(seconds)
    rng = np.random.default_rng(whole("seed", seed, 0))

    block, calls, count, tick = seconds / (50 * len(functions)), {}, {}, 0.0
    for name, fn in functions.items():  # this is the warm-up too
        calls[name], warm, step = _time(fn, MAX_LOOPS, block, np.zeros(0, int))
        count[name] = int(np.clip(block * 1e9 / np.median(warm), 1, MAX_LOOPS))
        tick = max(tick, step)
    while True:
        rounds = _race(functions, calls, count, seconds, rng)
        times = {name: np.concatenate(blocks) for name, blocks in rounds.items()}
        tick = max(tick, *map(_tick, times.values()))
        more = {name: _more(ns, tick) for name, ns in times.items()}
        if set(more.values()) == {1}:
            break
        calls = {name: calls[name] * more[name] for name in calls}
        count = {name: max(1, count[name] // more[name]) for name in count}

    means = {n: np.array([trim_mean(ns, 0.1) for ns in rounds[n]]) / calls[n] for n in rounds}
    if not all(mean.all() for mean in means.values()):
        raise ValueError("the clock stood still for a whole block of calls: is it a clock?")
    steps = {n: tick / np.median(ns) for n, ns in times.items()}
    first, *others = functions
    ratio = {first: Interval(1.0, 1.0, 1.0)}
    for name in others:
        ratio[name] = _ratio(means[name], means[first], steps[name] + steps[first])
    return LatencyComparison({n: _percentiles(ns / calls[n]) for n, ns in times.items()}, ratio)
