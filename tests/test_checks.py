"""Every exercise: what is right is accepted in any style, and each mistake gets its own hint.

The known mistakes stand beside the checks, in one table that the checks and these tests read.
"""

import ast
import importlib
import inspect
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from lesson_code import cells, definitions
from numpy.random import default_rng
from scipy.signal import correlate2d
from sklearn.metrics import balanced_accuracy_score

from helpers import checks, exercises, mistakes, toolchain
from helpers.checks import check
from helpers.exercises import EXERCISES, NotYet

for part in sorted(Path(checks.__file__).parent.glob("checks_*.py")):
    importlib.import_module(f"helpers.{part.stem}")

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
MISTAKES = [(number, hint) for number, e in EXERCISES.items() for hint in e.mistakes]
RIGHT = {number: e.solution for number, e in EXERCISES.items()}


def solutions():
    """(exercise, notebook, name of the function): what solutions check, and what try-its end in."""
    found = []
    for path in sorted(NOTEBOOKS.rglob("*.ipynb")):
        notebook = path.relative_to(NOTEBOOKS).with_suffix("").as_posix()
        for cell in cells(notebook):
            for node in ast.walk(ast.parse(TransformerManager().transform_cell(cell))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
                    number = node.args[0].value
                    if notebook.startswith("solutions/") or number.endswith(".0"):
                        found.append((number, notebook, node.args[1].id))
    return found


@pytest.fixture
def said(capsys):
    """What check prints about an answer, without the number."""

    def verdict(number, answer):
        check(number, answer)
        out = capsys.readouterr().out
        assert out.startswith(f"{number} ") and out.endswith("\n") and out.count("\n") == 1
        return out.removeprefix(f"{number} ").removesuffix("\n")

    return verdict


# --- what is right -----------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "lesson", "name"), solutions())
def test_a_solution_is_accepted(number, lesson, name, said):
    answer = getattr(definitions(lesson), name)
    if hasattr(answer, "c") and toolchain.missing():
        pytest.skip(toolchain.missing())
    assert said(number, answer) == "correct"


@pytest.mark.parametrize("number", EXERCISES)
def test_what_a_check_compares_with_is_accepted(number, said):
    assert said(number, RIGHT[number]) == "correct"


def looked_up(x):
    """e2m1 by the nearest of a table's numbers, and of two the one at an even place."""
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    gap = np.abs(np.abs(x)[..., None] - table)
    choice = np.where(gap == gap.min(-1, keepdims=True), np.arange(8) % 2, 2)
    return np.sign(x) * table[choice.argmin(-1)]


def smoothed_by_torch(logits, labels, epsilon):
    z, y = torch.from_numpy(logits), torch.from_numpy(labels)
    return torch.nn.functional.cross_entropy(z, y, label_smoothing=epsilon)


def correlated_by_loops(x, w):
    (H, W), (kh, kw) = x.shape, w.shape
    return [
        [float((x[i : i + kh, j : j + kw] * w).sum()) for j in range(W - kw + 1)]
        for i in range(H - kh + 1)
    ]


def gru_by_loops(x, h, W_ih, W_hh, b):
    def gate(row, k, state):
        """The sum that unit k of the stack sees."""
        return b[k] + sum(W_ih[k] * x[row]) + sum(W_hh[k] * state)

    n, size = h.shape
    new = h.tolist()
    for i in range(n):
        r = np.array([1 / (1 + math.exp(-gate(i, k, h[i]))) for k in range(size)])
        for k in range(size):
            z = 1 / (1 + math.exp(-gate(i, size + k, h[i])))
            new[i][k] = z * h[i, k] + (1 - z) * math.tanh(gate(i, 2 * size + k, r * h[i]))
    return new


def split_by_loops(subjects, held, generator):
    people = generator.permutation(sorted({int(s) for s in subjects}))[:held].tolist()
    parts = [], []
    for row, person in enumerate(subjects):
        parts[person in people].append(row)
    return parts


def erased_by_loops(x, generator):
    x = x.clone()
    for image in x:
        top, left = (int(torch.randint(21, (), generator=generator)) for _ in range(2))
        image[0, top : top + 8, left : left + 8] = 0
    return x


def oscillation_by_loops(integers, m):
    found = []
    for column in np.asarray(integers).T.tolist():
        f = last = 0
        for before, after in itertools.pairwise(column):
            change = (after > before) - (after < before)
            f = m * (change * last < 0) + (1 - m) * f
            last = change or last
        found.append(f)
    return found


OTHER_STYLES = [
    ("00.1", lambda p: np.arange(-128, 128, dtype=np.int8)[p]),
    ("00.1", lambda p: (p ^ 128).view(np.int8)),
    ("00.1", lambda p: (torch.from_numpy(p).int() - 128).to(torch.int8)),
    ("11.1", lambda h: (1 - h**2).tolist()),
    ("11.1", lambda h: 1 - torch.tensor(h, requires_grad=True) ** 2),
    ("11.1", lambda h: 1 - h.astype(np.float32) ** 2),
    ("11.1", lambda h: np.array([Fraction(1 - v**2) for v in h.flat], object).reshape(h.shape)),
    ("11.2", smoothed_by_torch),
    ("11.2", lambda z, y, e: smoothed_by_torch(z.astype(np.float32), y, e).numpy()),
    ("11.3", lambda w, g, state, *rest: RIGHT["11.3"](w, g, state, *rest).tolist()),
    ("11.3", lambda w, g, state, *rest: torch.tensor(RIGHT["11.3"](w, g, state, *rest))),
    ("12.2", lambda *a: np.array(RIGHT["12.2"](*a))),
    ("12.2", lambda *a: [np.int32(v) for v in RIGHT["12.2"](*a)]),
    ("13.2", lambda c, s: torch.full((c, 1, s, s), 1 / s**2)),
    ("12.4", correlated_by_loops),
    ("12.4", lambda x, w: correlate2d(x, w, "valid")),
    ("12.4", lambda x, w: RIGHT["12.4"](x.astype(np.float32), w.astype(np.float32))),
    ("15.2", lambda steps, kept: -np.log(kept ** (-1 / np.float32(steps)) - 1)),
    ("15.3", gru_by_loops),
    ("17.1", split_by_loops),
    ("16.1", balanced_accuracy_score),
    ("16.2", lambda p, h: np.int64(np.ceil(1.959964**2 * p * (1 - p) / h**2))),
    ("16.3", erased_by_loops),
    ("18.2", lambda *a: np.inf if RIGHT["18.2"](*a) == math.inf else np.int64(RIGHT["18.2"](*a))),
    ("18.3", lambda *a: RIGHT["18.3"](*a) or 0),
    ("21.1", lambda *a: [np.float32(RIGHT["21.1"](*a)[0]), np.int64(RIGHT["21.1"](*a)[1])]),
    ("21.1", lambda *a: (torch.tensor(RIGHT["21.1"](*a)[0]), torch.tensor(RIGHT["21.1"](*a)[1]))),
    ("21.2", lambda *a: np.float32(RIGHT["21.2"](*a))),
    ("22.3", looked_up),
    ("23.1", lambda *a: [part.tolist() for part in RIGHT["23.1"](*a)]),
    ("24.2", lambda *a: [torch.from_numpy(part) for part in RIGHT["24.2"](*a)]),
    ("25.0", lambda x, *a: [float(RIGHT["25.0"](np.array([v]), *a)[0]) for v in x]),
    ("26.1", lambda *a: (RIGHT["26.1"](*a)[0].astype(np.int16), *RIGHT["26.1"](*a)[1:])),
    ("25.2", oscillation_by_loops),
]


@pytest.mark.parametrize(("number", "answer"), OTHER_STYLES)
def test_a_right_answer_in_another_style_is_accepted(number, answer, said):
    assert said(number, answer) == "correct"


@pytest.mark.parametrize("number", sorted(EXERCISES.keys() - {"26.2"}))  # there ties decide
def test_an_answer_that_computes_in_float32_is_accepted(number, said):
    def single(*arguments):
        floats = [isinstance(a, np.ndarray) and a.dtype == float for a in arguments]
        given = [a.astype(np.float32) if f else a for a, f in zip(arguments, floats, strict=True)]
        return RIGHT[number](*given)

    assert said(number, single) == "correct"


def test_adamw_agrees_with_torch():
    w, state = torch.tensor([1.0, -2.0, 3e-7], dtype=torch.float64, requires_grad=True), {}
    update = torch.optim.AdamW([w], lr=0.2, betas=(0.6, 0.8), eps=0.1, weight_decay=0.3)
    ours = w.detach().numpy().copy()
    for t in range(5):
        w.grad = torch.tensor([0.3, -1.0, 0.01 * t], dtype=torch.float64)
        update.step()
        ours = RIGHT["11.3"](ours, w.grad.numpy(), state, 0.2, 0.3, 0.6, 0.8, 0.1)
    assert np.allclose(ours, w.detach(), rtol=1e-12)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), eps=st.sampled_from([1e-5, 0.1, 2.0]))
