"""Exercises: their checks, solutions and known mistakes, and a reader's answer to one.

Whatever a reader's function does, it ends in a result or in a NotYet that says what is wrong.
"""

from __future__ import annotations

import copy
import inspect
import io
import numbers
import reprlib
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np


class NotYet(Exception):
    """The answer differs from what was asked; the message says how, and gives a hint."""


class Changed(NotYet):
    """The answer works on the caller's arrays; this is told before anything else is."""


@dataclass(frozen=True)
class Exercise:
    """A check, the solution that it compares with, and {hint: a function with that mistake}."""

    check: Callable[[Answer], None]
    solution: Callable
    mistakes: dict[str, Callable]


EXERCISES: dict[str, Exercise] = {}


def altered(function: Callable, **changes: object) -> Callable:
    """The function with some of its arguments replaced, whatever it is called with.

    >>> altered(lambda x, y, *, power=1: (x + y) ** power, y=0, power=2)(3, 100)
    9
    """
    names = list(inspect.signature(function).parameters)

    def mistaken(*arguments):
        return function(**dict(zip(names, arguments, strict=False)) | changes)

    return mistaken


def exercise(number: str, solution: Callable, mistakes: dict[str, Callable | dict]) -> Callable:
    """Register the decorated function as the check of exercise `number`, such as "21.1".

    A mistake is a function, or what is changed about the arguments and options of the solution.
    The check's docstring says in words what the reader's function returns.
    """
    known = {h: m if callable(m) else altered(solution, **m) for h, m in mistakes.items()}

    def register(check: Callable[[Answer], None]) -> Callable[[Answer], None]:
        EXERCISES[number] = Exercise(check, solution, known)
        return check

    return register


def show(value: object) -> str:
    """Any value in one short line, also where its own repr is long or fails.

    >>> show([1] * 100)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    short = reprlib.Repr()
    short.maxstring = short.maxother = 60
    try:
        return " ".join(short.repr(value).split())
    except Exception:
        return f"something of type {type(value).__name__}"


def settings(names: Sequence[str], arguments: Sequence[object]) -> str:
    """Arguments in words, without the long ones.

    >>> settings(["low", "high", "x"], [-1.0, 3.5, np.zeros(100)])
    'low=-1, high=3.5'
    """
    texts = []
    for name, value in zip(names, arguments, strict=False):
        if isinstance(value, numbers.Number):
            texts.append(f"{name}={value:g}")
        elif isinstance(value, np.ndarray):
            texts.append(f"{name}={value.tolist()}")
    return ", ".join(text for text in texts if len(text) < 50)


def _numpy(value: object) -> np.ndarray:
    """A torch tensor (also one with a gradient) or anything else as a new array."""
    torch = sys.modules.get("torch")  # who returns a tensor has imported it
    if torch and isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.array(value)


def as_array(value: object, asked: str) -> np.ndarray:
    """Numbers in any container as an array of integers or floats; NotYet names what is `asked`.

    >>> as_array((1, 2.5), "an array")
    array([1. , 2.5])
    >>> as_array("2.5", "one number")
    Traceback (most recent call last):
    helpers.exercises.NotYet: your function returned '2.5', expected one number
    """
    try:
        array = _numpy(value)
        if array.dtype == object and all(isinstance(v, numbers.Number) for v in array.flat):
            array = array.astype(float)  # such as Fraction, or an int of more than 64 bits
    except Exception:  # rows of different lengths, a sparse tensor, an int beyond every float
        array = np.array(None)
    if array.dtype.kind == "c":
        raise NotYet("the result is complex: take the real part")
    if array.dtype.kind not in "iuf":
        raise NotYet(f"your function returned {show(value)}, expected {asked}")
    return array


class Answer:
    """A reader's function, called with copies of the arguments that it is given.

    NotYet if it is no function, raises, changes an argument (other than a dict or a generator) or
    returns None. What it prints goes to `printed`; what it returned last is in `returned`.
    """

    def __init__(self, function: object, exercise: Exercise):
        if not callable(function) or isinstance(function, type):
            raise NotYet(f"pass the function itself, not {show(function)}")
        self.function, self.exercise = function, exercise
        self.names = list(inspect.signature(exercise.solution).parameters)
        self.returned, self.printed = None, io.StringIO()

    def __call__(self, *arguments: object) -> object:
        given = [copy.deepcopy(a) if hasattr(a, "shape") else a for a in arguments]
        try:
            with redirect_stdout(self.printed):
                self.returned = self.function(*given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit, too: exit() in an answer ends no notebook
            where = settings(self.names, arguments)
            raise NotYet(
                (f"called with {where}, " if where else "")
                + f"your function raised {type(error).__name__}: {error}"
            ) from error
        for name, before, after in zip(self.names, arguments, given, strict=False):
            if hasattr(before, "shape") and not np.array_equal(
                _numpy(before), _numpy(after), equal_nan=True
            ):
                raise Changed(
                    f"your function changed {name}, so the caller's {name} has changed, too: "
                    "work on a copy"
                )
        if inspect.iscoroutine(self.returned):
            self.returned.close()  # or Python warns later that nobody awaited it
        if self.returned is None:
            raise NotYet("your function returned None: is `return` missing?")
        return self.returned
