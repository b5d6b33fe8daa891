"""The exercises' checks: `check("21.1", answer)` says correct, not yet and why, or not attempted.

The checks themselves stand in one module for each part of the course: checks_start, and so on. Each
is a function of the answer, marked with @exercise, which raises NotYet with a hint.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

PARTS = {"0": "checks_start", "1": "checks_foundations", "2": "checks_compression"}
EXERCISES: dict[str, Callable] = {}


class NotYet(Exception):
    """The answer differs from what was asked; the message says how, and gives a hint."""


class NotAttempted(Exception):
    """The stub was not filled in."""


def exercise(number: str) -> Callable:
    """Register the decorated function as the check of exercise `number`, such as "21.1"."""

    def register(function: Callable) -> Callable:
        EXERCISES[number] = function
        return function

    return register


def attempt(answer: Callable, *arguments):
    """What the reader's function returns; a stub or an exception becomes the fitting message."""
    if not callable(answer):
        raise NotYet(f"pass the function itself, not {type(answer).__name__} {answer!r}")
    try:
        result = answer(*arguments)
    except Exception as error:
        raise NotYet(f"your function raised {type(error).__name__}: {error}") from error
    if result is None or result is ...:
        raise NotAttempted
    return result


def check(number: str, answer) -> None:
    """Print whether `answer` solves exercise `number`, and if not, what differs."""
    part = PARTS.get(number[:1]) if isinstance(number, str) else None
    if part:
        importlib.import_module(f"helpers.{part}")
    if number not in EXERCISES:
        raise ValueError(
            f"unknown exercise {number!r}: use the number in its heading, such as "
            f"{', '.join(sorted(EXERCISES)) or '00.1'}"
        )
    try:
        if answer is None or answer is ...:
            raise NotAttempted
        EXERCISES[number](answer)
    except NotAttempted:
        print(f"{number} not attempted: fill in the stub above, then run this cell again")
    except NotYet as hint:
        print(f"{number} not yet: {hint}")
    else:
        print(f"{number} correct")