def test_folded_layers_do_the_work_of_both(seed, eps):
    draw = default_rng(seed)
    w, b, x = draw.normal(size=(3, 5)), draw.normal(size=3), draw.normal(size=(4, 5))
    gamma, beta, mean, var = *draw.normal(size=(3, 3)), draw.uniform(0.1, 2, 3)

    def norm(y):
        tensors = (torch.from_numpy(v) for v in (y, mean, var, gamma, beta))
        return torch.nn.functional.batch_norm(*tensors, eps=eps).numpy()

    folded_w, folded_b = RIGHT["23.1"](w, b, gamma, beta, mean, var, eps)
    assert np.allclose(x @ folded_w.T + folded_b, norm(x @ w.T + b))
    q, step = draw.integers(-7, 8, (3, 5)), draw.uniform(0.1, 1, 3)
    new_q, new_step, bias = RIGHT["26.1"](q, step, gamma, beta, mean, var, eps)
    assert (new_step > 0).all() and new_q.dtype == q.dtype
    layer = x @ (new_step[:, None] * new_q).T + bias
    assert np.allclose(layer, norm(x @ (step[:, None] * q).T))


def test_equalized_layers_compute_the_same_from_equal_ranges():
    draw = default_rng(0)
    w1, b1, w2, x = (draw.normal(size=shape) for shape in ((4, 6), (4,), (3, 4), (50, 6)))
    e1, eb, e2 = RIGHT["24.2"](w1, b1, w2)
    assert np.allclose(np.maximum(x @ w1.T + b1, 0) @ w2.T, np.maximum(x @ e1.T + eb, 0) @ e2.T)
    assert np.allclose(np.abs(e1).max(1), np.abs(e2).max(0))


