"""Comparing an answer with an exercise's solution, and knowing its mistake by what it returns.

Both are called in several cases. Where the results differ, the known mistake that gives the
answer's results says what the hint is; else the hint shows the first difference.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from helpers.exercises import Answer, Changed, NotYet, as_array, settings, show


def apart(got: float, expected: float) -> tuple[str, str]:
    """Two numbers as text, with as many digits as it takes to tell them apart.

    >>> apart(-0.99123456, -0.99123411)
    ('-0.991235', '-0.991234')
    """
    for digits in range(6, 18):
        texts = f"{got:.{digits}g}", f"{expected:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _parts(value: object, form: object, names: Sequence[str]) -> list[np.ndarray]:
    """The arrays in a result that should have the form of the solution's: one, or a tuple."""
    if not isinstance(form, tuple):
        shape = np.shape(form)
        return [as_array(value, f"an array of shape {shape}" if shape else "one number")]
    several = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim)
    if not several or len(value) != len(form):
        raise NotYet(f"return {len(form)} values ({', '.join(names)}), not {show(value)}")
    return [as_array(v, f"numbers as {name}") for v, name in zip(value, names, strict=True)]


def _results(run: Callable, cases: Sequence, forms: Sequence, names, function: Callable) -> list:
    """What a function returns in each case, as arrays, or the NotYet that says why it does not."""
    results = []
    for case, form in zip(cases, forms, strict=True):
        try:
            results.append(_parts(run(function, *case), form, names))
        except Changed:
            raise
        except NotYet as hint:
            results.append(hint)
        except Exception as error:  # a known mistake may fail in a case
            results.append(NotYet(f"the result cannot be used: {type(error).__name__}: {error}"))
    return results


def _equal(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where arrays of one shape agree: integers exactly, floats but for rounding in float32."""
    if expected.dtype.kind == "i":
        return got == expected
    return np.isclose(got.astype(float), expected, rtol=1e-4, atol=1e-6, equal_nan=True)


def _alike(got: np.ndarray, expected: np.ndarray) -> bool:
    return got.shape == expected.shape and bool(_equal(got, expected).all())


def difference(got: list, expected: list, case: tuple, names: Sequence, parts: Sequence) -> str:
    """What differs first between the parts of a result and the expected ones; "" if nothing does.

    >>> difference([np.array(2)], [np.array(3)], (1,), ["n"], ["the result"])
    'n=1: the result is 2, expected 3'
    """
    for part, mine, theirs in zip(parts, got, expected, strict=True):
        if mine.shape != theirs.shape:
            asked = f"the shape {theirs.shape}" if theirs.ndim else "one number"
            return f"{part} has the shape {mine.shape}, expected {asked}"
        wrong = np.argwhere(~_equal(mine, theirs))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            values = "{}, expected {}".format(*apart(mine[at], theirs[at]))
            if at and len(parts) == 1 and np.shape(case[0]) == theirs.shape:  # element by element
                rest = settings(names[1:], case[1:])
                return f"{names[0]} = {case[0][at]:g} gave {values}" + (
                    f" ({rest})" if rest else ""
                )
            where = settings(names, case)
            place = f"{part} at {list(at)}" if at else part
            return (f"{where}: " if where else "") + f"{place} is {values}"
    return ""


def wrong_type(got: list, expected: list, parts: Sequence) -> str:
    """Which part is of a type that was not asked for; "" if none is.

    float64 stands for any real numbers, int64 for any integers, another dtype for itself.

    >>> wrong_type([np.array(2.0)], [np.array(2)], ["n"])
    'n is right in value, but a float (float64): an int is asked for'
    """
    for part, mine, theirs in zip(parts, got, expected, strict=True):
        if theirs.dtype == int and mine.dtype.kind == "f":
            return f"{part} is right in value, but a float ({mine.dtype}): an int is asked for"
        if theirs.dtype not in (float, int, mine.dtype):
            return f"the values are right, but the dtype is {mine.dtype}, not {theirs.dtype}"
    return ""


def _known(mistakes: dict, results: Callable, got: list, expected: list) -> str:
    """The hint of the mistake that gives the answer's results; "" if none does.

    Best in all cases that gave a result; else in the first case that is wrong; else at least in
    the part that is wrong there.
    """
    given = [i for i, mine in enumerate(got) if not isinstance(mine, NotYet)]
    parts = range(len(expected[0]))
    wrong = [(i, p) for i in given for p in parts if not _alike(got[i][p], expected[i][p])]
    if not wrong:
        return ""
    (case, part), known = wrong[0], {hint: results(mistaken) for hint, mistaken in mistakes.items()}
    for cases, chosen in ((given, parts), ([case], parts), (given, [part]), ([case], [part])):
        for hint, theirs in known.items():
            if all(
                not isinstance(theirs[i], NotYet) and _alike(got[i][p], theirs[i][p])
                for i in cases
                for p in chosen
            ):
                return hint
    return ""


def _call(function: Callable, *case: object) -> object:
    return function(*case)


def compare(
    answer: Answer,
    cases: Sequence[tuple],
    parts: str = "the result",
    *,
    run: Callable = _call,
    judge: Callable = difference,
    advice: str = "",
) -> None:
    """NotYet with a hint, unless the answer does in every case what the exercise's solution does.

    A case is a tuple of arguments, and `parts` names what is returned: "scale, zero_point". What
    is compared is run(function, *case); what judge(got, expected, case, names, parts) says of it is
    the hint, followed by `advice`, unless the answer makes one of the exercise's known mistakes.
    """
    parts = parts.split(", ")
    names = answer.names if run is _call else list(inspect.signature(run).parameters)[1:]
    forms = [run(answer.exercise.solution, *case) for case in cases]
    expected = [_parts(form, form, parts) for form in forms]
    results = partial(_results, run, cases, forms, parts)
    got = results(answer)
    for mine, theirs, case in zip(got, expected, cases, strict=True):
        failed = isinstance(mine, NotYet)
        fault = str(mine) if failed else judge(mine, theirs, case, names, parts)
        if fault:
            hint = _known(answer.exercise.mistakes, results, got, expected)
            raise NotYet(hint or (f"{fault}: {advice}" if advice and not failed else fault))
    for mine, theirs in zip(got, expected, strict=True):
        fault = wrong_type(mine, theirs, parts)
        if fault:
            raise NotYet(fault)
