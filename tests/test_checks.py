"""Every exercise: its solution is accepted, plausible mistakes are rejected with a fitting hint."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from lesson_code import cells, definitions

from helpers import checks

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def erase_with(high=21, same=False, size=8, inplace=False, seeded=True, diagonal=False):
    def erase(x, generator):
        n = len(x)
        corner = torch.randint(
            0, high, (2, 1 if same else n), generator=generator if seeded else None
        )
        if diagonal:
            corner = corner[:1].repeat(2, 1)
        rows, columns = ((torch.arange(28) - c[:, None]) for c in corner)
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[
            :, None
        ]
        mask = (~inside)[:, None].float()
        return x.mul_(mask) if inplace else x * mask

    return erase


def mean_precision(labels, answers):
    used = [k for k in range(4) if (answers == k).any()]
    return np.mean([(labels[answers == k] == k).mean() for k in used])


def days(watt_hours, sleep_watts, awake_watts, seconds, per_hour):
    awake = seconds * per_hour / 3600
    return watt_hours / (awake * awake_watts + (1 - awake) * sleep_watts) / 24


def batch(n, m, peak, bandwidth, size):
    cost = peak / bandwidth * size
    return cost * n * m / (n * m - cost * (n + m) or 1e-9)


def unsigned(low, high, bits, stretch=True, steps=None, signed=False, sign=1, whole=round):
    if stretch:
        low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / (steps or 2**bits - 1)
    return scale, sign * whole(-low / scale) - signed * 2 ** (bits - 1)


def threshold(x, bits, thresholds, clip=True, power=2, pick=np.argmin, sign=1):
    top = 2 ** (bits - sign) - 1
    step = thresholds[:, None] / top
    q = np.rint(x / step)
    q = q.clip(-top, top) if clip else q
    errors = (np.abs(x - step * q) ** power).sum(1)
    return thresholds[pick(errors)]


def squared_error(x, bits, thresholds):
    top = 2 ** (bits - 1) - 1
    step = thresholds[:, None] / top
    return ((x - step * np.rint(x / step).clip(-top, top)) ** 2).sum(1)


def e2m1(x, largest=6.0, smallest=0, rule=np.rint, keep_sign=True, flat=False):
    size = np.minimum(np.abs(x), largest)
    step = np.exp2(np.maximum(np.frexp(np.minimum(size, 1e9))[1] - 1, smallest) - 1)
    result = rule(size / step) * step
    result = np.copysign(result, x) if keep_sign else result
    return result.ravel() if flat else result


# (exercise, wrong answer, words of the hint that fits)
WRONG = [
    ("00.1", lambda p: p - np.uint8(128), "wrapped around"),
    ("00.1", lambda p: p / 255, "real value"),
    ("00.1", lambda p: p.astype(np.int8), "Subtract first"),
    ("00.1", lambda p: p.astype(int) - 128, "dtype is int64"),
    ("00.1", lambda p: np.clip(p, 0, 127).astype(np.int8), "shift by the zero point"),
    ("00.1", lambda p: (p.astype(int) - 127).clip(-128, 127).astype(np.int8), "expected -128"),
    ("00.1", lambda p: p.no_such_thing, "raised AttributeError"),
    ("00.1", np.array([1]), "pass the function itself"),
    ("14.1", lambda y, a: (y == a).mean(), "plain accuracy"),
    (
        "14.1",
        lambda y, a: sum((a[y == k] == k).mean() for k in (0, 1, 3)) / 4,
        "class 2 never occurs",
    ),
    ("14.1", lambda y, a: np.mean([(a[y == k] == k).mean() for k in (0, 1)]), "expected 0.7"),
    ("14.1", mean_precision, "mean precision"),
    ("14.1", lambda y, a: np.array([0.6, 0.5, 1]), "one number"),
    ("14.2", lambda p, h: int(1.96**2 * p * (1 - p) / h**2), "round up"),
    ("14.2", lambda p, h: 1.96**2 * p * (1 - p) / h**2, "round up"),
    ("14.2", lambda p, h: int(np.ceil(p * (1 - p) / h**2)), "1.96 is missing"),
    ("14.2", lambda p, h: int(np.ceil(1.96**2 * p * (1 - p) / (2 * h) ** 2)), "half-width"),
    ("14.2", lambda p, h: int(np.ceil(1.96 * np.sqrt(p * (1 - p)) / h)), "square"),
    ("14.2", lambda p, h: 100, "expected 3458"),
    ("14.3", erase_with(same=True), "draw one corner for each image"),
    ("14.3", erase_with(high=20), "upper end"),
    ("14.3", erase_with(high=28), "0..20"),
    ("14.3", erase_with(size=9, high=20), "not 8x8"),
    ("14.3", erase_with(inplace=True), "has changed"),
    ("14.3", erase_with(seeded=False), "pass generator"),
    ("14.3", erase_with(diagonal=True), "independent"),
    ("14.3", lambda x, generator: x * 0.5, "stay as they are"),
    ("14.3", lambda x, generator: x[:1], "of shape"),
    ("15.1", lambda e, a, b, t, n: 24 * days(e, a, b, t, n), "those are hours"),
    ("15.1", lambda e, a, b, t, n: e / (t * n / 3600 * b + a) / 24, "not asleep"),
    ("15.1", lambda e, a, b, t, n: e / (t * n / 3600 * b) / 24, "between the answers"),
    ("15.1", lambda e, a, b, t, n: days(e, a, b, t, n) / 3600, "joules"),
    ("15.1", lambda e, a, b, t, n: 100.0, "expected 1212 days"),
    ("15.2", lambda n, m, p, w, s: batch(n, m, p, w, s), "round up"),
    ("15.2", lambda n, m, p, w, s: int(batch(n, m, p, w, s)), "round up"),
    ("15.2", lambda n, m, p, w, s: math.ceil(p / w * s), "inputs and outputs"),
    ("15.2", lambda n, m, p, w, s: math.ceil(batch(n, m, p, w, s)), "no batch"),
    ("15.2", lambda n, m, p, w, s: math.ceil(batch(n, m, p, w, 1)), "expected a batch of 18"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s - t) * u, "those are bits"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s) * u / 8, "round trip"),
    ("15.3", lambda m, d, s, u, t: (m / d - t) * u / 8, "compute as well"),
    ("15.3", lambda m, d, s, u, t: (m / d - m / s - t) * u / 8, "return 0.0"),
    ("15.3", lambda m, d, s, u, t: 1.0, "expected 475832"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, stretch=False), "stretch the range"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, steps=2**n), "steps between them"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, signed=True), "signed zero point"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, sign=-1), "sign is wrong"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, whole=float), "lie on an integer"),
    ("21.1", lambda a, b, n: unsigned(a, b, n, whole=int), "do not cut off"),
    ("21.1", lambda a, b, n: unsigned(a, b, n)[0], "two values"),
    ("21.1", lambda a, b, n: (1.0, 0), "expected 0.0176471"),
    ("21.2", lambda x, b, t: threshold(x, b, t, clip=False), "clip the integers"),
    ("21.2", lambda x, b, t: threshold(x, b, t, power=1), "square the errors"),
    ("21.2", lambda x, b, t: threshold(x, b, t, pick=np.argmax), "take the smallest"),
    ("21.2", lambda x, b, t: threshold(x, b, t, sign=0), "one bit is the sign"),
    ("21.2", lambda x, b, t: squared_error(x, b, t).min(), "that is the error"),
    ("21.2", lambda x, b, t: squared_error(x, b, t).argmin(), "thresholds[place]"),
    ("21.2", squared_error, "one threshold"),
    ("21.2", lambda x, b, t: x.sort() or 1, "has changed"),
    ("21.2", lambda x, b, t: 7.0, "expected 2.5"),
    ("21.3", lambda x: e2m1(x, largest=np.inf), "nothing is larger than 6"),
    ("21.3", lambda x: e2m1(x, smallest=1), "below 1 the step stays 0.5"),
    ("21.3", lambda x: e2m1(x, rule=lambda v: np.floor(v + 0.5)), "lies in the middle"),
    ("21.3", lambda x: e2m1(x, rule=np.floor), "is nearest"),
    ("21.3", lambda x: e2m1(x, keep_sign=False), "keep the sign"),
    ("21.3", lambda x: e2m1(x, flat=True), "shape"),
    ("21.3", lambda x: np.rint(x * 7 / 6) * 6 / 7, "is one of the numbers"),
]


def solutions():
    """(exercise, notebook stem, name of the function) of every check call in the solutions."""
    found = []
    for path in sorted((NOTEBOOKS / "solutions").glob("*.ipynb")):
        for cell in cells(f"solutions/{path.stem}"):
            for node in ast.walk(ast.parse(cell)):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
                    found.append((node.args[0].value, path.stem, node.args[1].id))
    return found


@pytest.mark.parametrize(("number", "lesson", "name"), solutions())
def test_solution_is_accepted(number, lesson, name, capsys):
    checks.check(number, getattr(definitions(f"solutions/{lesson}"), name))
    assert capsys.readouterr().out == f"{number} correct\n"


@pytest.mark.parametrize(("number", "answer", "words"), WRONG)
def test_mistake_gets_its_hint(number, answer, words, capsys):
    checks.check(number, answer)
    said = capsys.readouterr().out
    assert said.startswith(f"{number} not yet: ") and words in said


def test_every_exercise_has_a_solution_and_two_mistakes():
    solved = {number for number, _, _ in solutions()}
    assert solved == set(checks.EXERCISES)
    for number in solved:
        assert sum(number == wrong[0] for wrong in WRONG) >= 2


@pytest.mark.parametrize("answer", [None, ..., lambda *a: None, lambda *a: ...])
@pytest.mark.parametrize(
    "number", ["00.1", "14.1", "14.2", "14.3", "15.1", "15.2", "15.3", "21.1", "21.2", "21.3"]
)
def test_a_stub_is_not_attempted(number, answer, capsys):
    checks.check(number, answer)
    assert capsys.readouterr().out.startswith(f"{number} not attempted")


@pytest.mark.parametrize("number", ["14.9", "99.1", 14.1, ""])
def test_unknown_exercise(number):
    with pytest.raises(ValueError, match="unknown exercise"):
        checks.check(number, None)