@settings(deadline=None, max_examples=50)
@given(size=st.floats(0.1, 2), seed=st.integers(0, 2**32 - 1))
def test_step_slope_agrees_with_straight_through_autograd(size, seed):
    x = torch.from_numpy(default_rng(seed).normal(size=20) * 4)
    step = torch.full((20,), size, dtype=torch.float64, requires_grad=True)
    v = (x / step).clamp(-4, 3)
    (step * (v + (v.round() - v).detach())).sum().backward()
    assert np.allclose(RIGHT["25.0"](x.numpy(), size, -4, 3), step.grad)


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "hint"), MISTAKES)
def test_a_known_mistake_gets_its_own_hint(number, hint, said):
    assert said(number, EXERCISES[number].mistakes[hint]) == f"not yet: {hint}"


def erasing(high=21, same=False, size=8, seeded=True, diagonal=False, seed=None, n=None, gap=0):
    """Exercise 14.3 with one mistake, or none."""

    def erase(x, generator):
        generator = torch.Generator().manual_seed(seed) if seed is not None else generator
        count = 1 if same else (n or len(x))
        corner = torch.randint(0, high, (2, count), generator=generator if seeded else None)
        corner = corner[:1].repeat(2, 1) if diagonal else corner
        rows, columns = (torch.arange(28) - c[:, None] for c in corner)
        inside = [(v >= 0) & (v < size) for v in (rows, columns)]
        if gap:
            inside[0] = inside[0] & (rows != 3) | (rows == size)  # two pieces
        return x * (~(inside[0][:, :, None] & inside[1][:, None]))[:, None].float()

    return erase


def split_by(subjects, people):
    out = np.isin(subjects, people)
    return np.flatnonzero(~out), np.flatnonzero(out)


def neighbors_only(s, held, generator):
    people = np.unique(s)
    start = generator.integers(len(people))
    return split_by(s, np.roll(people, start)[:held])


def printing(h):
    print(1 - h**2)


