"""Checks of lesson 44, on-device inference.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def per_instruction(r, g, a, m, v, *, inputs=True, weights=True, products=True):
    return v * r * g / (inputs * a * r + weights * g + products * m * r * g)


@exercise(
    "44.0",
    per_instruction,
    {
        "that is the tile's multiply-accumulates: divide by its instructions": (
            lambda r, g, a, m, v: v * r * g
        ),
        "that is instructions per multiply-accumulate: turn it over": (
            lambda r, g, a, m, v: 1 / per_instruction(r, g, a, m, v)
        ),
        "the weights are loaded too: g instructions": dict(weights=False),
        "the inputs are loaded too: a r instructions": dict(inputs=False),
        "a product costs m instructions, not one": dict(m=1),
        "each instruction does v multiply-accumulates": dict(v=1),
        "each input costs a instructions, not one": dict(a=1),
        "a tile does r g products, not r + g": (
            lambda r, g, a, m, v: v * (r + g) / (a * r + g + m * (r + g))
        ),
    },
)
def check_per_instruction(answer: Answer) -> None:
    """One number, float."""
    cases = [
        (5, 2, 1, 1, 8),
        (3, 4, 2, 2, 16),
        (5, 2, 2, 1, 32),
        (7, 1, 0, 1, 16),
        (7, 2, 1, 1, 64),
    ]
    compare(answer, cases)


def best_tile(
    registers, a, *, needs=lambda r, g: r * g + r + 1, score=lambda r, g, a: a / g + 1 / r
):
    sizes = range(1, registers + 1)
    tiles = [(r, g) for r in sizes for g in sizes if needs(r, g) <= registers]
    return min(tiles, key=lambda t: score(*t, a))


@exercise(
    "44.1",
    best_tile,
    {
        "the inputs take registers too: r g + r + 1 must fit": dict(needs=lambda r, g: r * g + 1),
        "the weight takes a register too: r g + r + 1 must fit": dict(needs=lambda r, g: r * g + r),
        "only one weight at a time takes a register, not all g": dict(
            needs=lambda r, g: r * g + r + g
        ),
        "return r first, then g": lambda *args: best_tile(*args)[::-1],
        "that is the tile with the most sums: divide the instructions by the products": dict(
            score=lambda r, g, a: -r * g
        ),
        "an input costs a instructions, a weight one": dict(score=lambda r, g, a: 1 / g + a / r),
        "a tile of one product has the fewest instructions in all: divide by its products": dict(
            score=lambda r, g, a: a * r + g + r * g
        ),
    },
)
def check_best_tile(answer: Answer) -> None:
    """Two ints, r and g."""
    cases = [(16, 1), (32, 1), (32, 2), (12, 3), (24, 1), (40, 4), (64, 3), (20, 2)]
    compare(answer, cases, "r, g")


def sensor_days(
    watt_hours, per_second, seconds, on, off, sensor, duty, *, waits=True, always=False, per=24
):
    busy = per_second * seconds
    watts = busy * on + (1 - busy if waits else 1) * off + sensor * (1 if always else duty)
    return watt_hours / watts / per


@exercise(
    "44.2",
    sensor_days,
    {
        "the sensor is on for a part of the time: its power times duty": dict(always=True),
        "those are hours: 24 make a day": dict(per=1),
        "while the processor computes it does not wait: (1 - f t) of the time": dict(waits=False),
        "the sensor is missing": dict(sensor=0.0),
        "the waiting is missing": dict(off=0.0),
        "the computing is missing: f t of the time at `on`": dict(on=0.0),
        "duty is the part of the time that the sensor is on, not off": (
            lambda *a: sensor_days(*a[:6], 1 - a[6])
        ),
        "the processor's times are its own: duty belongs to the sensor alone": (
            lambda wh, f, t, on, off, sensor, duty: (
                wh / (duty * (f * t * on + sensor) + (1 - f * t) * off) / 24
            )
        ),
    },
)
def check_sensor_days(answer: Answer) -> None:
    """Days, one number."""
    cases = [(0.675, 50, 1e-4, 0.01, 1e-5, 1e-3, 0.1), (2.0, 10, 0.02, 0.05, 1e-3, 0.01, 0.7)]
    cases += [(0.675, 1, 0.1, 0.01, 2e-3, 5e-3, 0.4), (1.0, 4, 0.05, 0.02, 1e-2, 2e-3, 1.0)]
    compare(answer, cases)


def smallest_chip(
    chips, file_bytes, arena_bytes, macs, deadline,
    *, ram=8, flash=64, use=0.3, unit=1024, last=False,
):  # fmt: skip
    found = [
        place
        for place, (room, storage, rate) in enumerate(chips)
        if arena_bytes / unit + ram <= room
        and file_bytes / unit + flash <= storage
        and macs / (use * rate) <= deadline
    ]
    return (found[-1] if last else found[0]) if found else -1


def _slow_is_fine(chips, file_bytes, arena_bytes, macs, deadline):
    return smallest_chip(chips, file_bytes, arena_bytes, macs, np.inf)


def _any_budget(chips, file_bytes, arena_bytes, macs, deadline):
    """The first that keeps one of the three budgets."""
    for place, chip in enumerate(chips):
        kept = (
            smallest_chip([chip], 0, arena_bytes, 0, 1),
            smallest_chip([chip], file_bytes, 0, 0, 1),
            smallest_chip([chip], 0, 0, macs, deadline),
        )
        if max(kept) == 0:
            return place
    return -1


@exercise(
    "44.3",
    smallest_chip,
    {
        "the program takes RAM, too: 8 KiB": dict(ram=0),
        "the program takes flash, too: 64 KiB": dict(flash=0),
        "only 0.3 of the peak rate is reached": dict(use=1.0),
        "a KiB has 1,024 bytes, not 1,000": dict(unit=1000),
        "it must also answer in time": _slow_is_fine,
        "all three budgets must be kept, not one of them": _any_budget,
        "the first that fits is the cheapest, not the last": dict(last=True),
    },
)
def check_smallest_chip(answer: Answer) -> None:
    """One int: a place in the list, or -1."""
    chips = [(20, 64, 7e7), (128, 100, 1e8), (256, 1024, 1.3e8), (264, 2048, 9e8)]
    cases = [
        ([(20, 64, 5e7), (256, 1024, 1e8)], 21_000, 18_700, 1_300_000, 0.1),
        ([(20, 64, 5e7), (256, 1024, 1e8)], 21_000, 18_700, 1_300_000, 0.01),
        (chips, 21_000, 18_700, 1_300_000, 1.0),
        (chips, 36_500, 122_500, 1_300_000, 1.0),
        (chips, 50_000, 18_700, 1_300_000, 1.0),
        (chips, 90_000, 46_000, 9_000_000, 0.1),
        (chips, 90_000, 46_000, 9_000_000, 0.25),
        (chips, 21_000, 126_000, 1_000_000, 1.0),
        (chips, 2_100_000, 46_000, 9_000_000, 0.25),
    ]
    compare(answer, cases)
