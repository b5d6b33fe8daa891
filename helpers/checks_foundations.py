"""Checks of the exercises of part 1."""

from __future__ import annotations

import numpy as np

from helpers.checks import NotYet, attempt, exercise


@exercise("14.1")
def _(balanced_accuracy) -> None:
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 3])
    answers = np.array([0, 0, 0, 1, 2, 1, 0, 3])
    result = attempt(balanced_accuracy, labels, answers)
    if np.ndim(result) != 0:
        raise NotYet(f"one number is asked for, not an array of shape {np.shape(result)}")
    recalls = [3 / 5, 1 / 2, 1]
    if np.isclose(result, np.mean(recalls)):
        return
    if np.isclose(result, 5 / 8):
        raise NotYet("that is the plain accuracy: average over the classes, not over the examples")
    if np.isclose(result, sum(recalls) / 4) or np.isnan(result):
        raise NotYet("class 2 never occurs among the labels: average the others without it")
    if np.isclose(result, [9 / 4 / 3, 9 / 4 / 4]).any():
        raise NotYet("that is the mean precision: divide by the row sums, not the column sums")
    raise NotYet(
        f"labels {labels.tolist()} and answers {answers.tolist()} gave {result:.4f}, expected 0.7"
    )


@exercise("14.2")
def _(images_needed) -> None:
    for p, h in ((0.9, 0.01), (0.5, 0.05), (0.98, 0.003)):
        result = attempt(images_needed, p, h)
        exact = 1.96**2 * p * (1 - p) / h**2
        if result == np.ceil(exact):
            continue
        if result in (np.floor(exact), round(exact)):
            raise NotYet(f"p={p}, h={h}: {result} images leave it a little too wide; round up")
        if np.isclose(result, exact):
            raise NotYet("the formula is right; images are whole, so round up")
        if np.isclose(result, p * (1 - p) / h**2, rtol=0.01, atol=1):
            raise NotYet("the factor 1.96 is missing: one standard deviation covers only 68%")
        if np.isclose(result, exact / 4, rtol=0.01, atol=1):
            raise NotYet("h is the half-width: the interval reaches from p - h to p + h")
        if np.isclose(result, np.sqrt(exact), rtol=0.01, atol=1):
            raise NotYet("n stands under a square root: square both sides when you solve for it")
        raise NotYet(f"p={p}, h={h}: you returned {result}, expected {int(np.ceil(exact))}")


@exercise("14.3")
def _(erase) -> None:
    import torch

    def draw(seed):
        return attempt(erase, x, torch.Generator().manual_seed(seed))

    x = torch.ones(64, 1, 28, 28)
    result = draw(0)
    if not torch.is_tensor(result) or result.shape != x.shape:
        raise NotYet(f"return a tensor of shape {tuple(x.shape)}, like the batch")
    if not bool((x == 1).all()):
        raise NotYet("the batch that was passed in has changed: work on a copy, x.clone()")
    if not torch.equal(result, draw(0)):
        raise NotYet("the same seed gave another result: pass generator=generator to every draw")
    erased = (result == 0)[:, 0]
    if bool(((result != 0) & (result != 1)).any()) or not bool(erased.any((1, 2)).all()):
        raise NotYet("the pixels of one square become 0, and all others stay as they are")
    boxes = set()
    for image in erased:
        rows, columns = (torch.unique(index).tolist() for index in image.nonzero(as_tuple=True))
        if len(rows) != 8 or len(columns) != 8 or int(image.sum()) != 64:
            raise NotYet(
                f"one image lost {int(image.sum())} pixels in {len(rows)} rows and {len(columns)} "
                "columns, not 8x8: the corner must lie in 0..20"
            )
        boxes.add((rows[0], columns[0]))
    if len(boxes) == 1:
        raise NotYet("every image lost the same square: draw one corner for each image")
    corners = np.array([box for seed in range(40) for box in _corners(draw(seed))])
    if corners.max(0).min() < 20 or corners.min(0).max() > 0:
        raise NotYet(
            f"the corners range over {corners.min(0)} to {corners.max(0)}, and 0..20 is possible: "
            "the upper end of torch.randint is not drawn"
        )
    if np.abs(np.corrcoef(corners.T)[0, 1]) > 0.5:
        raise NotYet("row and column are drawn together: draw two independent numbers")


def _corners(images) -> list[tuple[int, int]]:
    """The top-left corner of the zeros in each image [N, 1, H, W]."""
    return [tuple((image[0] == 0).nonzero().amin(0).tolist()) for image in images]