def endless(h):
    return endless(h)


def forgetful(h):
    1 - h**2


# (exercise, wrong answer, words of the hint that fits); most came from readers and reviewers
OTHERS = [
    ("00.1", lambda p: p.astype(int) - 128, "dtype is int64, not int8"),
    ("00.1", lambda p: (p.astype(int) - 128).tolist(), "dtype is int64, not int8"),
    ("00.1", lambda p: p.no_such_thing, "raised AttributeError"),
    ("00.1", np.array([1]), "pass the function itself"),
    ("00.1", lambda p: (p.astype(int) - 128).astype(np.int8)[0], "has the shape (3,)"),
    ("11.1", printing, "returned None: is `return` missing? (it printed '[[0.75 0.75"),
    ("11.1", forgetful, "returned None: is `return` missing?"),
    ("11.1", lambda h: np.subtract(1, np.square(h, out=h), out=h), "your function changed h"),
    ("11.1", lambda h: (1 - h**2).sum(), "has the shape ()"),
    ("11.1", lambda h: 0.8 - h**2, "h = 0.5 gave 0.55, expected 0.75"),
    ("11.1", lambda h: 1 - h**2 + 1e-3 * (h == 0.99), "h = 0.99 gave 0.0209, expected 0.0199"),
    ("11.1", lambda h, k: h, "missing 1 required positional argument"),
    ("11.1", lambda h: exit(), "your function raised SystemExit"),
    ("11.1", endless, "your function raised RecursionError"),
    ("11.2", lambda z, y, e: RIGHT["11.2"](z, y, 0.1), "epsilon=0.3"),
    ("11.2", lambda z, y, e: np.zeros(len(z)), "expected one number"),
    (
        "11.2",
        lambda z, y, e: loss_from_p(z, y, e, 1e-12),
        "compute log p without forming p",
    ),
    ("11.2", lambda z, y, e: loss_from_p(z, y, e, 1e-7), "without forming p"),
    ("11.3", lambda w, g, state, rate, decay, *rest: w.__imul__(1 - rate), "changed w"),
    ("11.3", lambda w, g, state, *rest: g, "is 0.3, expected"),
    ("11.3", lambda w, g, state, *rest: w[:2], "return the new weight"),
    ("11.3", lambda w, g, s, rate, decay, *rest: RIGHT["11.3"](w, g, s, 0.01, decay, *rest), "is "),
    ("12.2", lambda *a: ("656", "128576"), "returned '656', expected numbers as parameters"),
    ("12.2", lambda *a: 656, "return 2 values (parameters, MACs)"),
    ("12.2", lambda *a: (656, 128577), "MACs is 128577, expected 128576"),
    ("12.2", lambda *a: tuple(float(v) for v in RIGHT["12.2"](*a)), "an int is asked for"),
    ("13.2", lambda c, s: np.full((c, 1, s, s), 1 / s**2), "dtype is float64, not float32"),
    ("13.2", lambda c, s: [[[[0.25, 0.25], [0.25]]]] * c, "expected an array of shape"),
    ("13.2", lambda c, s: np.full((c, s, s), 1 / s**2), "expected the shape (3, 1, 2, 2)"),
    ("12.4", lambda x, w: RIGHT["12.4"](x, w)[:, :-1], "expected the shape (6, 9)"),
    ("12.4", lambda x, w: RIGHT["12.4"](x, w) + 0j, "complex"),
    ("15.2", lambda steps, kept: "4.97", "returned '4.97', expected one number"),
    ("15.3", lambda x, h, *a: h.__setitem__(..., RIGHT["15.3"](x, h, *a)) or h, "changed h"),
    ("15.3", lambda x, h, *a: RIGHT["15.3"](x, h, *a)[:1], "expected the shape (4, 3)"),
    ("15.3", lambda x, h, *a: RIGHT["15.3"](x, 0 * h, *a), "W_hn (r * h)"),
    ("15.3", lambda x, h, *a: RIGHT["15.3"](x, h.T, *a), "raised ValueError"),
    ("17.1", lambda s, held, g: (np.where(s != 3), np.where(s == 3)), "take its [0]"),
    ("17.1", lambda s, held, g: (np.nonzero(s != 3), np.nonzero(s == 3)), "take its [0]"),
    ("17.1", lambda s, held, g: (np.argwhere(s != 3), np.argwhere(s == 3)), "each is a list"),
    ("17.1", lambda s, held, g: (s != 3, s == 3), "not masks"),
    ("17.1", lambda s, held, g: (torch.tensor(s != 3), torch.tensor(s == 3)), "not masks"),
    ("17.1", lambda s, held, g: np.split(g.permutation(len(s)), [6]), "draw people"),
    ("17.1", lambda s, held, g: split_by(s, np.unique(s)[:held]), "draw from all"),
    ("17.1", lambda s, held, g: split_by(s, np.unique(s)[g.permutation(4)[:held]]), "from all"),
    ("17.1", neighbors_only, "drawn freely"),
    ("17.1", lambda s, held, g: split_by(s, g.choice(np.unique(s), held)), "in the test part"),
    ("17.1", lambda s, held, g: split_by(s, g.choice(np.unique(s), 1)), "held=2: 1 people"),
    ("17.1", lambda s, held, g: split_by(s, g.choice(np.unique(s), held, False))[::-1], "swapped"),
    ("17.1", lambda s, h, g: split_by(s, default_rng().choice(np.unique(s), h, False)), "from the"),
    ("17.1", lambda s, h, g: split_by(s, default_rng(0).choice(np.unique(s), h, False)), "from"),
    ("17.1", lambda s, held, g: (s[s != 3], s[s == 3]), "places, not names"),
    ("17.1", lambda s, held, g: (np.array([0.0]), np.array([2.0])), "whole"),
    ("17.1", lambda s, held, g: (np.array([0, 1]), np.array([2, 4, 10])), "every window"),
    ("17.1", lambda s, held, g: np.flatnonzero(s == 3), "two arrays"),
    ("16.1", lambda y, a: np.array([0.6, 0.5, 1]), "expected one number"),
    ("16.1", lambda y, a: np.mean([(a[y == k] == k).mean() for k in (0, 1)]), "expected 0.7"),
    ("16.2", lambda p, h: np.ceil(1.96**2 * p * (1 - p) / h**2), "a float (float64): an int is"),
    ("16.2", lambda p, h: 3458, "p=0.5, h=0.05"),
    ("16.3", erasing(same=True), "one corner for each image"),
    ("16.3", erasing(high=20), "upper end"),
    ("16.3", erasing(high=28), "0..20"),
    ("16.3", erasing(size=9, high=20), "not 8x8"),
    ("16.3", erasing(gap=1, high=20), "not 8x8"),
    ("16.3", erasing(seeded=False), "pass generator"),
    ("16.3", erasing(seed=0), "another seed"),
    ("16.3", erasing(diagonal=True), "independent"),
    ("16.3", erasing(n=64), "raised RuntimeError"),
    ("16.3", lambda x, generator: x.mul_(erasing()(x, generator) != 0), "your function changed x"),
    ("16.3", lambda x, generator: erasing()(torch.ones_like(x), generator), "stay as they are"),
    ("16.3", lambda x, generator: x * 0.5, "stay as they are"),
    ("16.3", lambda x, generator: x[:1], "return a float tensor of shape"),
    ("16.3", lambda x, generator: x.numpy(), "return a float tensor of shape"),
    ("18.1", lambda *a: 100.0, "is 100, expected 1212.44"),
    ("18.2", lambda *a: float(RIGHT["18.2"](*a)), "an int is asked for"),
    ("18.2", lambda n, m, *a: n // m, "is 2, expected 18"),
    ("18.2", lambda *a: RIGHT["18.2"](*a, never=False, whole=math.floor), "still waits: round up"),
    ("18.3", lambda *a: RIGHT["18.3"](*a, at_least=float, bits=1), "those are bits"),
    ("18.3", lambda *a: 1.0, "expected 475832"),
    ("21.1", lambda *a: RIGHT["21.1"](*a)[0], "return 2 values (scale, zero_point)"),
    ("21.1", lambda *a: (RIGHT["21.1"](*a)[0], float(RIGHT["21.1"](*a)[1])), "an int is asked"),
    ("21.1", lambda *a: (RIGHT["21.1"](*a)[0], 57.0), "zero_point is 57, expected 64"),
    ("21.1", lambda *a: (1.0, 0), "expected 0.0176471"),
    ("21.1", lambda *a: clamped(*RIGHT["21.1"](*a, stretch=False), a[2]), "stretch the range"),
    ("21.2", lambda *a: np.ones(6), "expected one number"),
    ("21.2", lambda x, b, t: x.sort() or 1, "your function changed x"),
    ("21.2", lambda x, b, t: t[::-1].sort() or 1, "your function changed thresholds"),
    ("21.2", lambda *a: 7.0, "expected 2.5"),
    ("22.3", lambda x: RIGHT["22.3"](x).ravel(), "expected the shape (2, 2)"),
    ("23.1", lambda *a: (a[0], a[1]), "each row of w"),
    ("23.1", lambda w, b, g, beta, m, v, eps: (w * (g / np.sqrt(v + eps)), b), "to the rows"),
    ("23.1", lambda *a: (RIGHT["23.1"](*a)[0], 1.0), "b has the shape ()"),
    ("23.1", lambda w, *a: RIGHT["23.1"](w.__imul__(2), *a), "your function changed w"),
    ("23.1", lambda w, b, *a: RIGHT["23.1"](w, b.__iadd__(2), *a), "your function changed b"),
    ("24.2", lambda *a: RIGHT["24.2"](*a)[:2], "return 3 values (w1, b1, w2)"),
    ("24.2", lambda w1, b1, w2: RIGHT["24.2"](w1.__imul__(2), b1, w2), "changed w1"),
    ("24.3", lambda w, step, *a: step * RIGHT["24.3"](w, step, *a), "not s q"),
    ("24.3", lambda *a: RIGHT["24.3"](*a)[:1], "the shape (1,)"),
    ("24.3", lambda w, step, H, low, high: np.full(len(w), low), "expected"),
    ("24.3", lambda w, step, H, *a: RIGHT["24.3"](w, step, np.eye(len(w)), *a), "to nearest"),
    ("24.3", lambda w, step, H, *a: RIGHT["24.3"](w, step, H * (H < 0.9), *a), "not yet"),
    ("24.3", lambda w, *a: RIGHT["24.3"](w.__imul__(0.9), *a), "your function changed w"),
    ("25.0", lambda *a: RIGHT["25.0"](*a).sum(), "has the shape ()"),
    ("25.0", lambda x, *a: 0 * x, "x = 0.3 gave 0, expected 0.4 (step=0.5, qmin=-2, qmax=1)"),
    ("26.1", lambda q, s, *a: (q * 0.5, *RIGHT["26.1"](q, s, *a)[1:]), "q takes the sign of g"),
    ("26.1", lambda *a: (RIGHT["26.1"](*a)[0] * 1.0, *RIGHT["26.1"](*a)[1:]), "an int is asked"),
    ("26.1", lambda *a: RIGHT["26.1"](*a)[0], "return 3 values"),
    ("25.2", lambda *a: RIGHT["25.2"](*a).mean(), "has the shape ()"),
    ("25.2", lambda q, m: 0.0 * q[0], "expected 0.3125"),
]


def clamped(scale, zero_point, bits):
    return scale, min(max(zero_point, 0), 2**bits - 1)


def loss_from_p(z, y, epsilon, floor):
    """The smoothed loss from probabilities with a floor, which hides that they are 0."""
    p = np.exp(z - z.max(1, keepdims=True))
    log_p = np.log(p / p.sum(1, keepdims=True) + floor)
    return RIGHT["11.2"](z, y, epsilon, log_p=lambda _: log_p)


@pytest.mark.parametrize(("number", "answer", "words"), OTHERS)
def test_another_wrong_answer_is_told_what_is_wrong(number, answer, words, said):
    told = said(number, answer)
    assert told.startswith("not yet: ") and words in told and len(told) < 300


def test_every_exercise_has_a_solution_and_two_mistakes():
    assert {number for number, _, _ in solutions()} == set(EXERCISES)
    wrong = [number for number, _ in MISTAKES] + [number for number, _, _ in OTHERS]
    assert all(wrong.count(number) >= 2 for number in EXERCISES)


PARAMETERS = [
    (number, k, name)
    for number, solution in RIGHT.items()
    for k, name in enumerate(
        p.name
        for p in inspect.signature(solution).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    )
]


@pytest.mark.parametrize(("number", "k", "name"), PARAMETERS)
def test_every_argument_is_given_in_two_settings(number, k, name, said):
    """An answer that keeps what it was given first in one place is found out."""
    first = []

    def stubborn(*arguments):
        arguments = list(arguments)
        if k < len(arguments):
            first.append(arguments[k])
            arguments[k] = first[0]
        return RIGHT[number](*arguments)

    assert said(number, stubborn).startswith("not yet: ") and len(first) > 1


@pytest.mark.parametrize(("number", "k", "name"), PARAMETERS)
def test_an_answer_that_changes_an_argument_is_told_so(number, k, name, said):
    arrays = []

    def careless(*arguments):
        result = RIGHT[number](*arguments)
        if k < len(arguments) and hasattr(arguments[k], "shape"):
            arrays.append(arguments[k].shape)
            values = (
                arguments[k].flat if isinstance(arguments[k], np.ndarray) else arguments[k].view(-1)
            )
            values[0] += 1
        return result

    def careless_with_tensors(x, generator):
        result = RIGHT[number](x, generator)
        arrays.append(x.shape)
        x += 1
        return result

    told = said(number, careless_with_tensors if (number, k) == ("16.3", 0) else careless)
    if arrays:
        assert told.startswith(f"not yet: your function changed {name}")
    else:
        assert told == "correct"


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_numbers_in_a_hint_can_be_told_apart(a, b):
    told = mistakes.apart(a, b)
    assert (told[0] != told[1]) == (a != b) or {a, b} == {0.0}
    told = mistakes.apart(a, np.nextafter(a, 0))
    assert told[0] != told[1] or a == 0


# --- what is not attempted, and what is not known ----------------------------------------------


def documented(x):
    """A stub with nothing but its docstring."""


def passing(x):
    pass


def half_done(x, *rest):
    rest = [x, *rest]
    ...


@pytest.mark.parametrize(
    "answer", [None, ..., lambda *a: None, lambda *a: ..., documented, passing]
)
@pytest.mark.parametrize("number", EXERCISES)
def test_a_stub_is_not_attempted(number, answer, said):
    assert said(number, answer).startswith("not attempted")


@pytest.mark.parametrize("number", EXERCISES)
def test_a_function_without_return_is_asked_for_it(number, said):
    assert "is `return` missing?" in said(number, half_done)


@pytest.mark.parametrize("number", ["14.9", "99.1", 14.1, "", None, [1]])
def test_an_unknown_exercise_is_an_error(number):
    with pytest.raises(ValueError, match="unknown exercise"):
        check(number, None)


def test_a_keyboard_interrupt_stops_the_check():
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("11.1", interrupted)


def test_a_check_that_fails_itself_says_what_was_returned(said, monkeypatch):
    def broken(answer):
        """A number."""
        answer(1)
        raise LookupError("a fault of the check")

    known = exercises.Exercise(broken, lambda x: x, {})
    monkeypatch.setitem(EXERCISES, "11.1", known)
    told = said("11.1", lambda x: "five")
    assert told.startswith("not yet: your function returned 'five'") and "A number." in told


def test_warnings_of_an_answer_are_not_shown(said, recwarn):
    assert said("11.1", lambda h: np.log(h - 1)).startswith("not yet: h = 0.5 gave nan, expected")
    assert len(recwarn) == 0


def test_the_message_of_an_error_stays_on_one_line(said):
    def failing(*_):
        raise RuntimeError("first\nsecond \ud800 third")

    assert "first second \\ud800 third" in said("11.1", failing)


@pytest.mark.parametrize(
    "value", [{}, "2.5", b"2", True, [True, False], [[1], [1, 2]], [None], {1}]
)
def test_what_are_no_numbers_is_not_converted(value):
    with pytest.raises(NotYet, match="your function returned .*, expected one number"):
        exercises.as_array(value, "one number")


@pytest.mark.parametrize("value", [2, [2.0], np.float16(2), Fraction(2), [2**70], torch.ones(3)])
def test_numbers_in_any_container_are_converted(value):
    assert exercises.as_array(value, "numbers").dtype.kind in "iuf"


def test_a_class_is_not_called(said):
    assert said("11.1", list).startswith("not yet: pass the function itself, not <class 'list'>")
