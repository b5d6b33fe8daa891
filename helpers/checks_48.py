"""Checks of lesson 48, the browser."""

from __future__ import annotations

import math

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def overlaps(given, out, *, step=None, unit=None, low=0, end=lambda e: e[1:]):
    step = given / out if step is None else step(given, out)
    edges = np.arange(out + 1)[:, None] * step
    places = np.arange(given)[None]
    covered = np.minimum(end(edges), places + 1) - np.maximum(edges[:-1], places)
    return np.maximum(low, covered) / (step if unit is None else unit(given, out))


def nearest(given, out):
    """Weights that take the input in the middle of each output."""
    middles = ((np.arange(out) + 0.5) * given / out).astype(int)
    return np.eye(given)[middles]


@exercise(
    "48.0",
    overlaps,
    {
        "each row should sum to 1: divide the overlaps by s": dict(unit=lambda given, out: 1),
        "what does not overlap has weight 0: take the larger of 0 and the length": dict(
            low=-np.inf
        ),
        "s is the width of an output in inputs, N / M": dict(step=lambda given, out: out / given),
        "outputs without inputs beside them: an output covers i s to (i + 1) s": dict(
            step=lambda given, out: given // out
        ),
        "that takes one input for each output: each one counts as far as it is covered": nearest,
        "the shape is [out, given]: a row for each output": lambda given, out: (
            overlaps(given, out).T
        ),
    },
)
def check_overlaps(answer: Answer) -> None:
    """An array [out, given] of weights."""
    compare(answer, [(3, 2), (4, 2), (7, 3), (200, 28), (28, 28), (5, 1), (2, 3)])


def over_white(rgba, *, back=255, mix=None, unit=255, cut=np.rint):
    color, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / unit
    mixed = color * alpha + back * (1 - alpha) if mix is None else mix(color, alpha)
    return cut(mixed).astype(int)


@exercise(
    "48.1",
    over_white,
    {
        "what is transparent shows the sheet behind it: add 255 times what alpha leaves": dict(
            back=0
        ),
        "alpha is missing: a transparent pixel has a color too, which nobody sees": dict(
            mix=lambda color, alpha: color
        ),
        "alpha goes from 0 to 255: divide by 255": dict(unit=256),
        "round to the nearest integer, do not cut off": dict(cut=np.floor),
        "alpha 255 is opaque, 0 is transparent: you have them the other way round": dict(
            mix=lambda color, alpha: color * (1 - alpha) + 255 * alpha
        ),
        "between transparent and opaque there are 254 steps": dict(
            mix=lambda color, alpha: np.where(alpha > 0, color, 255)
        ),
    },
)
def check_over_white(answer: Answer) -> None:
    """Integers [H, W, 3]."""
    by_hand = [[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]]
    drawn = np.random.default_rng(48).integers(0, 256, (5, 4, 4))
    compare(answer, [(np.array(v, np.uint8),) for v in (by_hand, drawn)])


def box(gray, seen, *, above=np.greater, end=1, flat=False):
    bright = above(gray, seen)
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    found = rows[0], rows[-1] + end, columns[0], columns[-1] + end
    return tuple(map(int, (*found[2:], *found[:2]) if flat else found))


@exercise(
    "48.2",
    box,
    {
        "bottom and right are the first row and column after the thing: add 1": dict(end=0),
        "first rows, then columns: top, bottom, left, right": dict(flat=True),
        "a pixel as bright as `seen` is background: more than it": dict(above=np.greater_equal),
        "the thing is bright here: look for more than `seen`": dict(above=np.less),
    },
)
def check_box(answer: Answer) -> None:
    """Four integers: top, bottom, left, right."""
    hand = np.zeros((6, 5), np.uint8)
    hand[2, 1], hand[3, 2], hand[0, 4] = 200, 90, 30
    noisy = np.random.default_rng(48).integers(0, 33, (12, 20))
    noisy[4:9, 11:14] = 180
    cases = [(hand, 32), (hand, 90), (hand, 29), (noisy.astype(np.uint8), 32)]
    compare(answer, cases, "top, bottom, left, right")


def pictures_until_even(own, library, rate, *, bits=8, start=True, fetch=True, cut=math.ceil):
    (a_bytes, a_start, a_ms), (b_bytes, b_start, b_ms) = own, library
    later = bits * (b_bytes - a_bytes) / rate * 1000 if fetch else 0.0
    later += b_start - a_start if start else 0.0
    if later <= 0:
        return 0
    return cut(later / (a_ms - b_ms)) if a_ms > b_ms else math.inf


def never_slower(own, library, rate):
    """Takes a library that is slower for one that is a little faster."""
    return pictures_until_even(own, (*library[:2], min(library[2], own[2] - 1e-3)), rate)


@exercise(
    "48.3",
    pictures_until_even,
    {
        "a byte has 8 bits, and the rate is in bits per second": dict(bits=1),
        "both have to start before their first answer: add the difference of the starts": dict(
            start=False
        ),
        "the bytes have to arrive first: 8 bytes / rate seconds": dict(fetch=False),
        "the last picture counts whole: round up": dict(cut=math.floor),
        "a library that is slower a picture never catches up: math.inf": never_slower,
    },
)
def check_pictures_until_even(answer: Answer) -> None:
    """One number, math.inf where it never is."""
    own, library = (100_000, 10.0, 2.0), (3_100_000, 400.0, 0.5)
    cases = [(own, library, 10e6), (own, library, 1e9), (own, (3_100_000, 400.0, 2.5), 10e6)]
    cases += [(own, (50_000, 5.0, 1.0), 10e6), ((90_000, 9.5, 1.4), (3_000_000, 380.0, 0.35), 3e6)]
    compare(answer, cases)