@exercise("13.1")
def _(forget_bias) -> None:
    for steps, kept in ((100, 0.5), (10, 0.9), (50, 0.1)):
        result = attempt(forget_bias, steps, kept)
        gate = kept ** (1 / steps)
        right = np.log(gate / (1 - gate))
        if np.ndim(result) != 0:
            raise NotYet(f"one number is asked for, not an array of shape {np.shape(result)}")
        if np.isclose(result, right, rtol=1e-3):
            continue
        if np.isclose(result, gate, rtol=1e-3):
            raise NotYet("that is the gate itself: which b has sigmoid(b) equal to it?")
        if np.isclose(result, 1 / (1 + np.exp(-gate)), rtol=1e-3):
            raise NotYet("you applied the sigmoid to the gate: it is the inverse that is asked for")
        if np.isclose(result, -right, rtol=1e-3):
            raise NotYet("the sign is wrong: log(f / (1 - f)), and an open gate has b > 0")
        if np.isclose(result, np.log(kept / (1 - kept)), rtol=1e-3, atol=1e-9):
            raise NotYet("this keeps the share in a single step: the gate acts `steps` times")
        if np.isclose(result, np.log(steps), rtol=0.02):
            raise NotYet("log(steps) is the rule of thumb: here the share `kept` matters too")
        raise NotYet(f"steps={steps}, kept={kept}: you returned {result:.4f}, expected {right:.4f}")


def _gru_reset_before(x, h, W_ih, W_hh, b, *, keep="z", order="rzn", reset="before"):
    """The GRU of exercise 13.2, and with other arguments the mistakes that its check knows."""

    def sigmoid(v):
        return 1 / (1 + np.exp(-v))

    inputs = dict(zip(order, np.split(x @ W_ih.T + b, 3, axis=1), strict=True))
    matrices = dict(zip(order, np.split(W_hh, 3), strict=True))
    r, z = (sigmoid(inputs[k] + h @ matrices[k].T) for k in "rz")
    if reset == "before":
        recurrent = (r * h) @ matrices["n"].T
    else:
        recurrent = h @ matrices["n"].T * (r if reset == "after" else 1)
    n = np.tanh(inputs["n"] + recurrent)
    return z * h + (1 - z) * n if keep == "z" else (1 - z) * h + z * n


@exercise("13.2")
def _(gru_reset_before) -> None:
    draw = np.random.default_rng(3)
    shapes = ((4, 2), (4, 3), (9, 2), (9, 3), (9,))
    given = [draw.standard_normal(shape) for shape in shapes]
    result = np.asarray(attempt(gru_reset_before, *[array.copy() for array in given]))
    if result.shape != (4, 3):
        raise NotYet(f"x [4, 2] and h [4, 3] gave the shape {result.shape}: expected (4, 3)")
    right = _gru_reset_before(*given)
    if np.allclose(result, right, atol=1e-5):
        return
    mistakes = (
        (dict(reset="after"), "that is the reset after the product, as in gru_cell: reset h first"),
        (dict(reset="none"), "the reset gate is missing: the candidate sees r * h, not h"),
        (dict(keep="1-z"), "z and 1 - z are swapped: z keeps the old state here"),
        (dict(order="zrn"), "the stack begins with r, then z: Keras's order is the other one"),
    )
    for options, hint in mistakes:
        if np.allclose(result, _gru_reset_before(*given, **options), atol=1e-5):
            raise NotYet(hint)
    if np.allclose(result, _gru_reset_before(*given[:4], 0 * given[4]), atol=1e-5):
        raise NotYet("the bias is missing: it belongs to all three gates")
    raise NotYet(
        f"the first new state is {result[0].round(3).tolist()}, "
        f"expected {right[0].round(3).tolist()}"
    )


@exercise("13.3")
def _(split_people) -> None:
    subjects = np.array([12, 12, 3, 40, 3, 12, 7, 40, 40, 7, 3, 25])
    drawn = set()
    for seed in range(30):
        held = 1 + seed % 3
        result = attempt(split_people, subjects.copy(), held, np.random.default_rng(seed))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise NotYet("return two arrays: the training rows and the test rows")
        training, testing = (np.asarray(rows) for rows in result)
        if training.dtype == bool or testing.dtype == bool:
            raise NotYet("row numbers are asked for, not masks: np.flatnonzero turns one into them")
        if training.dtype.kind not in "iu" or testing.dtype.kind not in "iu":
            raise NotYet(f"row numbers are whole: these arrays hold {training.dtype}")
        rows = sorted([*training.tolist(), *testing.tolist()])
        if rows and rows[-1] >= len(subjects):
            raise NotYet(f"row {rows[-1]} does not exist: return places, not names of people")
        people = set(subjects[testing].tolist())
        if people & set(subjects[training].tolist()):
            raise NotYet("one person stands in both parts: draw people, not windows")
        if rows != list(range(len(subjects))):
            raise NotYet("every window belongs to one of the two parts, once")
        if held == 1 and len(people) == len(set(subjects.tolist())) - 1:
            raise NotYet("the two parts are swapped: training first, then the people held out")
        if len(people) != held:
            raise NotYet(f"held={held}: {len(people)} people are in the test part")
        again = attempt(split_people, subjects.copy(), held, np.random.default_rng(seed))
        if not np.array_equal(np.sort(again[1]), np.sort(testing)):
            raise NotYet("the same seed gave another split: draw from the generator")
        drawn |= people
    if drawn != set(subjects.tolist()):
        raise NotYet(f"only {sorted(drawn)} were ever held out: draw from all the people")
