"""How long a call takes, and how much longer than another."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from helpers.significance import Interval

MIN_RUNS, MIN_ROUNDS, MAX_ROUNDS, MAX_LOOPS = 5, 10, 200, 1000


@dataclass(frozen=True)
class Latency:
    """Percentiles of the seconds that one call takes, over `runs` calls."""

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


def _call_times(fn: Callable[[], object], count: int, stop: float = float("inf")) -> np.ndarray:
    """Seconds of each of `count` calls, fewer (MIN_RUNS or more) if `stop`, in ns, comes first."""
    stamps = [time.perf_counter_ns()]
    for done in range(count):
        if stamps[-1] >= stop and done >= MIN_RUNS:
            break
        fn()
        stamps.append(time.perf_counter_ns())
    return np.diff(stamps) * 1e-9


def _percentiles(times: np.ndarray) -> Latency:
    return Latency(*np.percentile(times, (50, 90, 99)).tolist(), runs=len(times))


def latency(
    fn: Callable[[], object], *, seconds: float = 1.0, runs: int = 1000, warmup: int = 10
) -> Latency:
    """Time fn() by itself, in seconds, after `warmup` calls; fn takes no arguments.

    At most `runs` calls are timed, fewer when `seconds` are over, but at least five (or `runs`, if
    that is less). Warm-up is cut short after half of `seconds`. Garbage collection is off. A time
    includes the clock's own, about 0.1 µs. Raises ValueError.
    """
    if not seconds > 0 or runs < 1 or warmup < 0:
        raise ValueError(
            f"seconds {seconds}, runs {runs}, warmup {warmup}: expected > 0, >= 1, >= 0"
        )
    warm_until = time.perf_counter() + seconds / 2
    for _ in range(warmup):
        fn()
        if time.perf_counter() > warm_until:
            break
    with _no_garbage_collection():
        return _percentiles(_call_times(fn, runs, time.perf_counter_ns() + seconds * 1e9))


def compare_latency(
    functions: dict[str, Callable[[], object]], *, seconds: float = 2.0, seed: int = 0
) -> LatencyComparison:
    """Time functions in turn, so that a change of the machine's load meets all of them alike.

    Each round runs every function in an order drawn from `seed`: one block of calls each, long
    enough for about 50 rounds in `seconds` (all functions together). There are at least ten rounds,
    so that slow functions take longer. Percentiles are of single calls. A ratio is the median over
    rounds of the block's mean / the first function's, each without its slowest and fastest tenth
    (calls that another process interrupted); low and high: the 95 % interval of that median from
    order statistics (Conover 1999, section 3.2), which takes the rounds for independent.
    Raises ValueError.
    """
    from scipy.stats import quantile_test, trim_mean

    if not seconds > 0 or len(functions) < 2:
        raise ValueError(f"seconds {seconds}, {len(functions)} functions: expected > 0, >= 2")
    block, loops = seconds / (50 * len(functions)), {}
    for name, fn in functions.items():  # this is the warm-up too
        typical = np.median(_call_times(fn, MAX_LOOPS, time.perf_counter_ns() + block * 1e9))
        loops[name] = int(np.clip(block / max(typical, 1e-9), 1, MAX_LOOPS))

    rng, names = np.random.default_rng(seed), list(functions)
    times: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with _no_garbage_collection():
        stop = time.perf_counter() + seconds
        for done in range(MAX_ROUNDS):
            if time.perf_counter() > stop and done >= MIN_ROUNDS:
                break
            for name in rng.permutation(names).tolist():
                times[name].append(_call_times(functions[name], loops[name]))

    means = {name: np.array([trim_mean(calls, 0.1) for calls in times[name]]) for name in names}
    ratio = {names[0]: Interval(1.0, 1.0, 1.0)}
    for name in names[1:]:
        ratios = means[name] / means[names[0]]
        bounds = quantile_test(ratios, p=0.5).confidence_interval(0.95)
        ratio[name] = Interval(float(np.median(ratios)), float(bounds.low), float(bounds.high))
    return LatencyComparison({n: _percentiles(np.concatenate(times[n])) for n in names}, ratio)
