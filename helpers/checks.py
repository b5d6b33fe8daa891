"""The exercises' checks: `check("21.1", answer)` says correct, not yet and why, or not attempted.

The checks themselves stand in one module for each lesson: checks_00, and so on.
"""

from __future__ import annotations

import dis
import importlib
import importlib.util
import re
import warnings
from types import CodeType

import numpy as np

from helpers.exercises import EXERCISES, Answer, NotYet, show

NO_WORK = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}


def is_stub(answer: object) -> bool:
    """Whether an answer is None, `...`, or a function with nothing else in its body.

    >>> is_stub(lambda x: ...), is_stub(lambda x: print(x))
    (True, False)
    """
    code = getattr(answer, "__code__", None)
    if not isinstance(code, CodeType):
        return answer is None or answer is ...
    steps = list(dis.get_instructions(code))
    constants = [step.argval for step in steps if "CONST" in step.opname]
    return {step.opname for step in steps} <= NO_WORK and all(c in (None, ...) for c in constants)


def verdict(number: str, answer: object) -> str:
    """What check prints behind the number."""
    if is_stub(answer):
        return "not attempted: fill in the stub above, then run this cell again"
    reader = None
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            reader = Answer(answer, EXERCISES[number])
            EXERCISES[number].check(reader)
    except NotYet as hint:
        words = f"not yet: {hint}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what no check foresaw: an answer never ends in a traceback
        expected = EXERCISES[number].check.__doc__
        words = (
            f"not yet: your function returned {show(reader and reader.returned)}, which cannot be "
            f"compared ({type(error).__name__}). Expected: {expected}"
        )
    else:
        return "correct"
    if reader and reader.printed.getvalue():
        words += f" (it printed {show(reader.printed.getvalue())}, which is not shown here)"
    return words


def check(number: str, answer: object) -> None:
    """Print in one line whether `answer` solves exercise `number`, and if not, what differs.

    >>> check("11.1", lambda h: 1 - h**2)
    11.1 correct
    >>> check("11.1", lambda h: h * (1 - h))
    11.1 not yet: that is the slope of the sigmoid, from its output
    """
    if isinstance(number, str) and re.fullmatch(r"\d\d\.\d", number):
        module = f"helpers.checks_{number[:2]}"
        if importlib.util.find_spec(module):
            importlib.import_module(module)
    if not isinstance(number, str) or number not in EXERCISES:
        raise ValueError(
            f"unknown exercise {number!r}: use the number in its heading, such as "
            f"{', '.join(sorted(EXERCISES)) or '00.1'}"
        )
    line = " ".join(f"{number} {verdict(number, answer)}".split())
    print(line.encode("utf-8", "backslashreplace").decode())
