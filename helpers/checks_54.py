"""Checks of lesson 54, model updates.

A solution may have options after its `*`: they make it one of the mistakes that its check knows.
"""

from __future__ import annotations

import numpy as np

from helpers.exercises import Answer, exercise
from helpers.mistakes import compare


def refusal(
    version,
    expires,
    length,
    trusted,
    now,
    received,
    *,
    older=lambda v, t: v < t,
    late=lambda n, e: n >= e,
    long=lambda r, n: r > n,
    order=(1, 2, 3),
):
    wrong = {1: older(version, trusted), 2: late(now, expires), 3: long(received, length)}
    return next((rule for rule in order if wrong[rule]), 0)


@exercise(
    "54.0",
    refusal,
    {
        "the trusted version itself is taken: refuse only what is below it": dict(
            older=lambda v, t: v <= t
        ),
        "at the hour `expires` it has expired": dict(late=lambda n, e: n > e),
        "as many bytes as `length` are right: refuse more": dict(long=lambda r, n: r >= n),
        "while bytes still come there may be fewer: refuse only more": dict(
            long=lambda r, n: r != n
        ),
        "if more than one holds, the version comes first, then the date": dict(order=(3, 2, 1)),
        "the version comes before the date": dict(order=(2, 1, 3)),
        "an old version is refused, too": dict(older=lambda v, t: False),
        "a manifest that has expired is refused, too": dict(late=lambda n, e: False),
        "what is longer than was signed is refused, too": dict(long=lambda r, n: False),
        "a higher version is what an update is: refuse lower ones": dict(older=lambda v, t: v > t),
    },
)
def check_refusal(answer: Answer) -> None:
    """0, 1, 2 or 3."""
    by_hand = [(2, 24, 100, 2, 23, 100), (2, 24, 100, 2, 24, 100), (3, 24, 100, 2, 5, 40)]
    drawn = np.random.default_rng(54).integers(0, 4, (60, 6)).tolist()
    compare(answer, [*by_hand, *map(tuple, drawn)])


def signers(signed_by, valid, keys, *, right=lambda v: v == 1, listed=np.isin, different=True):
    good = np.asarray(signed_by)[right(np.asarray(valid)) & listed(signed_by, keys)]
    return len(set(good.tolist())) if different else len(good)


def by_first(signed_by, valid, keys):
    first = {k: v for k, v in reversed(list(zip(signed_by.tolist(), valid.tolist(), strict=True)))}
    return sum(first.get(key, 0) for key in set(keys.tolist()))


@exercise(
    "54.1",
    signers,
    {
        "the same key twice counts once": dict(different=False),
        "a signature that is not right does not count": dict(right=lambda v: v >= 0),
        "keys that the role does not list do not count": dict(
            listed=lambda s, k: np.ones(len(s), bool)
        ),
        "a key counts if any of its signatures is right, not only its first": by_first,
        "count the keys that have signed, not those that the role lists": lambda s, v, keys: len(
            keys
        ),
    },
)
def check_signers(answer: Answer) -> None:
    """One integer."""
    rng = np.random.default_rng(54)
    hand = (np.array([1, 1, 2, 7]), np.array([1, 1, 0, 1]), np.array([1, 2, 3]))
    again = (np.array([4, 4, 5]), np.array([0, 1, 1]), np.array([4, 5, 6]))
    none = (np.zeros(0, int), np.zeros(0, int), np.array([1, 2]))
    drawn = [
        (rng.integers(0, 6, 7), rng.integers(0, 2, 7), rng.permutation(6)[:3]) for _ in range(12)
    ]
    compare(answer, [hand, again, *drawn, none])


def patched(
    old,
    rows,
    differences,
    extra,
    *,
    add=lambda a, b: a + b,
    place=lambda place, at: place,
    more=True,
    swap=False,
    again=False,
):
    found, d, e, at = [], 0, 0, 0
    for begin, length, count in np.asarray(rows).tolist():
        begin = place(begin, at)
        piece = add(old[begin : begin + length], differences[d : d + length])
        inserted = extra[e : e + count] if more else extra[:0]
        found += [inserted, piece] if swap else [piece, inserted]
        at = begin + length
        d, e = (0, 0) if again else (d + length, e + count)
    return np.concatenate([np.zeros(0, np.uint8), *found])


@exercise(
    "54.2",
    patched,
    {
        "add modulo 256: keep uint8, which wraps": dict(
            add=lambda a, b: a.astype(int) + b.astype(int)
        ),
        "add modulo 256: 250 + 10 is 4, not 255": dict(
            add=lambda a, b: np.minimum(a.astype(int) + b, 255).astype(np.uint8)
        ),
        "the differences are added to the old bytes": dict(add=lambda a, b: a),
        "the differences are added, not subtracted": dict(add=lambda a, b: a - b),
        "each piece begins at its own place in the old file": dict(place=lambda place, at: at),
        "after each piece come `more` bytes of extra": dict(more=False),
        "the piece comes first, then the extra bytes": dict(swap=True),
        "go on in differences and extra where the last row ended": dict(again=True),
    },
)
def check_patched(answer: Answer) -> None:
    """An array of uint8."""
    rng = np.random.default_rng(54)
    cases = [(np.uint8([10, 20, 250]), np.array([[1, 2, 1]]), np.uint8([1, 10]), np.uint8([7]))]
    for count in (1, 2, 3, 4):
        rows = np.stack([rng.integers(0, 20, count), rng.integers(1, 9, count)], 1)
        rows = np.column_stack([rows, rng.integers(1, 5, count)])
        old = rng.integers(0, 256, 30).astype(np.uint8)
        parts = (rng.integers(1, 256, rows[:, k].sum()).astype(np.uint8) for k in (1, 2))
        cases.append((old, rows, *parts))
    compare(answer, cases)


def noticed(frozen, every, lasts, asks, *, signed=None, up=True, strict=False):
    last = frozen // every * every if signed is None else signed(frozen, every)
    ends = last + lasts + strict
    return -(-ends // asks) * asks if up else ends // asks * asks


@exercise(
    "54.3",
    noticed,
    {
        "the time counts from the last timestamp, not from the attack": dict(
            signed=lambda frozen, every: frozen
        ),
        "the last timestamp is the one before the attack, not the next one": dict(
            signed=lambda frozen, every: -(-frozen // every) * every
        ),
        "a timestamp of hour `frozen` itself still gets through": dict(
            signed=lambda frozen, every: (frozen - 1) // every * every
        ),
        "the device notices when it asks after that: round up": dict(up=False),
        "it has expired when `lasts` hours are over, not an hour later": dict(strict=True),
        "the device notices when it asks, not when the timestamp expires": lambda f, e, n, a: (
            f // e * e + n
        ),
    },
)
def check_noticed(answer: Answer) -> None:
    """One integer, the hour."""
    cases = [(30, 12, 24, 5), (24, 12, 24, 6), (47, 12, 24, 1), (7, 1, 6, 4), (50, 24, 168, 7)]
    compare(answer, [*cases, (13, 5, 9, 3), (10, 5, 10, 5), (1, 2, 3, 7), (99, 10, 40, 11)])
